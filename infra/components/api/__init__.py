"""Entry point of the API's function: an HTTP API or a function URL."""
