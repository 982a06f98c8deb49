"""The function that compares markers, usage and lake, and derives the sources."""
