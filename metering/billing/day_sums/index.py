"""The index of a region's day sums: the object of each day, the accounts of each month, and the counted runs.

Every change puts a new index under the next number, with a conditional write. Therefore only one of two concurrent
processes succeeds. A process that fails before this write changes nothing, because no index names its objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Annotated, ClassVar

from metering.hours import date_of, rfc3339
from metering.ledger import booked_hours, commits
from metering.ledger.runs import lake_chain, newest_run
from metering.stores.codec import Added, Fields, Form, StoredDocument, Unwritten, members_of
from metering.stores.objects import RATED_INDEX_PREFIX, ObjectStore, rated_index_key
from metering.units import exact_and_size
from metering.usage.totals import ZERO, Total, sum_totals

if TYPE_CHECKING:
    from metering.ledger.format_version import Generations
    from metering.stores import writes

# A query lists at most this many entries, in about a second. The biller lists all, as the compactor does in each run.
MOST_LISTED = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """Accepted usage that is not in the sums, because the roll-up, the compactor or the biller has not processed it.

    Attributes:
        total: Bytes and records of this usage, over all accounts and the canary.
        at_least: Whether more usage may be uncounted, because the list is partial or a compactor run was in progress.
    """

    total: Total = ZERO
    at_least: bool = False

    @property
    def text(self) -> str:
        """For people: `at least 12,100 bytes = 11.8 KB`; empty if all is counted."""
        if not self.total.records and not self.at_least:
            return ""
        return f"{'at least ' if self.at_least else ''}{exact_and_size(self.total.bytes)}"

    def plus(self, other: Uncounted) -> Uncounted:
        return Uncounted(total=self.total.plus(other.total), at_least=self.at_least or other.at_least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far sums go.

    Attributes:
        through_s: Time before which all accepted usage is counted, epoch seconds; 0 if unknown.
        left: Accepted usage not counted yet; None if unknown.
    """

    through_s: int
    left: Uncounted | None = None


