"""Parts of the on-ramps for commands."""
