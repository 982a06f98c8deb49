"""Function that sends a known batch and looks for it."""