def reach_of(regions: Iterable[Reach]) -> Reach:
    """Time up to which the sums of all regions are complete, and the usage that the sums lack."""
    known = list(regions)
    lefts = [each.left for each in known if each.left is not None]
    left = reduce(Uncounted.plus, lefts, Uncounted()) if len(lefts) == len(known) else None
    return Reach(through_s=min((each.through_s for each in known), default=0), left=left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Usage not yet in lake files: its total, the time of its oldest commit, and whether all commits are included."""

    total: Total = ZERO
    oldest_ms: int | None = None
    whole: bool = True


def list_unpublished(items: writes.ItemStore, shards: int, *, most: int | None = None) -> Listed:
    """Sum up the usage that is not yet rolled up or compacted, each commit once. `most`: entries to list.

    Raises:
        LedgerCorruptError: An entry cannot be read.
        UnavailableError: The ledger does not answer.
    """
    size = records = 0
    oldest_ms: int | None = None
    for place, (made_ms, total) in enumerate(_entries(items, shards)):
        if place == most:
            return Listed(total=Total(size, records), oldest_ms=oldest_ms, whole=False)
        size, records = size + total.bytes, records + total.records
        oldest_ms = made_ms if oldest_ms is None else min(oldest_ms, made_ms)
    return Listed(total=Total(size, records), oldest_ms=oldest_ms)


def _entries(items: writes.ItemStore, shards: int) -> Iterator[tuple[int, Total]]:
    """Time of each commit, and its uncompacted usage. Waiting commits come first, because they become pending (P2)."""
    waiting: set[str] = set()
    for entry in commits.waiting_commits(items, shards):
        waiting.add(entry.commit_id)
        yield entry.created_at_ms, sum_totals(entry.totals.values())
    for shard in commits.known_shards(items, shards):
        for pending in map(booked_hours.Pending.from_item, booked_hours.pending_in(items, shard)):
            if pending.commit_id not in waiting:
                yield pending.created_at_ms, sum_totals(pending.totals[hour_s] for hour_s in pending.hours)


def newest_runs(items: writes.ItemStore, shards: int) -> dict[int, tuple[int, str]]:
    """Number and state of the compactor's newest run (if any) of each shard."""
    found = ((shard, newest_run(items, lake_chain(shard))) for shard in commits.known_shards(items, shards))
    return {shard: (run.number, run.state) for shard, run in found if run is not None}


def all_done(newest: Mapping[int, tuple[int, str]], counted: Mapping[int, int]) -> bool:
    """Whether the newest run of each shard is finished and counted."""
    return all(state == "done" and number == counted.get(shard, 0) for shard, (number, state) in newest.items())


# An index of an earlier release has no `through_s`.
_UNKNOWN = Reach(through_s=0, left=Uncounted(at_least=True))
_NUMBER = re.compile(r"([0-9]{8})\.json")


Day = Annotated[int, Form(Fields.text, date_of, lambda days, day: days.hour_named(f"{day}T00"))]
"""First hour of a day, stored as a date."""


def _reach_document(reach: Reach) -> dict[str, object]:
    left = reach.left or Uncounted(at_least=True)
    return {
        "through_s": reach.through_s,
        "bytes": str(left.total.bytes),
        "records": left.total.records,
        "at_least": left.at_least,
    }


def _reach_of(fields: Fields, name: str) -> Reach:
    reach = fields.nested(name)
    total = Total(reach.decimal("bytes"), reach.whole("records"))
    return Reach(through_s=reach.whole("through_s"), left=Uncounted(total=total, at_least=reach.flag("at_least")))


def _days(accounts: Fields, name: str) -> frozenset[int]:
    return frozenset(accounts.hour_named(f"{day}T00") for day in accounts.texts(name))


def _dates(days: frozenset[int]) -> list[str]:
    return list(map(date_of, sorted(days)))


FORM = 2
"""Form of the accounts of a month that this release writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAccounts:
    """The accounts of a month: key of their object, and first hours of the days that are completely counted.

    Attributes:
        form: Form of the object. Objects of form 1, by earlier releases, count processing as other usage.
    """

    key: str
    days: Annotated[frozenset[int], Form(_days, _dates)]
    form: Annotated[int, Added(1)] = FORM


@dataclass(frozen=True, slots=True, kw_only=True)
class DayIndex(StoredDocument):
    """One version of the index.

    Attributes:
        number: Version number from 1 on; 0 if no index was ever put.
        from_s: Days before this time are incomplete, because their runs were not read; 0 if all days are complete.
        runs: Shard -> number of the last counted run.
        counted_s: Time up to which all published files are counted, epoch seconds.
        reach: Time up to which the sums were complete when this version was made, and the usage that they lacked.
        complete_through_s: `complete_through` of the region when this version was made; 0 if unknown.
        closed: Closed month -> digest of its manifest.
        days: First hour of a day -> key of the object with the day's sums.
        accounts: Month -> its accounts. Indexes of earlier releases lack this mapping.
        replaced: Keys that this version no longer names; the process that puts the next version deletes these objects.
        generation: Usage generation of the ledger that the sums were made from; 0 in indexes of earlier releases.
        ledger_generation: Generation of that ledger itself.
    """

    SCHEMA: ClassVar[str] = "metering.rated-index/1"
    number: int = 0
    from_s: int = 0
    runs: Mapping[int, int] = field(default_factory=dict)
    counted_s: int = 0
    reach: Annotated[Reach, Added(_UNKNOWN), Form(_reach_of, _reach_document)] = _UNKNOWN
    complete_through_s: int = 0
    closed: Mapping[str, str] = field(default_factory=dict)
    days: Mapping[Day, str] = field(default_factory=dict)
    accounts: Annotated[Mapping[str, KeptAccounts], Added({})] = field(default_factory=dict)
    replaced: tuple[str, ...] = ()
    generation: Annotated[int, Added(0)] = 0
    ledger_generation: Annotated[int, Unwritten(1)] = 1

    def is_of(self, found: Generations) -> bool:
        """Whether the sums were made from the ledger of these generations, and not from one before a restore (P41)."""
        return self.generation in (0, found.usage) and self.ledger_generation == found.ledger

    def following(self, days: Mapping[int, str], accounts: Mapping[str, KeptAccounts]) -> DayIndex:
        """The next version, with the changed day objects and the accounts of all months."""
        changed = {**self.days, **days}
        named = {*changed.values(), *(kept.key for kept in accounts.values())}
        before = (*self.days.values(), *(kept.key for kept in self.accounts.values()))
        own = (rated_index_key(self.number),) if self.number else ()
        replaced = (*own, *(key for key in before if key not in named))
        return replace(self, number=self.number + 1, days=changed, accounts=accounts, replaced=replaced)

    def of_month(self, month: str) -> Mapping[int, str]:
        """Days of a month, in order, with the keys of their objects."""
        return {day_s: key for day_s, key in sorted(self.days.items()) if date_of(day_s)[:7] == month}

    def accounts_of(self, month: str) -> KeptAccounts | None:
        """The accounts of a month; None if they lack a day that the index has of this month, or have an older form."""
        kept = self.accounts.get(month)
        whole = kept is not None and kept.form == FORM and self.of_month(month).keys() <= kept.days
        return kept if whole else None

    def to_json(self) -> bytes:
        head = {"schema": self.SCHEMA, "number": self.number, "from_s": self.from_s, "as_of": rfc3339(self.counted_s)}
        return json.dumps({**head, **members_of(self)}, separators=(",", ":")).encode()


def newest_version(objects: ObjectStore, prefix: str) -> str | None:
    """Key of the newest version of an index below a prefix; None without one."""
    keys = [info.key for info in objects.list(prefix) if _NUMBER.fullmatch(info.key.removeprefix(prefix))]
    return max(keys, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayIndexes:
    """The versions of the index in a region's bucket."""

    objects: ObjectStore

    def newest(self) -> DayIndex:
        """The current index; if no index exists, an empty index with number 0.

        Raises:
            LedgerCorruptError: It is something else.
            ObjectMissingError: The index was replaced during the call; call again.
        """
        key = newest_version(self.objects, RATED_INDEX_PREFIX)
        return DayIndex() if key is None else DayIndex.from_json(self.objects.get(key), key)

    def put(self, index: DayIndex) -> bool:
        """Put a version; False if another process put it first."""
        return self.objects.put(rated_index_key(index.number), index.to_json(), if_absent=True)
