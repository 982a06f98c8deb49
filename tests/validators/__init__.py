"""Validators of exports that nobody here wrote, in an environment of their own; see the package's `__main__`."""
