"""What only a conformance test asks of AWS."""
