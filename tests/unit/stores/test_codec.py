"""Forms of fields with equal values stay apart."""

from typing import Annotated, get_args

import pytest

from metering.stores.codec import Added, Unwritten


@pytest.mark.parametrize("value", ["", 0, None, ()])
def test_an_added_field_and_an_unwritten_one_are_not_the_same(value: object) -> None:
    # Python caches `Annotated[…]` by equality (3.11.2 does): the first of two equal notes would be in both annotations.
    assert len({Added(value), Unwritten(value)}) == 2
    notes = [get_args(Annotated[str, note])[1] for note in (Added(value), Unwritten(value))]
    assert list(map(type, notes)) == [Added, Unwritten]
