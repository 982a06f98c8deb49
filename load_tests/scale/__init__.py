"""Jobs at their own size: each production job over a region that is computed, measured and projected to the target."""
