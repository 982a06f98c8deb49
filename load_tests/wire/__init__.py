"""Requests to an emulator's services, counted inside the emulator according to AWS's billing rules."""
