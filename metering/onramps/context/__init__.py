"""Context: inventory and other facts that log files lack, stored in immutable versions."""
