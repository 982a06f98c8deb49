"""What the services of an emulator are asked for, counted at the emulator itself by AWS's billing rules."""
