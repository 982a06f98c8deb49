"""Three stacks per region, and a fourth in the home region. References go observability -> pipeline -> data."""
