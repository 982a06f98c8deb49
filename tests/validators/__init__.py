"""Third-party validators of exports, in a separate environment; see the package's `__main__`."""
