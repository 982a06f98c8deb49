"""What stands before the function of the API."""
