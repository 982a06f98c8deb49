"""Three stacks a region; references go observability -> pipeline -> data."""
