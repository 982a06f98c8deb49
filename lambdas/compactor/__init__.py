"""The function that compacts, and cleans up behind itself."""
