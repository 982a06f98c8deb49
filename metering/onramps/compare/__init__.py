"""Bills of AWS beside what was metered: CUR 2.0, the older CUR, and FOCUS, as CSV or Parquet."""
