"""Transit gateway flow logs: what gateways processed, as a second record of bytes that interfaces have logged, too."""
