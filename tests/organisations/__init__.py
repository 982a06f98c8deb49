"""Five usual organisations' policies, held against what templates and commands ask of AWS."""
