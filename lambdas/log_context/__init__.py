"""Function that captures what logs are judged by, and looks for log files that are missing."""
