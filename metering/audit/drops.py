"""Lists `drop/` to find objects that S3 never announced: a lost announcement leaves no other trace.

The batch id is derived from the object, so the ledger shows whether an object became a batch. A daily pass checks the
objects put since the last pass, one slice of the listing per tick. Announcing an object again is safe, because its
batch has the same id.

Announcements refused because of their sender are recorded in quarantine. Quarantine is read only where senders may be
refused, at most once per tick, beginning with the oldest checked object. If the time is too short to read quarantine,
the pass checks no new objects and does not advance.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from metering.audit.conservation import quarantined_claims
from metering.ledger import markers
from metering.ledger.notes import access
from metering.ledger.notes.checks import DROPS_KEY, DroppedObjects, LostDrop
from metering.ledger.notes.watch import COMPLETENESS_KEY, Completeness, Holder
from metering.ledger.runs import OutOfTimeError
from metering.stores.clock import Clock, Deadline, in_blocks, side_by_side
from metering.stores.objects import DROP_PREFIX, ObjectInfo, ObjectStore
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.intake.dropped import DropIds
    from metering.stores import queues

PASS_EVERY_S = DAY_S
# The first pass in a region covers objects that are at most this old.
_FIRST_LOOK_S = 2 * DAY_S
# S3 sends most notifications within a second, and sometimes only after a minute or longer (S3 user guide).
SETTLES_S = 15 * MINUTE_S
# The clock is read after each slice of this many objects.
_SLICE = 1_000
# In a tick, a pass starts slices for this long, and starts none once less time than the reserve is left.
_TICK_MS = 60_000
_RESERVE_MS = 30_000
# The stored result names at most this many lost objects.
NAMED = 100
# Holders that never contain a notification from S3.
_NO_MESSAGES = frozenset(
    {Holder.WAITING_COMMITS, Holder.SOURCE_GAPS, Holder.LOG_GAPS, Holder.LOG_DELAY, Holder.LOG_SETTLING}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropCheck:
    """Finds and announces lost objects.

    Attributes:
        drops: Batch ids of the objects.
        threads: Number of objects read in parallel.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    drops: DropIds
    threads: int = 1

    def known(self) -> DroppedObjects:
        """Result of the last passes."""
        return read_note(self.items, DROPS_KEY, DroppedObjects.from_item) or DroppedObjects()

    def run(self, deadline: Deadline) -> DroppedObjects:
        """Resume today's pass within the time limit, and check the already known lost objects again."""
        known = self.known()
        upto_s = self._upto_s(known)
        if not known.lost and not upto_s:
            return known
        known = replace(known, lost=tuple(self._still_there(self._unknown(known.lost))))
        if upto_s and not known.upto_s:
            known = self._begun(known, upto_s)
        refused = self._refused(known, deadline)
        # Lost objects stay lost, so the search may wait for the next tick.
        with suppress(OutOfTimeError):
            known = replace(known, lost=tuple(refused.left_out(known.lost)))
        if known.upto_s:
            known = self._passed(known, refused, deadline)
        known = replace(known, refused_to_s=max(known.refused_to_s, refused.read_to_s))
        self.items.put(Put(table=Table.LEDGER, item=known.to_item()))
        return known

    def _refused(self, known: DroppedObjects, deadline: Deadline) -> _Refused:
        """Reader of the quarantine for the known lost objects, and for those of the current pass."""

        def limit() -> None:
            if deadline.remaining_ms() <= _RESERVE_MS:
                raise OutOfTimeError

        since_s = [max(each.put_s, known.refused_to_s) for each in known.lost]
        if known.upto_s:
            since_s.append(known.from_s)
        return _Refused(check=self, since_s=min(since_s, default=0), limit=limit)

    def _upto_s(self, known: DroppedObjects) -> int:
        """End of the time range of the current or due pass; 0 if no pass is due."""
        if known.upto_s or self._now_s() < known.began_s + PASS_EVERY_S:
            return known.upto_s
        upto_s = self._judgeable_s()
        return upto_s if upto_s > known.seen_to_s else 0

    def look(self, *, since_s: int) -> list[LostDrop]:
        """Lost objects by key, for people: found by passes, or newer but old enough to be checked. Keeps nothing."""
        found = self._unknown(_put_between(self.objects.list(DROP_PREFIX), since_s, self._judgeable_s()))
        named = [each for each in self._still_there(self._unknown(self.known().lost)) if each.put_s >= since_s]
        lost = sorted({*found, *named}, key=lambda each: each.key)
        oldest_s = min((each.put_s for each in lost), default=0)
        return _Refused(check=self, since_s=oldest_s, limit=lambda: None).left_out(lost)

    def announce(self, lost: Sequence[LostDrop], queue: queues.Queue) -> list[LostDrop]:
        """Announce objects again in S3's format; returns the objects that the queue did not accept."""
        refused = queue.send_many([announcement(self.drops.bucket, each) for each in lost])
        return [lost[position] for position in refused]

    def _begun(self, known: DroppedObjects, upto_s: int) -> DroppedObjects:
        # Lost objects beyond the named ones are counted, and are found again later.
        from_s = known.from_s if known.more else known.seen_to_s
        now_s = self._now_s()
        return replace(known, more=0, from_s=from_s or now_s - _FIRST_LOOK_S, began_s=now_s, upto_s=upto_s, after="")

    def _passed(self, known: DroppedObjects, refused: _Refused, deadline: Deadline) -> DroppedObjects:
        """Check slices of the listing until its end or the deadline."""
        end_ms = self.clock.now_ms() + _TICK_MS
        for part in in_blocks(self.objects.list(DROP_PREFIX, after=known.after), _SLICE):
            unknown = self._unknown(_put_between(part, known.from_s, known.upto_s))
            try:
                found = refused.left_out(unknown)
            except OutOfTimeError:
                return known
            new = [each for each in found if each not in known.lost]
            room = max(NAMED - len(known.lost), 0)
            known = replace(
                known, lost=(*known.lost, *new[:room]), more=known.more + len(new[room:]), after=part[-1].key
            )
            if self.clock.now_ms() >= end_ms or deadline.remaining_ms() <= _RESERVE_MS:
                return known
        return replace(known, seen_to_s=known.upto_s, upto_s=0, after="", finished_s=self._now_s())

    def _unknown(self, objects: Sequence[LostDrop]) -> list[LostDrop]:
        keys = {each: {markers.marker_key(name) for name in ids} for each, ids in self.batch_ids(objects).items()}
        found = self.items.get_many(Table.LEDGER, list(set().union(*keys.values())))
        return [each for each in objects if keys[each].isdisjoint(found)]

    def _still_there(self, lost: Sequence[LostDrop]) -> list[LostDrop]:
        there = []
        for each in lost:
            # The caller may list objects but not read them. A listing by the key's prefix begins with the key itself.
            found = next(iter(self.objects.list(each.key)), None)
            # The ETag shows whether the object was replaced. A deleted object cannot become a batch.
            if found is not None and (found.key, found.etag.strip('"')) == (each.key, each.etag):
                there.append(each)
        return there

    def _judgeable_s(self) -> int:
        """Time before which every announcement that S3 delivered has a verdict."""
        known = read_note(self.items, COMPLETENESS_KEY, Completeness.from_item)
        if known is None:
            return 0
        held = [hold.since_s for hold in known.held_by if hold.holder not in _NO_MESSAGES]
        return min([known.measured_s or known.through_s, *held]) - SETTLES_S

    def batch_ids(self, objects: Sequence[LostDrop]) -> dict[LostDrop, tuple[str, ...]]:
        """Ids under which each object may have become a batch."""

        def ids(each: LostDrop) -> tuple[str, ...]:
            return self.drops.of_object(each.key, each.etag)

        return dict(zip(objects, side_by_side(ids, objects, threads=self.threads), strict=True))

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000


