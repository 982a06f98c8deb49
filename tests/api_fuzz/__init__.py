"""Tests, by schemathesis, of the API against its own document: `make api-fuzz`."""
