"""A stage under load on an emulator, sampled from outside."""
