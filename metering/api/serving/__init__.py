"""The API on this machine: `metering serve`."""
