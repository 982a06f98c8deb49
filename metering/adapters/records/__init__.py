"""From a message body to a decoded batch, and from rows to staging objects: msgspec, Parquet, gzip and zstd."""
