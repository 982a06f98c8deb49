"""Reads usage items by name: numbers are looked up in the accounts' dictionaries."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING

from metering.hours import month_bounds_s, parse_hour
from metering.ledger.usage import kinds
from metering.ledger.usage.items import (
    REVISION,
    UsageItem,
    check_revised,
    is_counted,
    is_region_item,
    is_usage_item,
    sk_range,
    usage_partition,
)
from metering.stores import codec
from metering.stores.writes import Item, ItemStore, Table
from metering.units import HOUR_S
from metering.usage.totals import Total, UsageKey, UsageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.ledger.runs import Contradictions

# If an item's key has no hour, the item may be in the range, so readers must be given it.
_HOUR = re.compile(r"\d{4}-\d\d-\d\dT\d\d#")


class UsageReading:
    """Reads the usage table.

    This is a plain class, because it caches the accounts' dictionaries across reads.
    """

    def __init__(self, items: ItemStore, names: kinds.KindNames | None = None) -> None:
        self.items = items
        self.names = kinds.KindNames(items) if names is None else names

    def of_month(
        self, account_id: str, month: str, *, from_s: int | None = None, to_s: int | None = None
    ) -> Iterator[UsageItem]:
        """Usage items of an account in one month, in order, or only of the hours in `[from_s, to_s)`.

        Raises:
            LedgerCorruptError: An item cannot be read, or was changed manually.
        """
        return map(_sound, self.stored(account_id, month, from_s=from_s, to_s=to_s))

    def stored(
        self, account_id: str, month: str, *, from_s: int | None = None, to_s: int | None = None
    ) -> Iterator[Item]:
        """Usage items as stored in the table, for callers that only sum the items (`folding`)."""
        first_s, end_s = month_bounds_s(month)
        pk = usage_partition(account_id, month)
        if (from_s is None or from_s <= first_s) and (to_s is None or to_s >= end_s):
            return self.items.query(Table.USAGE, pk)
        low_s = first_s if from_s is None else max(from_s, first_s)
        high_s = end_s if to_s is None else min(to_s, end_s)
        if low_s >= high_s:
            return iter(())
        low, high = sk_range(low_s - low_s % HOUR_S, -(-high_s // HOUR_S) * HOUR_S)
        return self.items.query(Table.USAGE, pk, sk_from=low, sk_to=high)

    def found(
        self, account_id: str, month: str, contradictions: Contradictions, *, from_s: int, to_s: int
    ) -> Iterator[UsageItem]:
        """Items of an account in hours of one month, for comparison and repair: unknown attributes are kept in `odd`.

        Args:
            account_id: Id of the account.
            month: The month, such as `2026-11`.
            contradictions: Receives items whose key cannot be read.
            from_s: In the first hour.
            to_s: End of the last hour, or a time within that hour.
        """
        return _as_found(self.stored(account_id, month, from_s=from_s, to_s=to_s), contradictions)

    def scan(
        self,
        contradictions: Contradictions,
        *,
        part: int = 0,
        parts: int = 1,
        from_s: int | None = None,
        to_s: int | None = None,
    ) -> Iterator[UsageItem]:
        """All items of accounts and the region, or one part of the scan, parsed as by `found`, in no order.

        Items of hours outside `[from_s, to_s)` are skipped at little cost.
        """
        stored = self.items.scan(Table.USAGE, part=part, parts=parts)
        found = (item for item in stored if is_usage_item(item) or is_region_item(item))
        if from_s is not None and to_s is not None:
            low, high = sk_range(from_s - from_s % HOUR_S, -(-to_s // HOUR_S) * HOUR_S)
            found = (item for item in found if low <= (sk := str(item["sk"])) < high or not _HOUR.match(sk))
        return _as_found(found, contradictions)

    def scanned(self) -> Iterator[Item]:
        """Items of accounts as stored in the table."""
        return filter(is_usage_item, self.items.scan(Table.USAGE))

    def totals(self, item: UsageItem, contradictions: Contradictions | None = None) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of an item by usage key, omitting totals that a repair set to zero.

        Args:
            item: The item.
            contradictions: Receives the numbers that the dictionary lacks; totals of these numbers are left out.

        Raises:
            LedgerCorruptError: The dictionary lacks a number of the item.
        """
        known = self.names.of(item.account_id)
        for number, total in item.totals.items():
            if is_counted(total):
                kind = known.get(number) if isinstance(number, int) else number
                kind = kind or self._kind(item.account_id, number, contradictions)
                if kind is not None:
                    yield item.usage_key(kind), total

    def _kind(
        self, account_id: str, number: int | UsageKind, contradictions: Contradictions | None
    ) -> UsageKind | None:
        """The kind of an unknown number, read again; if still unknown, a contradiction is noted, and None returned."""
        if isinstance(number, UsageKind) or contradictions is None:
            return number if isinstance(number, UsageKind) else self.names.kind(account_id, number)
        with contradictions.noted():
            return self.names.kind(account_id, number)
        return None


def _sound(item: Item) -> UsageItem:
    check_revised(item)
    return UsageItem.from_item(item)


def _as_found(items: Iterable[Item], contradictions: Contradictions) -> Iterator[UsageItem]:
    for item in items:
        with contradictions.noted():
            yield UsageItem.as_found(item)


# Sums usage items by kind number while they are read. Names are looked up once, for the finished sums.
#
# One month of an account has about 720 items with two figures per kind, and a report on it has a few lines. So figures
# are summed by attribute name, and converted to totals after all items are read.


_KEYS = frozenset({"pk", "sk"})
# Attributes that are not figures, so that sums of them are meaningless.
_HEADS = (REVISION, "n")


class Grain(Enum):
    """Resolution of sums in time: the number of characters of an hour's label to group by."""

    MONTH = len("2026-11")
    DAY = len("2026-11-24")
    HOUR = len("2026-11-24T13")


class Fold:
    """Sums of usage items: one sum per account, bucket, corrected hour, and hour, day or month. Mutable.

    Args:
        grain: What becomes one.
        counts: Returns whether to sum an item, given its booked hour and the hour that it corrects.
    """

    def __init__(self, grain: Grain, counts: Callable[[int, int | None], bool]) -> None:
        self._chars = grain.value
        self._counts = counts
        self._sums: dict[tuple[str, str, str], tuple[Item, dict[str, int]]] = {}

    def add(self, items: Iterable[Item]) -> None:
        """Add the items for which `counts` returns True.

        Raises:
            LedgerCorruptError: An item cannot be read.
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
        """Yield each sum as an item of its first hour, without revision and runs.

        Raises:
            LedgerCorruptError: An item has an attribute that no usage item has.
        """
        for item, figures in self._sums.values():
            counted = {name: value for name, value in figures.items() if not name.startswith(_HEADS)}
            yield UsageItem.from_item({"pk": item["pk"], "sk": item["sk"], **counted})

    def _figures(self, item: Item) -> dict[str, int] | None:
        sk = str(item.get("sk"))
        hour, _, rest = sk.partition("#")
        corrects, _, _ = rest.partition("#")
        try:
            counts = self._counts(parse_hour(hour), parse_hour(corrects) if corrects else None)
        except ValueError:
            codec.Fields.of_item(item).fail("sk", "the key of a usage item")
        if not counts:
            return None
        key = (str(item.get("pk")), hour[: self._chars], rest)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = (item, {})
        return found[1]
