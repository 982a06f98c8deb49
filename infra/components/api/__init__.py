"""Front of the API's function."""
