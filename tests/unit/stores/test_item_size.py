"""Sizes of items by the rule of DynamoDB's developer guide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.stores.items import item_bytes, value_bytes

if TYPE_CHECKING:
    from metering.stores.writes import Value


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("\u20ac", 3),
        (True, 1),
        (0, 1),
        (7, 2),
        (1_000_000, 2),
        (12_345, 4),
        (-12_345, 5),
        (10**38 - 1, 20),
        (frozenset({"ab", "c"}), 3),
        ([], 3),
        (["a", "bc"], 8),
        ({}, 3),
        ({"k": "v", "n": [1]}, 3 + 3 + 2 + 3 + 1 + 2),
    ],
    # By place: the text of a set has no order, and workers of one run must agree on names.
    ids=[f"value{number}" for number in range(15)],
)
def test_a_value_weighs_what_the_guide_says(value: Value, size: int) -> None:
    assert value_bytes(value) == size


def test_names_count() -> None:
    assert item_bytes({"pk": "B#1", "sk": "M", "\u20ac": 7}) == (2 + 3) + (2 + 1) + (3 + 2)
