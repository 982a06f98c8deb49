"""Ingest: a log file becomes a plan, parts and batch messages, each put once."""
