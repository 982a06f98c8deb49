"""Function that answers the requests of the HTTP API."""
