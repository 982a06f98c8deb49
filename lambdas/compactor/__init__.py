"""Function that compacts the lake and removes superfluous objects."""
