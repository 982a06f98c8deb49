"""Checks that AWS behaves here as the service relies on, beyond what emulators show."""
