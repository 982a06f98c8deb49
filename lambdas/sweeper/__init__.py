"""Function that finishes wide commits that their workers left open."""
