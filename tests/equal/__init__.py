"""Two revisions produce the same output, messages and stored data, byte by byte."""
