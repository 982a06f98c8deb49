"""Items of the usage table: what an account used in one booked hour, kinds side by side (P45).

| pk                    | sk                                                     | counts                    |
|-----------------------|--------------------------------------------------------|---------------------------|
| `A#<account>#<month>` | `<hour>#<corrects>#<bucket>`                           | `b<number>`, `r<number>`  |
| `A#<account>#<month>` | `<hour>#<corrects>#<usage type>#<service>#<from>#<to>` | `b`, `r`                  |

An item of a bucket has bytes and records of each of its kinds, by number; one of the other form has those of a kind
without a number. Both have `v`, the revision, to which every write adds 1, and `n<shard>`, the number of the newest run of the shard's
roll-up in it. A kind has the number of its account's dictionary (`kinds`); its bucket is the number divided by
`BUCKET_KINDS`. Buckets and numbers never change within a format: two updates of one item under one run lose the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.hours import hour_label, month_of, parse_hour
from metering.stores.fields import Fields
from metering.stores.writes import Key
from metering.usage.totals import ZERO, Kind, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item

# Kinds of one item. Its fullest update stays below 4 KB and 300 operators (tests/contract/test_usage_update.py).
BUCKET_KINDS = 64

REVISION = "v"
_NEWEST_RUN = "n"
_BYTES = "b"
_RECORDS = "r"
_KEYS = ("pk", "sk")
_ACCOUNT = "A#"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageItem:
    """An item of the usage table, as it was read.

    Attributes:
        bucket: Bucket of its kinds; None if its kind has no number.
        totals: Total by number; of a kind without a number, by the kind itself. A total may be zero after a repair, and
            negative while one is in work.
        revision: None if the service never wrote it.
        runs: By shard, number of the newest run that is in it; absent without one.
    """

    account_id: str
    hour_s: int
    corrects_s: int | None
    bucket: int | None
    totals: Mapping[int | Kind, Total]
    revision: int | None
    runs: Mapping[int, int] = field(default_factory=dict)

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

    def usage_key(self, kind: Kind) -> UsageKey:
        """Usage key of a kind in this item."""
        return UsageKey(self.hour_s, self.account_id, *kind, self.corrects_s)

    @classmethod
    def from_item(cls, item: Item) -> UsageItem:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is none, or has an attribute that no usage item has.
        """
        fields = Fields.of_item(item)
        account_id, hour_s, corrects_s, place = _parse_key(fields, item)
        figures: dict[int | Kind, list[int]] = {}
        revision: int | None = None
        runs: dict[int, int] = {}
        for name, value in item.items():
            if name in _KEYS:
                continue
            # Not isinstance: True is an int.
            if type(value) is not int:
                fields.fail(name, "a whole number")
            letter, rest = name[:1], name[1:]
            if letter in (_BYTES, _RECORDS):
                figure = figures.setdefault(_number(fields, name, rest, place), [0, 0])
                figure[letter == _RECORDS] = value
            elif letter == _NEWEST_RUN and rest.isdecimal():
                runs[int(rest)] = value
            elif name == REVISION:
                revision = value
            else:
                fields.fail(name, "absent: no usage item has it")
        bucket = place if isinstance(place, int) else None
        if bucket is None and not figures:
            figures[place] = [0, 0]
        return cls(
            account_id=account_id,
            hour_s=hour_s,
            corrects_s=corrects_s,
            bucket=bucket,
            totals={number: Total(size, records) for number, (size, records) in figures.items()},
            revision=revision,
            runs=runs,
        )


def is_usage_item(item: Item) -> bool:
    """Whether an item of the usage table counts usage. The other one says what table it is (`generation`)."""
    return str(item["pk"]).startswith(_ACCOUNT)


def usage_partition(account_id: str, month: str) -> str:
    """Partition of the usage table with an account's usage of a month."""
    return f"{_ACCOUNT}{account_id}#{month}"


def usage_item_key(key: UsageKey, number: int | None) -> Key:
    """Key of the item that counts a usage key whose kind has this number, or none."""
    prefix = f"{hour_label(key.hour_s)}#{_corrects(key.corrects_s)}#"
    place = "#".join(key.kind) if number is None else str(number // BUCKET_KINDS)
    return Key(usage_partition(key.account_id, month_of(key.hour_s)), prefix + place)


def usage_add(totals: Mapping[int | None, Total]) -> dict[str, int]:
    """Numbers that one write adds to a usage item: totals by number (None: a kind without one), and the revision.

    A figure of zero is left out: adding it changes nothing.
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
    """Attribute with the number of the newest run of a shard's roll-up that is in an item."""
    return f"{_NEWEST_RUN}{shard}"


def sk_range(from_s: int, to_s: int) -> tuple[str, str]:
    """Range of sort keys of the hours in `[from_s, to_s)`; both are full hours of one month, or the month's end."""
    return hour_label(from_s), hour_label(to_s)


def _corrects(corrects_s: int | None) -> str:
    return "" if corrects_s is None else hour_label(corrects_s)


def _parse_key(fields: Fields, item: Item) -> tuple[str, int, int | None, int | Kind]:
    try:
        _, account_id, month = str(item["pk"]).split("#")
        hour, corrects, *place = str(item["sk"]).split("#")
        hour_s = parse_hour(hour)
        corrects_s = parse_hour(corrects) if corrects else None
        kind_or_bucket = _place(place)
    except (KeyError, ValueError, TypeError):
        fields.fail("sk", "the key of a usage item")
    if not hour.startswith(month):
        fields.fail("sk", f"an hour of {month}")
    return account_id, hour_s, corrects_s, kind_or_bucket


def _place(texts: list[str]) -> int | Kind:
    if len(texts) == 1:
        if not (texts[0].isascii() and texts[0].isdecimal()):
            raise ValueError(texts)
        return int(texts[0])
    kind = Kind(*texts)
    if not all(kind):
        raise ValueError(texts)
    return kind


def _number(fields: Fields, name: str, text: str, place: int | Kind) -> int | Kind:
    if isinstance(place, Kind):
        if text:
            fields.fail(name, "absent: the item is one of a kind without a number")
        return place
    if not (text.isascii() and text.isdecimal()) or int(text) // BUCKET_KINDS != place:
        fields.fail(name, f"absent: it is no kind of bucket {place}")
    return int(text)


def is_counted(total: Total) -> bool:
    """Whether a total of an item counts anything; a repair can leave zeros."""
    return total != ZERO
