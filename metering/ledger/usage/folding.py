"""Adds up usage items while they are read, by number. Names are looked up once, for the sums.

A month of an account has some 720 items with two figures a kind, and a report on it has a few lines. So figures are
added under the names that they have in the items, and become totals when all are read.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from metering.hours import parse_hour
from metering.ledger.usage.items import REVISION, UsageItem, check_revised
from metering.stores.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.stores.writes import Item

_KEYS = frozenset({"pk", "sk"})
# Attributes that are no figure: what they are summed to says nothing.
_HEADS = (REVISION, "n")


class Grain(Enum):
    """How finely sums tell booked hours apart: so many characters of an hour's label."""

    MONTH = len("2026-11")
    DAY = len("2026-11-24")
    HOUR = len("2026-11-24T13")


class Fold:
    """Sums of usage items: those of one account, bucket, corrected hour, and hour, day or month become one. Mutable.

    Args:
        grain: What becomes one.
        counts: Whether an item counts, by its booked hour and the hour that it corrects.
    """

    def __init__(self, grain: Grain, counts: Callable[[int, int | None], bool]) -> None:
        self._chars = grain.value
        self._counts = counts
        self._sums: dict[tuple[str, str, str], tuple[Item, dict[str, int]]] = {}

    def add(self, items: Iterable[Item]) -> None:
        """Add those of the items that count.

        Raises:
            LedgerCorruptError: An item cannot be read.
            UnavailableError: The table gives no answer.
        """
        for item in items:
            figures = self._figures(item)
            if figures is None:
                continue
            get = figures.get
            for name, value in item.items():
                # Not isinstance: True is an int.
                if type(value) is int:
                    figures[name] = get(name, 0) + value
                elif name not in _KEYS:
                    UsageItem.from_item(item)
            check_revised(item)

    def items(self) -> Iterator[UsageItem]:
        """The sums, each as an item of the first hour that it sums; they have no revision and no runs.

        Raises:
            LedgerCorruptError: An item has an attribute that no usage item has.
        """
        for item, figures in self._sums.values():
            counted = {name: value for name, value in figures.items() if not name.startswith(_HEADS)}
            yield UsageItem.from_item({"pk": item["pk"], "sk": item["sk"], **counted})

    def _figures(self, item: Item) -> dict[str, int] | None:
        """The sum that an item adds to; None if it does not count."""
        sk = str(item.get("sk"))
        hour, _, rest = sk.partition("#")
        corrects, _, _ = rest.partition("#")
        try:
            counts = self._counts(parse_hour(hour), parse_hour(corrects) if corrects else None)
        except ValueError:
            Fields.of_item(item).fail("sk", "the key of a usage item")
        if not counts:
            return None
        key = (str(item.get("pk")), hour[: self._chars], rest)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = (item, {})
        return found[1]
