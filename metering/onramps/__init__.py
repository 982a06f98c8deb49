"""On-ramps: logs that AWS users already have become records of the contract, each log file once."""
