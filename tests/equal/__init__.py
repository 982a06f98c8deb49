"""Two revisions answer alike: each one's output, messages and stored data, byte by byte."""
