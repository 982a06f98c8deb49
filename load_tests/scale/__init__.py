"""Jobs at their own scale: each production job over a computed region, measured and projected to the target."""
