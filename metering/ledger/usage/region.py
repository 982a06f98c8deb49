"""Totals of the region: the usage of all accounts together, in items of its own, and the directory of accounts (P51).

| table  | pk             | sk            | attributes                                                        |
|--------|----------------|---------------|-------------------------------------------------------------------|
| usage  | `G#<month>`    | as accounts'  | as accounts': bytes and records by number, `v`, `n<shard>`         |
| usage  | `S#generation` | `G`           | `since`: first complete hour; `n<shard>`: newest run in them; `v` |
| ledger | `D#region`     | as accounts'  | numbers of the region's kinds, at most `REGION_KINDS`             |
| ledger | `D#accounts`   | `<account>`   | the directory: every account with usage that counts in the totals |

The canary is in neither. A kind without a number counts under its usage type and service, with any places (`*`), or as
any usage altogether. A process claims the numbers of a kind and of its substitutes together, before it books the kind.
A full dictionary stays full. So a kind is always booked under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.hours import hour_label
from metering.ledger.commits import known_shards
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.runs import Run, newest_run, rollup_chain
from metering.ledger.usage.generation import GENERATION_KEY, marks_of, runs_of
from metering.ledger.usage.items import REVISION, newest_run_of
from metering.stores.codec import Fields
from metering.stores.writes import (
    Absent,
    AllOf,
    AnyOf,
    Condition,
    Equals,
    Exists,
    Item,
    Key,
    LessThan,
    Table,
    Update,
)
from metering.usage.totals import REGION, Service, Total, UsageKey, UsageKind, UsageType, add_totals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.ledger.usage.kinds import KindNames, KindNumbers
    from metering.stores.writes import ItemStore

# Later than every hour: 9999-12-31T23.
NEVER = 253_402_297_200
# In a kind that stands for others: any value. No usage type, service or location is written so, and it sorts first.
ANY = "*"
_REST = UsageKind(UsageType(ANY), Service(ANY), ANY, ANY)


def is_any(key: UsageKey) -> bool:
    """Whether a total of the region stands for several kinds, so that its places are unknown."""
    return key.from_location == ANY


def region_sums(usage: Iterable[tuple[UsageKey, Total]]) -> dict[UsageKey, Total]:
    """Sums over all accounts by hour, kind and corrected hour, without the canary; the account id is `REGION`."""
    sums: dict[UsageKey, Total] = {}
    for key, total in usage:
        if key.account_id != CANARY_ACCOUNT_ID:
            place = UsageKey(key[0], REGION, *key[2:])
            known = sums.get(place)
            sums[place] = total if known is None else known.plus(total)
    return sums


def as_booked(sums: Mapping[UsageKey, Total], numbers: Mapping[UsageKind, int]) -> dict[UsageKey, Total]:
    """Sums of the region as its items have them: kinds without numbers are replaced.

    Args:
        sums: By `region_sums`.
        numbers: The region's dictionary, which has the numbers that were claimed for these kinds (`claim_numbers`).
    """
    booked: dict[UsageKey, Total] = {}
    for key, total in sums.items():
        add_totals(booked, {UsageKey(key.hour_s, REGION, *booked_as(key.kind, numbers), key.corrects_s): total})
    return booked


def booked_as(kind: UsageKind, numbers: Mapping[UsageKind, int]) -> UsageKind:
    """The kind under which the region's items have a kind, if `numbers` has all numbers that were claimed for it."""
    if kind in numbers:
        return kind
    return next((each for each in substitutes(kind) if each in numbers), _REST)


def substitutes(kind: UsageKind) -> tuple[UsageKind, UsageKind]:
    """The kinds under which the region books a kind without a number: the first of them that has one."""
    return kind._replace(from_location=ANY, to_location=ANY), _REST


def claim_numbers(numbers: KindNumbers, kinds: Iterable[UsageKind], *, fills: bool = False) -> dict[UsageKind, int]:
    """Claim the region's numbers of some kinds and of their substitutes; returns the known numbers of all of them.

    Raises:
        LedgerCorruptError: The dictionary cannot be read, or lost a number.
        UnavailableError: It is unknown whether the claim succeeded. The next process retries.
    """
    # Kinds are claimed in order, so a full dictionary has the last substitute.
    wanted = {each for kind in kinds for each in (kind, *substitutes(kind))}
    return {kind: number for kind, number in numbers.claim(REGION, wanted, fills=fills).items() if number is not None}


def known_numbers(names: KindNames, kinds: Iterable[UsageKind]) -> dict[UsageKind, int]:
    """Numbers of the region's kinds, read again if one of `kinds` has no number."""
    known = {kind: number for number, kind in names.of(REGION).items()}
    if not known.keys() >= set(kinds):
        known = {kind: number for number, kind in names.read_whole(REGION).items()}
    return known


