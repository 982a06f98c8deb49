"""A loaded stage on an emulator, sampled from outside."""
