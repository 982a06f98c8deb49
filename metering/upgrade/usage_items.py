"""Usage items of format 1: the usage of one key on one day, hour by hour.

| pk                    | sk                                                                        |
|-----------------------|---------------------------------------------------------------------------|
| `A#<account>#<month>` | `<day>#<usage type>#<service>#<from>#<to>#<corrects>#<suffix>`            |

Each booked hour of the day has attributes of its own: of 13:00 `b13` has the bytes, `r13` the records, `v13` the
revision, to which every write added 1. Suffixes kept commits that ran side by side off one another's items: their items
are summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.hours import parse_hour
from metering.stores.fields import Fields
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item

_HOURS = tuple((hour * HOUR_S, f"b{hour:02d}", f"r{hour:02d}", f"v{hour:02d}") for hour in range(24))


class OldUsage(NamedTuple):
    """What format 1 counted of a usage key, over all suffixes. `revisions` only grows."""

    total: Total
    revisions: int


def usage_before(items: ItemStore, account_id: str, month: str) -> dict[UsageKey, OldUsage]:
    """Usage of an account in a month by format 1, also of keys whose total is zero.

    Raises:
        LedgerCorruptError: An item cannot be read.
        UnavailableError: The table gives no answer.
    """
    found: dict[UsageKey, OldUsage] = {}
    for item in items.query(Table.USAGE_BEFORE, f"A#{account_id}#{month}"):
        for key, counted in _entries(item):
            before = found.get(key)
            found[key] = (
                counted
                if before is None
                else OldUsage(before.total.plus(counted.total), before.revisions + counted.revisions)
            )
    return found


def partitions_before(items: ItemStore) -> tuple[dict[str, set[str]], int]:
    """Months of each account that format 1 has usage of, and the sum of all revisions, which each write makes larger.

    Raises:
        LedgerCorruptError: An item cannot be read.
        UnavailableError: The table gives no answer.
    """
    months: dict[str, set[str]] = {}
    revisions = 0
    for item in items.scan(Table.USAGE_BEFORE):
        try:
            _, account_id, month = str(item["pk"]).split("#")
        except ValueError:
            Fields.of_item(item).fail("pk", "an account and a month")
        months.setdefault(account_id, set()).add(month)
        revisions += sum(_count(item, revision) for *_, revision in _HOURS)
    return months, revisions


def usage_add_before(hours: Mapping[int, Total]) -> dict[str, int]:
    """Numbers that a chunk adds to a usage item of format 1 to count these booked hours, all of one day."""
    add: dict[str, int] = {}
    for hour_s, total in hours.items():
        _, size, records, revision = _HOURS[hour_s // HOUR_S % len(_HOURS)]
        add |= {size: total.bytes, records: total.records, revision: 1}
    return add


def _entries(item: Item) -> Iterator[tuple[UsageKey, OldUsage]]:
    first = _parse_key(item)
    # What was added by hand outside the hours counts in the first hour, as format 1 had it.
    by_hand = Total(_count(item, "bytes"), _count(item, "records"))
    for offset_s, size, records, revision in _HOURS:
        if size not in item and records not in item:
            continue
        total = Total(_count(item, size), _count(item, records)).plus(by_hand)
        yield first._replace(hour_s=first.hour_s + offset_s), OldUsage(total, _count(item, revision))
        by_hand = ZERO


def _parse_key(item: Item) -> UsageKey:
    try:
        day, usage_type, service, from_location, to_location, corrects, suffix = str(item["sk"]).split("#")
        _, account_id, month = str(item["pk"]).split("#")
        corrects_s = parse_hour(corrects) if corrects else None
        key = UsageKey(parse_hour(f"{day}T00"), account_id, usage_type, service, from_location, to_location, corrects_s)
    except ValueError:
        Fields.of_item(item).fail("sk", "the key of a usage item of format 1")
    if not (all(key.kind) and suffix.isascii() and suffix.isdecimal() and day.startswith(month)):
        Fields.of_item(item).fail("sk", "the key of a usage item of format 1")
    return key


def _count(item: Item, name: str) -> int:
    value = item.get(name, 0)
    # Not isinstance: True is an int.
    if type(value) is not int:
        Fields.of_item(item).fail(name, "a whole number")
    return value
