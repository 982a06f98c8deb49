"""Usage beside a bill of AWS."""
