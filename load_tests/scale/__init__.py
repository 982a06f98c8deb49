"""Scale benchmark: each production job over a computed region, with time and memory projected to the target."""
