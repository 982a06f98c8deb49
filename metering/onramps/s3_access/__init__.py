"""S3 server access logs: the only log of what leaves a bucket."""
