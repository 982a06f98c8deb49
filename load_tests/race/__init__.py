"""The same traffic through this service and through a pipeline built from AWS's documentation."""
