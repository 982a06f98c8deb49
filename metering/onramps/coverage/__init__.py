"""What should have come from a log source, and what did."""
