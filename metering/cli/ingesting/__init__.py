"""What `metering ingest` is made of: what a person chose, and a run over the files with its progress."""
