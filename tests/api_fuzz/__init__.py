"""The API against its own document, by schemathesis: `make api-fuzz`."""
