"""Requests to the services of an emulator, counted in the emulator by AWS's billing rules."""
