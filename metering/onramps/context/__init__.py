"""Context: what the owner of logs knows beside them, kept in versions that never change."""
