"""Check of the plans of one source: slots with a file, and sums of plans not summed yet.

Plan keys sort by slot, so a check lists keys from a slot on: one LIST for up to 1,000 plans. The check reads only plans
that no sum lists, so no plan is read twice. Memory holds the plan names of one day.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.hours import date_of, hour_label, hour_of
from metering.ledger.notes.log_sources import (
    MOST_PLANS,
    NAME_CHARS,
    RECENT,
    LogSourceState,
    LogSums,
    added,
    log_sums_pk,
)
from metering.onramps import reading
from metering.onramps.plans import NO_SLOT, Plan, slot_label, source_prefix
from metering.stores.writes import ItemStore, Key, Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.stores.objects import ObjectStore

# A sum names this many logs with authority; the bytes of all other logs are summed under one name.
_SHADOWS_NAMED = 20
OTHERS = "others"


@dataclass(slots=True)
class DaySums:
    """Sums of one source and one day or hour, while plans are added; `known` holds the names of summed plans."""

    sums: LogSums
    known: set[str]
    changed: bool = False
    _added: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, sums: LogSums) -> DaySums:
        return cls(sums=sums, known=sums.named())

    def lacks(self, digest: str) -> bool:
        """Whether a plan is not yet summed, and the plan's name fits into the sums."""
        if digest[:NAME_CHARS] in self.known:
            return False
        return len(self.known) < MOST_PLANS

    def add(self, plan: Plan, digest: str) -> None:
        kept = self.sums
        self.known.add(digest[:NAME_CHARS])
        self._added.append(digest[:NAME_CHARS])
        self.changed = True
        self.sums = replace(
            kept,
            plans=kept.plans + 1,
            balance=added((kept.balance, {name: number for name, number in asdict(plan.balance).items() if number})),
            unclassified=added(
                (kept.unclassified, *({each.reason: each.bytes} for each in plan.shares if each.reason))
            ),
            refusals=added((kept.refusals, *({reason: lines} for reason, lines, _ in plan.refusals))),
            shadowed=few(added((kept.shadowed, *({log: size} for log, _, size in plan.shadowed)))),
        )

    def result(self) -> LogSums:
        return replace(self.sums, names=self.sums.names + "".join(self._added))


def few(shadowed: dict[str, int]) -> dict[str, int]:
    """Limit the names to the `_SHADOWS_NAMED` names with the most bytes; the sum of bytes stays the same."""
    if len(shadowed) <= _SHADOWS_NAMED:
        return shadowed
    order = sorted(shadowed, key=lambda log: (log == OTHERS, -shadowed[log], log))
    kept = {log: shadowed[log] for log in order[: _SHADOWS_NAMED - 1] if log != OTHERS}
    return {**kept, OTHERS: sum(shadowed.values()) - sum(kept.values())}


def sums_between(
    items: ItemStore, kind: str, source: str, *, from_s: int, to_s: int, unslotted: bool = False
) -> Iterator[LogSums]:
    """Yield the sums of a source's days in `[from_s, to_s)`, in order, one at a time.

    With `unslotted`, include the sums of files whose names state no time.
    """
    pk = log_sums_pk(kind, source)
    for item in items.query(Table.LEDGER, pk, sk_from=date_of(from_s), sk_to=f"{date_of(to_s - 1)}~"):
        yield LogSums.from_item(item)
    for item in items.query(Table.LEDGER, pk, sk_from=NO_SLOT) if unslotted else ():
        yield LogSums.from_item(item)


# Slots: the files that a flow log should have delivered, and those that are missing. A flow log writes a file per slot
# of 5 minutes. Without traffic, the file's lines say NODATA, so a slot without a file is a gap. Records are assigned to
# slots by their end, and an aggregation interval is up to 10 minutes long, so a record may begin before its slot (AWS,
# "Flow log files": every 5 minutes, aggregation 1 or 10 minutes).

SLOT_S = 5 * MINUTE_S
# Delivery to S3 takes about 10 minutes, on a best-effort basis. A slot whose file is missing after this time is a gap.
GRACE_S = 30 * MINUTE_S
# Longest time from a record's start to its end.
AGGREGATION_S = 10 * MINUTE_S
# At most this many gaps of a source are listed, the oldest: they hold completeness back. All others are counted.
LISTED = 300

