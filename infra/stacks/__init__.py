"""Three stacks per region, and a fourth in the home region. Stack references go observability -> pipeline -> data."""
