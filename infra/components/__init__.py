"""Resources whose `grant_*` methods give narrow permissions. Stacks connect them."""