START_KEY = Key(GENERATION_KEY.pk, "G")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStart:
    """From when on the region's totals are complete.

    Attributes:
        since_s: First complete hour; 0 if all hours are.
        runs: Shard -> newest roll-up run that the totals have, with all runs before it that booked in these hours.
        version: How often the start was replaced.
    """

    since_s: int
    runs: Mapping[int, int]
    version: int = 0

    @classmethod
    def from_item(cls, item: Item) -> RegionStart:
        """Decode the item.

        Raises:
            LedgerCorruptError: It is something else.
        """
        fields = Fields.of_item(item)
        return cls(since_s=fields.hour("since"), runs=runs_of(item), version=fields.whole(REVISION))

    def lacks(self, shard: int, newest: Run | None, *, planned: bool = False) -> bool:
        """Whether the totals lack the newest done run of a shard or, with `planned`, the newest run."""
        number = 0 if newest is None else newest.number if planned else _done(newest)
        return number > self.runs.get(shard, 0)

    def begin_earlier(self, items: ItemStore, since_s: int) -> None:
        """Store that earlier hours are complete, too, because they were filled. Not if the start was replaced."""
        since = hour_label(since_s)
        _change(items, Update(table=Table.USAGE, key=START_KEY, set={"since": since}, condition=self.unchanged))

    @property
    def unchanged(self) -> Condition:
        """Condition that the start was not replaced since it was read."""
        return Equals(attribute=REVISION, value=self.version)


def region_start(items: ItemStore) -> RegionStart | None:
    """From when on the region's totals are complete; None if nothing is known of them.

    Raises:
        LedgerCorruptError: It cannot be read.
    """
    item = items.get(Table.USAGE, START_KEY)
    return None if item is None else RegionStart.from_item(item)


def complete_since_s(items: ItemStore, shards: int, *, planned: bool = False) -> int:
    """First hour from which on the region's totals are complete now; `NEVER` while they lack a done run.

    With `planned`, they may lack no planned run either: one of an earlier release may have placed rows.

    Raises:
        LedgerCorruptError: What is stored of them, or a run, cannot be read.
    """
    # The newest runs are read first: those that are done then must be in the totals.
    newest = {shard: newest_run(items, rollup_chain(shard)) for shard in known_shards(items, shards)}
    start = region_start(items)
    if start is None or any(start.lacks(shard, run, planned=planned) for shard, run in newest.items()):
        return NEVER
    return start.since_s


def mark_region(items: ItemStore, shard: int, number: int) -> None:
    """Store that the totals have a run and all before it. Call this once all its sums are added, for sure.

    Raises:
        UnavailableError: It is unknown whether the number was written; repeat the call before continuing (P3).
    """
    name = newest_run_of(shard)
    smaller = AnyOf((Absent(attribute=name), LessThan(attribute=name, value=number)))
    condition = AllOf((Exists(), smaller))
    _change(items, Update(table=Table.USAGE, key=START_KEY, set={name: number}, condition=condition))


def _done(newest: Run | None) -> int:
    return 0 if newest is None else newest.number - (newest.state == "planned")


def _change(items: ItemStore, update: Update) -> None:
    with suppress(ConditionFailedError):
        items.update(update)


def begin_region(items: ItemStore, shards: int, *, instead_of: RegionStart | None = None) -> RegionStart:
    """Store a start: all hours in a stage without runs; otherwise the end of time, until a rebuild fills all hours.

    Args:
        items: The tables.
        shards: Number of shards of the stage.
        instead_of: The stored start that is replaced, because runs after it are missing in the totals.
    """
    runs = {shard: newest_run(items, rollup_chain(shard)) for shard in known_shards(items, shards)}
    done = {shard: _done(run) for shard, run in runs.items() if _done(run)}
    # No clock says in which hours earlier runs booked.
    since_s = NEVER if any(runs.values()) else 0
    return put_start(items, RegionStart(since_s=since_s, runs=done), instead_of=instead_of)


def put_start(items: ItemStore, start: RegionStart, *, instead_of: RegionStart | None = None) -> RegionStart:
    """Store a start if there is still `instead_of` (None: still no start); returns the stored start."""
    condition = Absent() if instead_of is None else instead_of.unchanged
    version = 0 if instead_of is None else instead_of.version + 1
    said = {"since": hour_label(start.since_s), REVISION: version, **marks_of(start.runs)}
    _change(items, Update(table=Table.USAGE, key=START_KEY, set=said, condition=condition))
    return region_start(items) or start
