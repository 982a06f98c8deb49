"""Whole networks: traffic journey by journey, its truth, and the log files that AWS would write about it."""
