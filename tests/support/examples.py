"""Number of examples of a property test."""

import os

from hypothesis import settings

from tests.conftest import ALL_CASES

# The gate tries one in this many of a property's examples.
_EACH = 4
_LEAST = 20


def examples(count: int) -> settings:
    """Examples of a property: `count` in `make long` and against seeded bugs, a quarter but at least 20 in the gate."""
    return settings(max_examples=count if os.environ.get(ALL_CASES) else max(_LEAST, count // _EACH))
