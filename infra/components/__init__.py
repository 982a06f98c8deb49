"""Resources with narrow `grant_*` methods. Stacks connect them."""
