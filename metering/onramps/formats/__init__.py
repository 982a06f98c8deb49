"""Readers of log files, one a format. Only this folder of the room, `ingest` and `compare` know Arrow."""
