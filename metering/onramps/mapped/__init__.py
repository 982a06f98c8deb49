"""Any other log, NDJSON or CSV, by a small file that says what its columns mean."""
