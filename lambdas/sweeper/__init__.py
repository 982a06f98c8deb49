"""The function that finishes wide commits which their workers left open."""
