"""The API tested against its own document, by schemathesis: `make api-fuzz`."""
