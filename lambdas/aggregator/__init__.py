"""Function that meters the messages of the ingest queue."""
