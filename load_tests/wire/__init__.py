"""Requests to an emulator's services, counted inside the emulator by AWS's billing rules."""