Interval = tuple[int, int]
"""First and last slot of a run of slots, both included, in epoch seconds."""


def slot_of(epoch_s: int) -> int:
    """Start of the slot that contains a time."""
    return epoch_s - epoch_s % SLOT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots of one flow log.

    Attributes:
        first_s: First slot with a file; None if no file ever arrived.
        missing: The oldest `LISTED` ranges of slots without a file, in order.
        unlisted: Number of missing slots in later ranges, which are not in `missing`.
    """

    first_s: int | None = None
    newest_s: int | None = None
    missing: tuple[Interval, ...] = ()
    unlisted: int = 0

    @property
    def missing_slots(self) -> int:
        return count(self.missing) + self.unlisted

    @property
    def complete_s(self) -> int | None:
        """Newest slot before the first missing slot; None if no file ever arrived."""
        return self.missing[0][0] - SLOT_S if self.missing else self.newest_s

    @property
    def through_s(self) -> int | None:
        """Start time up to which all records have arrived; None if no file ever arrived."""
        complete_s = self.complete_s
        return None if complete_s is None else complete_s + SLOT_S - AGGREGATION_S

    def looked(
        self, seen: Iterable[int], *, from_s: int, until_s: int, horizon_s: int, accepted: Iterable[Interval] = ()
    ) -> Slots:
        """Return the slots as found by a check of all slots from `from_s` on; earlier slots stay unchanged.

        Slots before `horizon_s` or after `until_s` are not expected; `accepted` slots are not gaps. `seen` is in order.
        """
        found = sorted(set(seen))
        first_s = min((each for each in (self.first_s, *found[:1]) if each is not None), default=None)
        if first_s is None:
            return self
        begins_s = max(from_s, first_s, slot_of(horizon_s))
        earlier = [(a, min(b, begins_s - SLOT_S)) for a, b in self.missing if a < begins_s]
        runs = [*without(earlier, [(0, horizon_s)]), *gaps(found, first_s=begins_s, until_s=until_s)]
        missing = joined(without(runs, accepted))
        return Slots(
            first_s=first_s,
            newest_s=max((each for each in (self.newest_s, *found[-1:]) if each is not None), default=None),
            missing=tuple(missing[:LISTED]),
            unlisted=count(missing[LISTED:]),
        )


def gaps(seen: Iterable[int], *, first_s: int, until_s: int) -> Iterator[Interval]:
    """Ranges of slots from `first_s` to `until_s`, both included, that are missing in the sorted `seen`."""
    expected_s = first_s
    for slot_s in seen:
        if slot_s > until_s:
            break
        if slot_s > expected_s:
            yield expected_s, slot_s - SLOT_S
        expected_s = max(expected_s, slot_s + SLOT_S)
    if expected_s <= until_s:
        yield expected_s, until_s


def without(runs: Iterable[Interval], cut: Iterable[Interval]) -> list[Interval]:
    """Ranges of slots minus the slots of other ranges."""
    left = list(runs)
    for first_s, last_s in cut:
        kept: list[Interval] = []
        for a, b in left:
            if b < first_s or a > last_s:
                kept.append((a, b))
                continue
            if a < first_s:
                kept.append((a, slot_of(first_s - 1)))
            if b > last_s:
                kept.append((slot_of(last_s) + SLOT_S, b))
        left = kept
    return left


def joined(runs: Iterable[Interval]) -> list[Interval]:
    """Merge ranges: the same slots in as few ranges as possible, in order."""
    result: list[Interval] = []
    for a, b in sorted(runs):
        if result and a <= result[-1][1] + SLOT_S:
            result[-1] = (result[-1][0], max(b, result[-1][1]))
        else:
            result.append((a, b))
    return result


def count(runs: Iterable[Interval]) -> int:
    """Number of slots in disjoint ranges."""
    return sum((b - a) // SLOT_S + 1 for a, b in runs)


# Each look examines the last two hours again, because files of one slot arrive at different times. Once an hour, a look
# examines a day and all gaps; once a day, it examines everything that is still admissible.
SHALLOW_S = 2 * HOUR_S
DEEP_S = 26 * HOUR_S
DEEP_EVERY_S = HOUR_S
WHOLE_EVERY_S = DAY_S
# One look reads at most this many plans. If more plans remain, the next look reads them, and is complete again.
READS = 20_000
_SHADOWS = 20
# Sums of files without a slot belong to no day, so these sums never expire.
_NEVER_S = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAt:
    """Parameters of the check of one source.

    Attributes:
        slotted: Whether a slot without a file is a gap; True only for flow logs.
        whole: Whether to check all files that can still be metered.
        forgotten_s: Time up to which an operator's ruling forgets the source; 0 without such a ruling.
        ended_s: Time from which a context no longer lists the source; 0 if the source is still listed.
    """

    now_s: int
    slotted: bool
    whole: bool = False
    accepted: Sequence[Interval] = ()
    forgotten_s: int = 0
    ended_s: int = 0


@dataclass(slots=True)
class _Found:
    """Findings of a check so far.

    Attributes:
        newest: Plan of the newest slot read.
        unread: Number of plans left for the next check.
    """

    slots: list[int] = field(default_factory=list)
    newest: Plan | None = None
    unread: int = 0
    reads: int = 0
    shadowed_by: dict[str, int] = field(default_factory=dict)
    day: DaySums | None = None

    def saw_slot(self, slot_s: int | None) -> None:
        if slot_s is not None and (not self.slots or self.slots[-1] != slot_s):
            self.slots.append(slot_s)

    def saw(self, plan: Plan) -> None:
        if self.newest is None or (plan.slot_s or 0) >= (self.newest.slot_s or 0):
            self.newest = plan
        for log, _lines, size in plan.shadowed:
            self.shadowed_by[log] = self.shadowed_by.get(log, 0) + size


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLook:
    """Checks the plans of sources. Slots older than `window_s` can no longer be metered, and do not count as gaps."""

    items: ItemStore
    objects: ObjectStore
    read_plan: Callable[[str], Plan]
    window_s: int
    keep_s: int

    def look(self, state: LogSourceState, at: LookAt) -> LogSourceState:
        """Check a source, store the sums of its plans, and return its new state for the caller to store.

        Raises:
            UnavailableError: A store does not respond. Stored sums stay valid.
        """
        whole = at.whole or state.unlisted > 0 or at.now_s - state.whole_s >= WHOLE_EVERY_S
        deep = whole or at.now_s - state.deep_s >= DEEP_EVERY_S
        begun_s = self._begun_s(at)
        from_s = begun_s if whole else _from_s(state, at.now_s, deep=deep, begun_s=begun_s)
        found = _Found()
        for slot_s, key, digest in self._plans(state, from_s, unslotted=whole):
            found.saw_slot(slot_s)
            self._sum(state, found, slot_s=slot_s, key=key, digest=digest, by_hour=not at.slotted)
        self._keep(found)
        slots = _slots(state, begun_s).looked(
            found.slots,
            from_s=from_s,
            until_s=_until_s(found, at) if at.slotted else 0,
            horizon_s=begun_s,
            accepted=at.accepted,
        )
        looked = self._after(state, found, slots, at)
        return replace(
            looked,
            deep_s=at.now_s if deep and not found.unread else state.deep_s,
            whole_s=at.now_s if whole and not found.unread else state.whole_s,
        )

    def _begun_s(self, at: LookAt) -> int:
        horizon_s = slot_of(max(at.now_s - self.window_s, 0)) + SLOT_S
        return max(horizon_s, slot_of(at.forgotten_s) + SLOT_S if at.forgotten_s else 0)

    def _plans(self, state: LogSourceState, from_s: int, *, unslotted: bool) -> Iterator[tuple[int | None, str, str]]:
        """Slot, key and digest of the plans from a slot on, in order; plans without a slot come last."""
        prefix = source_prefix(state.kind, state.source)
        for info in self.objects.list(prefix, after=prefix + slot_label(from_s)):
            label, _, name = info.key.removeprefix(prefix).partition("/")
            if label == NO_SLOT and not unslotted:
                return
            slot_s = None if label == NO_SLOT else reading.epoch_s_of(label, reading.SLOT_FORM)
            if slot_s is not None or label == NO_SLOT:
                yield slot_s, info.key, name.removesuffix(".json")

    def _sum(
        self, state: LogSourceState, found: _Found, *, slot_s: int | None, key: str, digest: str, by_hour: bool
    ) -> None:
        # Names of files without a slot contain no day, so their sums are split by the first characters of the digest.
        if slot_s is None:
            label = f"{NO_SLOT}-{digest[:2]}"
        else:
            label = hour_label(hour_of(slot_s)) if by_hour else date_of(slot_s)
        if found.day is None or found.day.sums.label != label:
            self._keep(found)
            found.day = self._day(state, label)
        if not found.day.lacks(digest):
            return
        if found.reads >= READS:
            found.unread += 1
            return
        found.reads += 1
        try:
            plan = self.read_plan(key)
        except (ObjectMissingError, LedgerCorruptError):
            # The plan is damaged, or was deleted after the listing; the other plans are summed.
            return
        found.saw(plan)
        found.day.add(plan, digest)

    def _day(self, state: LogSourceState, label: str) -> DaySums:
        item = self.items.get(Table.LEDGER, Key(log_sums_pk(state.kind, state.source), label))
        empty = LogSums(kind=state.kind, source=state.source, label=label)
        return DaySums.of(empty if item is None else LogSums.from_item(item))

    def _keep(self, found: _Found) -> None:
        day, found.day = found.day, None
        if day is not None and day.changed:
            item = day.result().to_item() | {"expires_at": self._expires_at(day.sums.label)}
            self.items.put(Put(table=Table.LEDGER, item=item))

    def _expires_at(self, label: str) -> int:
        if label.startswith(NO_SLOT):
            return _NEVER_S
        return int(datetime.fromisoformat(label[:10]).replace(tzinfo=UTC).timestamp()) + self.keep_s

    def _after(self, state: LogSourceState, found: _Found, slots: Slots, at: LookAt) -> LogSourceState:
        newest = found.newest
        days = sums_between(self.items, state.kind, state.source, from_s=at.now_s - DAY_S, to_s=at.now_s + DAY_S)
        recent = tuple(days)
        shadowed = {**dict.fromkeys(state.shadowed_by, 0), **found.shadowed_by}
        told = (
            state
            if newest is None
            else replace(
                state,
                account_id=newest.account_id or state.account_id,
                region=newest.region or state.region,
                place=newest.place,
                planned_s=max(state.planned_s, newest.planned_s),
            )
        )
        return replace(
            told,
            first_s=slots.first_s,
            newest_s=slots.newest_s,
            missing=slots.missing if at.slotted else (),
            unlisted=slots.unlisted if at.slotted else 0,
            through_s=slots.through_s if at.slotted else None,
            ended_s=_ended_s(slots, at),
            shadowed_by=tuple(sorted(log for log in few(shadowed) if log))[:_SHADOWS],
            recent=tuple((name, _sum_of(name, recent)) for name in RECENT),
            looked_s=at.now_s,
        )


def _sum_of(name: str, parts: Iterable[LogSums]) -> int:
    return sum(each.unclassified_bytes if name == "unclassified_bytes" else each.balance.get(name, 0) for each in parts)


def _from_s(state: LogSourceState, now_s: int, *, deep: bool, begun_s: int) -> int:
    if state.newest_s is None:
        return begun_s
    known_s = min(state.newest_s, state.looked_s)
    if not deep:
        return max(begun_s, slot_of(known_s - SHALLOW_S))
    first_s = state.missing[0][0] if state.missing else known_s
    return max(begun_s, slot_of(min(first_s, known_s, now_s - DEEP_S)))


def _slots(state: LogSourceState, begun_s: int) -> Slots:
    """Known slots of a source; empty for a source that starts anew."""
    if state.newest_s is None or state.newest_s < begun_s:
        return Slots()
    return Slots(first_s=state.first_s, newest_s=state.newest_s, missing=state.missing, unlisted=state.unlisted)


def _until_s(found: _Found, at: LookAt) -> int:
    until_s = slot_of(at.now_s - GRACE_S)
    return min(until_s, slot_of(at.ended_s)) if at.ended_s else until_s


def _ended_s(slots: Slots, at: LookAt) -> int:
    """Time when the source ended; 0 if the source is active, or has delivered again since it was forgotten."""
    if at.ended_s:
        return at.ended_s
    return at.forgotten_s if slots.newest_s is None else 0
