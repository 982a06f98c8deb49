"""Number of examples that a property test tries."""

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.conftest import ALL_CASES

# The gate tries one in this many of the examples of a property.
_EACH = 4
_LEAST = 20


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try `count` examples of a property in `make long` and against seeded bugs; in the gate a quarter, at least 20."""
    tried = settings(max_examples=count if os.environ.get(ALL_CASES) else max(_LEAST, count // _EACH))
    return lambda test: pytest.mark.examples(tried(test))
