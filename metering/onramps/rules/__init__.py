"""Rules that turn subjects of logs into traffic of the contract."""
