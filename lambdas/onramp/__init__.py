"""Function that meters log files when they are written."""
