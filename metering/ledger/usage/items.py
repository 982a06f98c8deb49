"""Items of the usage table: the usage of an account in one booked hour, with many kinds in one item (P45).

| pk                    | sk                                                     | counts                    |
|-----------------------|--------------------------------------------------------|---------------------------|
| `A#<account>#<month>` | `<hour>#<corrects>#<bucket>`                           | `b<number>`, `r<number>`  |
| `A#<account>#<month>` | `<hour>#<corrects>#<usage type>#<service>#<from>#<to>` | `b`, `r`                  |

An item of a bucket has bytes and records of each of the bucket's kinds, by number. The other form of item has bytes and
records of one kind without a number. Both forms have `v`, a revision that every write increments, and `n<shard>`, the
number of the shard's newest roll-up run in the item. A kind has a number in its account's dictionary (`kinds`); the
kind's bucket is that number divided by `BUCKET_KINDS`. Buckets and numbers never change within a format, because a
run's second update of the same item is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from metering.errors import LedgerCorruptError
from metering.hours import hour_label, month_of, parse_hour
from metering.stores.codec import Fields, shown
from metering.stores.writes import Item, Key, Value
from metering.usage.totals import REGION, ZERO, Total, UsageKey, UsageKind

# Kinds of one item. Its largest update stays below 4 KB and 300 operators (tests/contract/test_usage_update.py).
BUCKET_KINDS = 64

REVISION = "v"
_NEWEST_RUN = "n"
_BYTES = "b"
_RECORDS = "r"
_KEYS = ("pk", "sk")
ACCOUNT_PREFIX = "A#"
# Items of the region's totals (`region`). Releases that do not know them read only accounts' items.
REGION_PREFIX = "G#"
# Remedy that is named in error messages about an item.
MENDED_BY = "`metering rebuild usage` mends it"
# Number of cached attribute names: enough for every kind number of an account.
_REMEMBERED_NAMES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageItem:
    """An item of the usage table, as read.

    Attributes:
        bucket: Bucket of the item's kinds; None if the item has one kind without a number.
        totals: Total by kind number; for a kind without a number, by the kind itself. A total may be zero after a
            repair, and negative while a repair is running.
        revision: Revision; None if the service never wrote the item.
        runs: Shard -> number of the shard's newest run in the item; a shard without a run is absent.
        odd: Attributes with a name or value that no release writes, as read (P49). No other field has them.
    """

    account_id: str
    hour_s: int
    corrects_s: int | None
    bucket: int | None
    totals: Mapping[int | UsageKind, Total]
    revision: int | None
    runs: Mapping[int, int] = field(default_factory=dict)
    odd: Mapping[str, Value] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(usage_partition(self.account_id, month_of(self.hour_s)), self._sk)

    @property
    def _sk(self) -> str:
        prefix = f"{hour_label(self.hour_s)}#{_corrects(self.corrects_s)}#"
        if self.bucket is not None:
            return f"{prefix}{self.bucket}"
        [kind] = self.totals
        if isinstance(kind, int):
            raise TypeError("an item without a bucket has one kind, and no number")
        return prefix + "#".join(kind)

    def usage_key(self, kind: UsageKind) -> UsageKey:
        return UsageKey(self.hour_s, self.account_id, *kind, self.corrects_s)

    @property
    def oddities(self) -> tuple[str, ...]:
        """Descriptions of attributes that no release writes, and of a missing revision."""
        told = [f"{name} = {shown(value)}, which no release writes" for name, value in sorted(self.odd.items())]
        return tuple(told) if self.revision is not None or REVISION in self.odd else (*told, f"{REVISION} is missing")

    @classmethod
    def from_item(cls, item: Item) -> UsageItem:
        """The usage item parsed from a table item.

        Raises:
            LedgerCorruptError: The item is not a usage item, or has an unknown attribute.
        """
        found = cls.as_found(item)
        for name, value in sorted(found.odd.items()):
            raise LedgerCorruptError(f"{_named(item)}: {name} = {shown(value)}, which no release writes: {MENDED_BY}")
        return found

    @classmethod
    def as_found(cls, item: Item) -> UsageItem:
        """Like `from_item`, for callers that compare and repair: attributes that no release writes are kept in `odd`.

        Raises:
            LedgerCorruptError: The key is not the key of a usage item.
        """
        fields = Fields.of_item(item)
        account_id, hour_s, corrects_s, place = _parse_key(fields, item)
        figures = _Figures.of(item, place)
        totals = figures.totals()
        bucket = place if isinstance(place, int) else None
        if bucket is None and not totals:
            totals[place] = ZERO
        return cls(
            account_id=account_id,
            hour_s=hour_s,
            corrects_s=corrects_s,
            bucket=bucket,
            totals=totals,
            revision=figures.revision,
            runs=figures.runs,
            odd=figures.odd,
        )


def is_usage_item(item: Item) -> bool:
    """Whether an item of the usage table counts usage of an account."""
    return str(item["pk"]).startswith(ACCOUNT_PREFIX)


def is_region_item(item: Item) -> bool:
    """Whether an item of the usage table counts usage of the region. All other items are about the table itself."""
    return str(item["pk"]).startswith(REGION_PREFIX)


def check_revised(item: Item) -> None:
    """Raise an error if an item lacks its revision, which every write sets.

    Raises:
        LedgerCorruptError: An item without a revision was changed manually, so its figures may be incomplete.
    """
    if REVISION not in item:
        raise LedgerCorruptError(f"{_named(item)}: {REVISION} is missing: {MENDED_BY}")


@dataclass(slots=True)
class _Figures:
    """Attributes of a usage item, grouped by meaning. Mutable."""

    sizes: dict[int | UsageKind, int] = field(default_factory=dict)
    records: dict[int | UsageKind, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)
    revision: int | None = None
    odd: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, item: Item, place: int | UsageKind) -> _Figures:
        found = cls()
        for name, value in item.items():
            # Not isinstance: True is an int.
            if name not in _KEYS and not (type(value) is int and found._takes(name, value, place)):
                found.odd[name] = value
        return found

    def totals(self) -> dict[int | UsageKind, Total]:
        found = {each: Total(size, self.records.get(each, 0)) for each, size in self.sizes.items()}
        return found | {each: Total(0, count) for each, count in self.records.items() if each not in found}

    def _takes(self, name: str, value: int, place: int | UsageKind) -> bool:
        letter, number = _parse_name(name)
        if letter in (_BYTES, _RECORDS) and _may_count(number, place):
            of = place if number is None else number
            (self.sizes if letter == _BYTES else self.records)[of] = value
        elif letter == _NEWEST_RUN and number is not None:
            self.runs[number] = value
        elif name == REVISION:
            self.revision = value
        else:
            return False
        return True


def usage_partition(account_id: str, month: str) -> str:
    """Partition of the usage table with the usage of an account, or of the region (`REGION`), in a month."""
    if account_id == REGION:
        return f"{REGION_PREFIX}{month}"
    return f"{ACCOUNT_PREFIX}{account_id}#{month}"


def usage_item_key(key: UsageKey, number: int | None) -> Key:
    """Key of the item that counts a usage key; `number` is the number of its kind, or None."""
    prefix = f"{hour_label(key.hour_s)}#{_corrects(key.corrects_s)}#"
    place = "#".join(key.kind) if number is None else str(number // BUCKET_KINDS)
    return Key(usage_partition(key.account_id, month_of(key.hour_s)), prefix + place)


def usage_add(totals: Mapping[int | None, Total]) -> dict[str, int]:
    """Increments of one write to a usage item: totals by kind number (None: no number), and the revision.

    A figure of zero is left out, because adding it changes nothing.
    """
    add: dict[str, int] = {}
    for number, total in totals.items():
        suffix = "" if number is None else str(number)
        if total.bytes:
            add[_BYTES + suffix] = total.bytes
        if total.records:
            add[_RECORDS + suffix] = total.records
    add[REVISION] = 1
    return add


def newest_run_of(shard: int) -> str:
    """Name of the attribute that holds a shard's newest roll-up run in an item."""
    return f"{_NEWEST_RUN}{shard}"


