"""Answers to questions, for the command line, the HTTP API and Python programs alike."""
