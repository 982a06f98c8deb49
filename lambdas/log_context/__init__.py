"""Function that captures the context of logs, and looks for missing log files."""
