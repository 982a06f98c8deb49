"""Function that compares markers, usage and lake, and derives the state of the sources."""
