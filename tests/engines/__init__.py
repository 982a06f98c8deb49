"""The lake read by engines that know nothing of the service: `make engines`."""
