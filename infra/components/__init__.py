"""Resources with narrow `grant_*` methods; stacks only wire them."""
