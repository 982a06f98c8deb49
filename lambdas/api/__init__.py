"""Function that answers the HTTP API of its region."""
