"""Answers to queries from the command line, the HTTP API and Python programs."""
