"""Third-party validators of exports, in an environment of their own; see the package's `__main__`."""
