"""On-ramps convert logs that AWS users already have to records of the contract, each log file once."""
