"""Exports that the product makes of the sample, for validators that nobody here wrote."""
