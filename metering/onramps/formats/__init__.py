"""Readers of log files, one per format. Within `onramps`, only this folder, `ingest` and `bill` use Arrow."""
