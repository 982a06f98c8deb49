"""The lake read by independent engines: `make engines`."""
