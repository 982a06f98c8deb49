"""Readers of log files, one per format. In this room, only this folder, `ingest` and `compare` use Arrow."""
