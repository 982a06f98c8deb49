"""What a deployed stage on an emulator does while it is loaded, sampled from outside."""