@dataclass(slots=True, kw_only=True)
class _Refused:
    """Claimed ids of batches quarantined because of their sender. Read on first use.

    Attributes:
        since_s: Quarantine objects older than this (epoch seconds) are skipped: they concern no checked object.
        limit: Called before each listed object. It may raise.
        read_to_s: Time up to which quarantine was read; 0 if it was not read.
    """

    check: DropCheck
    since_s: int
    limit: Callable[[], None]
    read_to_s: int = 0
    _ids: frozenset[str] | None = None

    def left_out(self, unknown: Sequence[LostDrop]) -> list[LostDrop]:
        """Return the objects except those whose announcements were refused.

        Raises:
            OutOfTimeError: The remaining time is too short to read quarantine.
        """
        if not unknown:
            return []
        if self._ids is None:
            self._ids = self._read()
        ids = self.check.batch_ids(unknown)
        return [each for each in unknown if self._ids.isdisjoint(ids[each])]

    def _read(self) -> frozenset[str]:
        check = self.check
        if not access.may_be_refused(check.items):
            return frozenset()
        began_s = check.clock.now_ms() // 1000
        claims = quarantined_claims(check.objects, since_s=self.since_s, threads=check.threads, limit=self.limit)
        ids = frozenset(claim.batch_id for claim in claims)
        # Clocks differ, so an object created now may be listed later.
        self.read_to_s = began_s - SETTLES_S
        return ids


def _put_between(objects: Iterable[ObjectInfo], from_s: int, upto_s: int) -> list[LostDrop]:
    return [
        LostDrop(key=each.key, etag=each.etag.strip('"'), put_s=each.modified_s)
        for each in objects
        if from_s <= each.modified_s < upto_s
    ]


def announcement(bucket: str, dropped: LostDrop) -> str:
    """S3 event notification of an object, with only the members that the service reads."""
    place = {"bucket": {"name": bucket}, "object": {"key": quote_plus(dropped.key, safe="/"), "eTag": dropped.etag}}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": place}]})