def is_newest_run(name: str) -> bool:
    """Whether an attribute with this name holds a run number."""
    letter, number = _parse_name(name)
    return letter == _NEWEST_RUN and number is not None


def sk_range(from_s: int, to_s: int) -> tuple[str, str]:
    """Range of sort keys of the hours in `[from_s, to_s)`; both are full hours of one month, or the month's end."""
    return hour_label(from_s), hour_label(to_s)


def _corrects(corrects_s: int | None) -> str:
    return "" if corrects_s is None else hour_label(corrects_s)


def _parse_key(fields: Fields, item: Item) -> tuple[str, int, int | None, int | UsageKind]:
    try:
        prefix, *names = str(item["pk"]).split("#")
        account_id, month = names if f"{prefix}#" == ACCOUNT_PREFIX else (REGION, *names)
        hour, corrects, *place = str(item["sk"]).split("#")
        hour_s = parse_hour(hour)
        corrects_s = parse_hour(corrects) if corrects else None
        kind_or_bucket = _place(place)
    except (KeyError, ValueError, TypeError):
        fields.fail("sk", "the key of a usage item")
    if not hour.startswith(month):
        fields.fail("sk", f"an hour of {month}")
    return account_id, hour_s, corrects_s, kind_or_bucket


def _place(texts: list[str]) -> int | UsageKind:
    if len(texts) == 1:
        bucket = int(texts[0])
        # A bucket number has one spelling, because it is part of a key.
        if str(bucket) != texts[0] or bucket < 0:
            raise ValueError(texts)
        return bucket
    kind = UsageKind._make(texts)
    if not all(kind):
        raise ValueError(texts)
    return kind


@lru_cache(maxsize=_REMEMBERED_NAMES)
def _parse_name(name: str) -> tuple[str, int | None]:
    """Letter and number (None if absent) of an attribute's name; no letter if the number is not canonical."""
    rest = name[1:]
    number = int(rest) if rest.isascii() and rest.isdecimal() else None
    return ("", None) if rest and str(number) != rest else (name[:1], number)


def _may_count(number: int | None, place: int | UsageKind) -> bool:
    """Whether figures of this number (None: no number) belong in an item of this bucket or single kind."""
    return number is None if not isinstance(place, int) else number is not None and number // BUCKET_KINDS == place


def _named(item: Item) -> str:
    return f"{item.get('pk')} / {item.get('sk')}"


def is_counted(total: Total) -> bool:
    """Whether a total is not zero; a repair can leave totals of zero."""
    return total != ZERO
