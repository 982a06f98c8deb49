"""Items of the usage table: the usage of one key on one day, hour by hour.

| pk                    | sk                                                                        |
|-----------------------|---------------------------------------------------------------------------|
| `A#<account>#<month>` | `<day>#<usage type>#<service>#<from>#<to>#<corrects>#<suffix>`            |

Each booked hour of the day has attributes of its own: of 13:00 `b13` has the bytes, `r13` the records, `v13` the
revision, to which every write adds 1 (docs/decisions/0014-usage-items.md).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import date_of, hour_label, month_of, parse_hour
from metering.stores.fields import Fields
from metering.stores.writes import Item, Key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A report reads very many hours of few different totals.
_REMEMBERED_FIELDS = 16_384


class UsageNames(NamedTuple):
    """Attributes of a usage item that count one hour of its day."""

    bytes: str
    records: str
    rev: str


_NAMES_OF_HOUR = tuple(UsageNames(f"b{hour:02d}", f"r{hour:02d}", f"v{hour:02d}") for hour in range(24))
_HOURS = tuple((hour * HOUR_S, names) for hour, names in enumerate(_NAMES_OF_HOUR))


class UsageEntry(NamedTuple):
    """Count of a usage item in one booked hour. `rev` is None if the service never wrote this hour."""

    key: UsageKey
    suffix: int
    total: Total
    rev: int | None


def usage_names(hour_s: int) -> UsageNames:
    """Names of the attributes of a booked hour."""
    return _NAMES_OF_HOUR[hour_s % DAY_S // HOUR_S]


def usage_partition(account_id: str, month: str) -> str:
    """Partition of the usage table with an account's usage of a month."""
    return f"A#{account_id}#{month}"


def usage_key(key: UsageKey, suffix: int) -> Key:
    """Key of a usage item. Fields cannot hold `#`; `corrects` is empty in an open month."""
    corrects = "" if key.corrects_s is None else hour_label(key.corrects_s)
    return Key(
        usage_partition(key.account_id, month_of(key.hour_s)),
        f"{date_of(key.hour_s)}#{key.usage_type}#{key.service}#{key.from_location}#{key.to_location}#{corrects}#{suffix}",
    )


def usage_add(hours: Mapping[int, Total]) -> dict[str, int]:
    """Numbers that an update adds to a usage item to count these booked hours, all of one day."""
    add: dict[str, int] = {}
    for hour_s, total in hours.items():
        names = usage_names(hour_s)
        add |= {names.bytes: total.bytes, names.records: total.records, names.rev: 1}
    return add


def usage_entries(item: Item, *, hour_s: int | None = None) -> Iterator[UsageEntry]:
    """Each booked hour that a usage item counts, in order; or only the hour `hour_s`, if the item counts it."""
    first, suffix = _parse_usage_key(item)
    by_hand = _by_hand(item)
    for offset_s, (b, r, v) in _HOURS:
        if b not in item and r not in item:
            continue
        if hour_s is None or first.hour_s + offset_s == hour_s:
            key = UsageKey(first.hour_s + offset_s, *first[1:])
            total = Total(_count(item, b) + by_hand.bytes, _count(item, r) + by_hand.records)
            yield UsageEntry(key, suffix, total, _count(item, v) if v in item else None)
        by_hand = ZERO


def usage_day(item: Item) -> tuple[UsageKey, Total]:
    """Total of a usage item over all hours; the key names the first hour of the day."""
    key, _ = _parse_usage_key(item)
    sizes = sum([_count(item, names.bytes) for names in _NAMES_OF_HOUR if names.bytes in item])
    records = sum([_count(item, names.records) for names in _NAMES_OF_HOUR if names.records in item])
    return key, _by_hand(item).plus(Total(sizes, records))


def _by_hand(item: Item) -> Total:
    """Total that was added by hand outside the hours. It counts in the first hour, so that a check sees it."""
    return Total(_count(item, "bytes"), _count(item, "records"))


def _parse_usage_key(item: Item) -> tuple[UsageKey, int]:
    try:
        day, _, fields = str(item["sk"]).partition("#")
        _, account_id, month = str(item["pk"]).split("#")
        names, corrects_s, suffix = _usage_fields(fields)
        key = UsageKey(parse_hour(f"{day}T00"), account_id, *names, corrects_s)
    except (KeyError, ValueError):
        Fields.of_item(item).fail("sk", "the key of a usage item")
    if not day.startswith(month):
        Fields.of_item(item).fail("sk", f"a day of {month}")
    return key, suffix


@lru_cache(maxsize=_REMEMBERED_FIELDS)
def _usage_fields(fields: str) -> tuple[tuple[str, str, str, str], int | None, int]:
    usage_type, service, from_location, to_location, corrects, suffix = fields.split("#")
    names = (usage_type, service, from_location, to_location)
    if not all(names) or not (suffix.isascii() and suffix.isdecimal()):
        raise ValueError(fields)
    return names, parse_hour(corrects) if corrects else None, int(suffix)


def _count(item: Item, name: str) -> int:
    """Figure of an item, 0 if it is absent. It may be negative after a repair."""
    value = item.get(name, 0)
    # Not isinstance: True is an int.
    if type(value) is not int:
        Fields.of_item(item).fail(name, "a whole number")
    return value
