"""Values of stored items, read strictly: what is not what it must be names its item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError

if TYPE_CHECKING:
    from metering.domain.items import Item


def whole(item: Item, name: str, *, absent: int | None = None) -> int:
    """A whole number; `absent` is what a missing one means, if it may be missing.

    Raises:
        LedgerCorruptError: It is none.
    """
    value = item.get(name)
    if value is None and absent is not None:
        return absent
    if not isinstance(value, int) or isinstance(value, bool):
        raise LedgerCorruptError(f"{item['pk']} / {item['sk']}: {name} is {value!r}, and should be a whole number")
    return value


def rows(item: Item, name: str, columns: int) -> list[list[int]]:
    """A list of rows of so many whole numbers.

    Raises:
        LedgerCorruptError: It is none.
    """
    value = item.get(name)
    found = [row for row in value if _is_row(row, columns)] if isinstance(value, list) else None
    if found is None or not isinstance(value, list) or len(found) != len(value):
        raise LedgerCorruptError(f"{item['pk']} / {item['sk']}: {name} is no list of {columns} whole numbers each")
    return [[int(str(number)) for number in row] for row in found if isinstance(row, list)]


def _is_row(row: object, columns: int) -> bool:
    return isinstance(row, list) and len(row) == columns and all(type(number) is int for number in row)
