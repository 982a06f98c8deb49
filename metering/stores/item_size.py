"""Size of an item by DynamoDB's rule. Items that grow with the input must stay below its limits.

From the developer guide, "Item sizes and formats": names and texts by their UTF-8 bytes; a number one byte for two
significant digits and one more; a truth value one; a list or map three, and one more for each element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.writes import Foreign

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


def item_bytes(item: Item) -> int:
    """Size of an item."""
    return sum(_text_bytes(name) + value_bytes(value) for name, value in item.items())


def value_bytes(value: Value) -> int:
    """Size of one value."""
    if isinstance(value, str | Foreign):
        return _text_bytes(str(value))
    if isinstance(value, bool):
        return 1
    if isinstance(value, int):
        return _number_bytes(value)
    if isinstance(value, frozenset):
        return sum(map(_text_bytes, value))
    if isinstance(value, list):
        return 3 + sum(1 + value_bytes(element) for element in value)
    return 3 + sum(1 + _text_bytes(name) + value_bytes(element) for name, element in value.items())


def _text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _number_bytes(value: int) -> int:
    digits = len(str(abs(value)).rstrip("0"))
    # The guide says "approximately": a negative number takes a byte more.
    return (digits + 1) // 2 + 1 + (value < 0)
