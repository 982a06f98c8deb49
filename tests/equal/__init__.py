"""Two revisions give the same output, messages and stored data, byte by byte."""
