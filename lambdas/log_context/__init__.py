"""Function that captures the context of logs, and detects missing log files."""
