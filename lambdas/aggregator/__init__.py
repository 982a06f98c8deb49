"""The function that the ingest queue drives."""
