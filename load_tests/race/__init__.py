"""The same traffic through this service and through what AWS's documentation would have a user build."""
