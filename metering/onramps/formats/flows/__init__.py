"""Readers of VPC flow logs: text and Parquet, all versions, any custom format."""
