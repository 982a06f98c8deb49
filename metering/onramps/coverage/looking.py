"""A look at the plans of one source: which slots have a file, and the sums of plans that were not summed yet.

Plans lie in the order of their slots, so a look is a listing from a slot on: one LIST for up to 1,000 plans. It reads
only plans that no sum names, so nothing is read twice. Memory is that of the names of one day.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.onramps.coverage.slots import SLOT_S, Slots, due_until, slot_of
from metering.onramps.coverage.sums import DaySums, few, keep_sums, label_of, read_sums, recent_sums, sums_between
from metering.onramps.plans import NO_SLOT, slot_label, source_prefix
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.ledger.notes.log_sources import LogSourceState
    from metering.onramps.coverage.slots import Interval
    from metering.onramps.plans import Plan
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

# A look sees the last two hours anew: files of one slot come at their own times. Once an hour it sees a day and all
# gaps, once a day everything that can still be metered.
SHALLOW_S = 2 * HOUR_S
DEEP_S = 26 * HOUR_S
DEEP_EVERY_S = HOUR_S
WHOLE_EVERY_S = DAY_S
# Most plans that one look reads. Those that are left are read by the next one, which is whole again.
READS = 20_000
_SHADOWS = 20
# Sums of files without a slot name no day, so they have no day on which they are too old.
_NEVER_S = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAt:
    """What a look at one source goes by.

    Attributes:
        now_s: The time now, epoch seconds.
        slotted: Whether a slot without a file is a gap: flow logs.
        whole: Look at everything that can still be metered.
        accepted: Runs of slots that are no gaps.
        forgotten_s: Time up to which a person forgot the source; 0 if nobody did.
        ended_s: Time from which a context does not list the source any more; 0 if it goes on.
    """

    now_s: int
    slotted: bool
    whole: bool = False
    accepted: Sequence[Interval] = ()
    forgotten_s: int = 0
    ended_s: int = 0


@dataclass(slots=True)
class _Found:
    """What a look has found so far.

    Attributes:
        slots: Slots with a file, in order.
        newest: Plan of the newest slot that was read.
        unread: Plans that were left for the next look.
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
    """Looks at the plans of sources.

    Attributes:
        read_plan: The plan at a key.
        window_s: Older slots can no longer be metered, and are no gaps.
        keep_s: Life of the notes.
    """

    items: ItemStore
    objects: ObjectStore
    read_plan: Callable[[str], Plan]
    window_s: int
    keep_s: int

    def look(self, state: LogSourceState, at: LookAt) -> LogSourceState:
        """Look at a source, store the sums of its plans, and return its new state, which the caller stores.

        Raises:
            UnavailableError: A store gives no answer. Sums that were stored are right.
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
        """The first slot that counts."""
        horizon_s = slot_of(max(at.now_s - self.window_s, 0)) + SLOT_S
        return max(horizon_s, slot_of(at.forgotten_s) + SLOT_S if at.forgotten_s else 0)

    def _plans(self, state: LogSourceState, from_s: int, *, unslotted: bool) -> Iterator[tuple[int | None, str, str]]:
        """Slot, key and digest of the plans from a slot on, in order; those without a slot come last."""
        prefix = source_prefix(state.kind, state.source)
        for info in self.objects.list(prefix, after=prefix + slot_label(from_s)):
            label, _, name = info.key.removeprefix(prefix).partition("/")
            if label == NO_SLOT and not unslotted:
                return
            slot_s = None if label == NO_SLOT else parse_slot(label)
            if slot_s is not None or label == NO_SLOT:
                yield slot_s, info.key, name.removesuffix(".json")

    def _sum(
        self, state: LogSourceState, found: _Found, *, slot_s: int | None, key: str, digest: str, by_hour: bool
    ) -> None:
        # Names of files without a slot say nothing of a day: the first characters of the digest part them.
        label = f"{NO_SLOT}-{digest[:2]}" if slot_s is None else label_of(slot_s, by_hour=by_hour)
        if found.day is None or found.day.sums.label != label:
            self._keep(found)
            found.day = DaySums.of(read_sums(self.items, state.kind, state.source, label))
        if not found.day.lacks(digest):
            return
        if found.reads >= READS:
            found.unread += 1
            return
        found.reads += 1
        try:
            plan = self.read_plan(key)
        except (ObjectMissingError, LedgerCorruptError):
            # Gone since it was listed, or damaged: the others are summed.
            return
        found.saw(plan)
        found.day.add(plan, digest)

    def _keep(self, found: _Found) -> None:
        day, found.day = found.day, None
        if day is not None and day.changed:
            keep_sums(self.items, day.result(), expires_at=self._expires_at(day.sums.label))

    def _expires_at(self, label: str) -> int:
        if label.startswith(NO_SLOT):
            return _NEVER_S
        return int(datetime.fromisoformat(label[:10]).replace(tzinfo=UTC).timestamp()) + self.keep_s

    def _after(self, state: LogSourceState, found: _Found, slots: Slots, at: LookAt) -> LogSourceState:
        newest = found.newest
        recent = sums_between(self.items, state.kind, state.source, from_s=at.now_s - DAY_S, to_s=at.now_s + DAY_S)
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
            recent=recent_sums(recent),
            looked_s=at.now_s,
        )


def parse_slot(label: str) -> int | None:
    """The slot of a label such as `20261124T1305Z`; None of any other text."""
    try:
        return int(datetime.strptime(label, "%Y%m%dT%H%MZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _from_s(state: LogSourceState, now_s: int, *, deep: bool, begun_s: int) -> int:
    if state.newest_s is None:
        return begun_s
    known_s = min(state.newest_s, state.looked_s)
    if not deep:
        return max(begun_s, slot_of(known_s - SHALLOW_S))
    first_s = state.missing[0][0] if state.missing else known_s
    return max(begun_s, slot_of(min(first_s, known_s, now_s - DEEP_S)))


def _slots(state: LogSourceState, begun_s: int) -> Slots:
    """What was known of the slots; nothing of a source that begins anew."""
    if state.newest_s is None or state.newest_s < begun_s:
        return Slots()
    return Slots(first_s=state.first_s, newest_s=state.newest_s, missing=state.missing, unlisted=state.unlisted)


def _until_s(found: _Found, at: LookAt) -> int:
    """The newest slot that should have a file."""
    until_s = due_until(at.now_s)
    return min(until_s, slot_of(at.ended_s)) if at.ended_s else until_s


def _ended_s(slots: Slots, at: LookAt) -> int:
    """When the source ended; 0 if it goes on, or came again after it was forgotten."""
    if at.ended_s:
        return at.ended_s
    return at.forgotten_s if slots.newest_s is None else 0
