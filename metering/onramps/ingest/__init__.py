"""Ingest: converts a log file to a plan, parts and batch messages, each put once."""
