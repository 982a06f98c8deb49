"""The index of a region's day sums: which object has the sums of a day, and which runs of the compactor are in them.

It also names the accounts of each month, which are of the same lake files.

Every change puts the index under the next number, if that is absent. So of two processes at once only one goes on, and
one that dies before it puts the index has changed nothing: the day objects that it put are named by nobody.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metering.billing.day_sums.uncounted import Reach, Uncounted
from metering.hours import date_of, rfc3339
from metering.stores.bucket import RATED_INDEX_PREFIX, rated_index_key
from metering.stores.fields import Fields
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.objects import ObjectStore

_SCHEMA = "metering.rated-index/1"
# An index of an earlier release does not say how far it goes.
_UNKNOWN = Reach(through_s=0, left=Uncounted(at_least=True))
_NUMBER = re.compile(r"([0-9]{8})\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAccounts:
    """The accounts of a month.

    Attributes:
        key: Key of their object.
        days: First hours of the days that are in it, each whole.
    """

    key: str
    days: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayIndex:
    """One version of the index.

    Attributes:
        number: From 1 on; 0 if nothing was ever put.
        from_s: Days before it are not whole, because their runs were not read. 0: all are.
        runs: Shard -> number of the last run that is counted. All before it are counted, too.
        counted_s: Everything that was published by this time is counted, epoch seconds.
        reach: How far it went, and what it lacked, when it was made.
        complete_through_s: Up to when the region's count was complete at that time; 0 if it was not known.
        closed: Closed month -> digest of its manifest.
        days: First hour of a day -> key of its object.
        accounts: Month -> its accounts. An index of an earlier release has none.
        replaced: Keys of objects that this version no longer names; the next version's process deletes them.
    """

    number: int = 0
    from_s: int = 0
    runs: Mapping[int, int] = field(default_factory=dict)
    counted_s: int = 0
    reach: Reach = _UNKNOWN
    complete_through_s: int = 0
    closed: Mapping[str, str] = field(default_factory=dict)
    days: Mapping[int, str] = field(default_factory=dict)
    accounts: Mapping[str, KeptAccounts] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()

    def following(self, days: Mapping[int, str], accounts: Mapping[str, KeptAccounts]) -> DayIndex:
        """The next version, in which these days have other objects, and the months these accounts."""
        changed = {**self.days, **days}
        named = {*changed.values(), *(kept.key for kept in accounts.values())}
        before = (*self.days.values(), *(kept.key for kept in self.accounts.values()))
        own = (rated_index_key(self.number),) if self.number else ()
        replaced = (*own, *(key for key in before if key not in named))
        return replace(self, number=self.number + 1, days=changed, accounts=accounts, replaced=replaced)

    def of_month(self, month: str) -> Mapping[int, str]:
        """Days of a month with their objects, in order."""
        return {day_s: key for day_s, key in sorted(self.days.items()) if date_of(day_s)[:7] == month}

    def accounts_of(self, month: str) -> KeptAccounts | None:
        """The accounts of a month, if all of its days are in them; None if some are not."""
        kept = self.accounts.get(month)
        return kept if kept is not None and self.of_month(month).keys() <= kept.days else None

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "schema": _SCHEMA,
                "number": self.number,
                "from_s": self.from_s,
                "as_of": rfc3339(self.counted_s),
                "runs": {str(shard): run for shard, run in sorted(self.runs.items())},
                "counted_s": self.counted_s,
                "reach": _reach_document(self.reach),
                "complete_through_s": self.complete_through_s,
                "closed": dict(sorted(self.closed.items())),
                "days": {date_of(day_s): key for day_s, key in sorted(self.days.items())},
                "accounts": {
                    month: {"key": kept.key, "days": [date_of(day_s) for day_s in sorted(kept.days)]}
                    for month, kept in sorted(self.accounts.items())
                },
                "replaced": list(self.replaced),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> DayIndex:
        """Inverse of `to_json`.

        Raises:
            LedgerCorruptError: It is no such index.
        """
        fields = Fields.of_json(body, key)
        fields.one_of("schema", (_SCHEMA,))
        runs, days, closed = (fields.nested(name) for name in ("runs", "days", "closed"))
        return cls(
            number=fields.whole("number"),
            from_s=fields.whole("from_s"),
            runs={runs.number_named(shard): runs.whole(shard) for shard in runs},
            counted_s=fields.whole("counted_s"),
            reach=_reach_of(fields.nested("reach")) if "reach" in fields else _UNKNOWN,
            complete_through_s=fields.whole("complete_through_s"),
            closed={month: closed.text(month) for month in closed},
            days={days.hour_named(f"{day}T00"): days.text(day) for day in days},
            accounts=_accounts_of(fields.nested("accounts")) if "accounts" in fields else {},
            replaced=fields.texts("replaced"),
        )


def _reach_document(reach: Reach) -> dict[str, object]:
    left = reach.left or Uncounted(at_least=True)
    return {
        "through_s": reach.through_s,
        "bytes": str(left.total.bytes),
        "records": left.total.records,
        "at_least": left.at_least,
    }


def _reach_of(reach: Fields) -> Reach:
    total = Total(reach.decimal("bytes"), reach.whole("records"))
    return Reach(through_s=reach.whole("through_s"), left=Uncounted(total=total, at_least=reach.flag("at_least")))


def _accounts_of(months: Fields) -> dict[str, KeptAccounts]:
    found: dict[str, KeptAccounts] = {}
    for month in months:
        kept = months.nested(month)
        days = frozenset(kept.hour_named(f"{day}T00") for day in kept.texts("days"))
        found[month] = KeptAccounts(key=kept.text("key"), days=days)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DayIndexes:
    """The versions of the index in a region's bucket. Few are kept: each process deletes what the last one replaced."""

    objects: ObjectStore

    def newest(self) -> DayIndex:
        """The index in force; an empty one of number 0 if there is none.

        Raises:
            LedgerCorruptError: It is no index.
            ObjectMissingError: It was replaced in this moment; ask again.
        """
        names = (info.key.removeprefix(RATED_INDEX_PREFIX) for info in self.objects.list(RATED_INDEX_PREFIX))
        numbers = [int(found[1]) for name in names if (found := _NUMBER.fullmatch(name))]
        if not numbers:
            return DayIndex()
        key = rated_index_key(max(numbers))
        return DayIndex.from_json(self.objects.get(key), key)

    def put(self, index: DayIndex) -> bool:
        """Put a version; False if another process has put one of this number."""
        return self.objects.put(rated_index_key(index.number), index.to_json(), if_absent=True)
