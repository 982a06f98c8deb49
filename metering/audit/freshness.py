"""Freshness: the time up to which reports are complete, measured from the queues and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger import commits
from metering.ledger.notes import log_sources, watch
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.stores.clock import Clock
    from metering.stores.queues import Queue, QueueFacts, Redelivery


def log_holds(known: log_sources.LogFigures, *, now_s: int) -> list[watch.Hold]:
    """Holds on completeness by a stage's log sources, from the coverage job's figures; a stopped job is also a hold."""
    holds: list[watch.Hold] = []
    seen_s = min(known.looked_s, now_s)
    if known.held_s is not None:
        gaps = known.holding > 0
        holds.append(
            watch.Hold(
                holder=watch.Holder.LOG_GAPS if gaps else watch.Holder.LOG_DELAY,
                since_s=min(known.held_s, seen_s),
                count=known.holding,
                name=known.first if gaps else "",
                place=known.place if gaps else "",
            )
        )
    if known.settles_s:
        holds.append(watch.Hold(holder=watch.Holder.LOG_SETTLING, since_s=max(seen_s - known.settles_s, 0)))
    return holds


# The watch measures once a minute. Older measurements are not presented as current.
STALE_S = 5 * MINUTE_S
# The roll-up books every batch within this time, or an alarm fires.
ROLLED_UP_S = 15 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """A cause that holds back completeness.

    Attributes:
        what: In words.
        since_s: Time beyond which completeness cannot advance, in epoch seconds; None if unknown.
        cure: Command that removes the cause, with its region and stage.
        usual: Whether the hold is normal and needs no attention.
    """

    what: str
    since_s: int | None
    cure: str
    usual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Time up to which the count is complete, and what holds it back.

    Attributes:
        through_s: Everything that is known to be sent before this time is counted, epoch seconds; 0 if unknown.
        held_back_by: The earliest first.
    """

    through_s: int
    held_back_by: tuple[HeldBack, ...] = ()


def complete_of(known: watch.Completeness, *, now_s: int, region: str, stage: str) -> Complete:
    """Convert a stored measurement to an answer at `now_s`. An earlier version may have stored the measurement."""
    place = f"--region {region} --stage {stage}"
    redeploy = f"metering region add {region} --stage {stage} --redeploy"
    found = [_told(hold, place, now_s) for hold in known.held_by]
    if known.measured_s is None:
        # A watch that stored no measurement time runs an earlier version.
        what = "a watch of an earlier version, which does not say why or when it measured"
        found.append(HeldBack(what=what, since_s=known.through_s or None, cure=redeploy))
    elif now_s - known.measured_s > STALE_S:
        age = duration(now_s - known.measured_s)
        what = f"the watch, which has not measured for {age}"
        found.append(HeldBack(what=what, since_s=known.measured_s, cure=redeploy))
    return Complete(through_s=known.through_s, held_back_by=tuple(found))


def merged(answers: Mapping[str, Complete]) -> Complete:
    """Merge the answers of several regions into the earliest time and the holds of all regions."""
    held = [
        replace(each, what=f"{region}: {each.what}") if len(answers) > 1 else each
        for region, answer in answers.items()
        for each in answer.held_back_by
    ]
    through_s = min((answer.through_s for answer in answers.values()), default=0)
    return Complete(through_s=through_s, held_back_by=tuple(sorted(held, key=lambda each: each.since_s or 0)))


_WAIT = "metering verify --wait 5m"
# Holder -> the holder's singular and plural noun, and the command that resolves it.
_WORDS: dict[str, tuple[str, str, str]] = {
    watch.Holder.QUEUE: ("message in the ingest queue", "messages in the ingest queue", _WAIT),
    watch.Holder.HELD_MESSAGES: (
        "message that was received three times or more",
        "messages that were received three times or more",
        _WAIT,
    ),
    watch.Holder.PUT_BACK: ("", "dead letters that were put back and have no verdict yet", _WAIT),
    watch.Holder.DEAD_LETTERS: ("dead letter", "dead letters", "metering dlq redrive"),
    watch.Holder.WAITING_COMMITS: (
        "commit that waits for the roll-up",
        "commits that wait for the roll-up",
        "metering compact --due",
    ),
    watch.Holder.SOURCE_GAPS: ("", "numbers that a source misses", "metering sources --gaps"),
    watch.Holder.LOG_GAPS: (
        "flow log whose files are missing",
        "flow logs whose files are missing",
        "metering logs coverage",
    ),
    watch.Holder.LOG_DELAY: ("", "flow logs, whose files come about ten minutes late", "metering logs coverage"),
    watch.Holder.LOG_SETTLING: (
        "",
        "logs of S3 or CloudFront, whose lines may come a day late",
        "metering logs coverage",
    ),
}
_USUAL = frozenset({watch.Holder.LOG_DELAY.value, watch.Holder.LOG_SETTLING.value})


def _told(hold: watch.Hold, place: str, now_s: int) -> HeldBack:
    # A watch that runs a later version may report a holder that this version does not know.
    later = (hold.holder.replace("_", " "),) * 2
    one, several, cure = _WORDS.get(hold.holder, (*later, "metering status"))
    words = several if hold.count != 1 else one or several
    what = f"{hold.count:,} {words}" if hold.count and one else words
    if hold.name:
        what = f"{what}, {'first ' if hold.count > 1 else ''}{hold.name}"
    if hold.place:
        # The range starts one hour earlier, because a file also holds flows that ended in its slot.
        hours = (max(now_s - hold.since_s, 0) + 2 * HOUR_S - 1) // HOUR_S
        cure = f"metering ingest {hold.place} --since {hours}h"
    usual = hold.holder in _USUAL or (
        hold.holder == watch.Holder.WAITING_COMMITS and now_s - hold.since_s < ROLLED_UP_S
    )
    return HeldBack(what=what, since_s=hold.since_s or None, cure=f"{cure} {place}", usual=usual)


def duration(seconds: int) -> str:
    """Duration in its largest whole unit, such as `4 hours`."""
    for size_s, unit in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= 2 * size_s or (seconds >= size_s and seconds % size_s == 0):
            count = seconds // size_s
            return f"{count:,} {unit}" + ("s" if count != 1 else "")
    return f"{seconds} s"


def sentences(held: HeldBack) -> tuple[str, str]:
    """Two lines for people: the cause of the hold with its time; and the command that cures it, ready to copy."""
    since = f"since {rfc3339(held.since_s)}" if held.since_s is not None else "for a time that is not known"
    return f"Held back by {held.what}, {since}.", f"Cure: {held.cure}"


# SQS reports a queue's depth correctly one minute after the last send (`ApproximateNumberOfMessages`).
DEPTH_DELAY_S = MINUTE_S
# The metric of the oldest message's age may lag behind by this much.
AGE_DELAY_S = 10 * MINUTE_S
# One search reads at most this many notes. More notes indicate an incident, in which the previous result stays valid.
NOTES_READ = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Measurements of both queues.

    Attributes:
        memory: Stored history of the queues, including this measurement.
        waiting, dead: Number of messages in the ingest queue and in the dead-letter queue, including hidden messages.
        held: Number of notes of messages that were received three times or more and may still be in the queue.
        held_s: Sending time of the oldest message in these notes.
    """

    memory: watch.QueueMemory
    waiting: int
    dead: int
    held: int
    held_s: int | None

    @property
    def bound_s(self) -> int:
        """Latest `complete_through` that this measurement can prove, because queue depths lag."""
        return max(self.memory.looked_s - DEPTH_DELAY_S, 0)


def _unseen(looked: Looked) -> watch.Holder:
    if looked.dead:
        return watch.Holder.DEAD_LETTERS
    return watch.Holder.HELD_MESSAGES if looked.memory.unseen else watch.Holder.PUT_BACK


# One measurement reads at most this many waiting commits, which is ten minutes of the target's peak.
WAITING_READ = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Result of one measurement; the next measurement uses `queues`."""

    known: watch.Completeness
    waiting: WaitingNow
    queues: watch.QueueMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingNow:
    """Commits that wait for the roll-up: accepted, and in no report yet.

    Attributes:
        count: Number of commits, at most `WAITING_READ` + 1.
        oldest_ms: Time of the oldest commit; None without commits.
        sent_s: Time before which everything that was sent is rolled up, epoch seconds; None without commits.
    """

    count: int = 0
    oldest_ms: int | None = None
    sent_s: int | None = None

    @property
    def all_read(self) -> bool:
        """Whether all were read. A longer list is an incident: completeness does not advance."""
        return self.count <= WAITING_READ

    @classmethod
    def of(cls, entries: Iterable[commits.Waiting]) -> WaitingNow:
        """Summarise a list of waiting commits, up to the read limit."""
        read = list(islice(entries, WAITING_READ + 1))
        sent_ms = min((entry.sent_at_ms for entry in read), default=None)
        return cls(
            count=len(read),
            oldest_ms=min((entry.created_at_ms for entry in read), default=None),
            sent_s=None if sent_ms is None else sent_ms // 1_000,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """Measures `complete_through`. The watch measures every minute; reports use the stored value.

    Attributes:
        region, stage: Values of the options in the `cure` commands.
        shards: Compaction shards of the stage.
        window_s: Admission window. Batches for older hours would be refused, so missing batches cannot change them.
    """

    items: ItemStore
    ingest: Queue
    dead: Queue
    queue_facts: QueueFacts
    clock: Clock
    region: str
    stage: str
    shards: int
    window_s: int

    def answer(self) -> Complete:
        """Answer from the watch's last measurement, or measure now if there is none.

        An old measurement is never presented as fresh: the answer then has the stopped watch as a hold.
        """
        known = self._last() or self.measure().known
        return complete_of(known, now_s=self.clock.now_ms() // 1_000, region=self.region, stage=self.stage)

    def keep(self) -> WaitingNow:
        """Measure and store the result for reports. Only the watch calls this."""
        measured = self.measure()
        self.items.put(Put(table=Table.LEDGER, item=measured.queues.to_item()))
        self.items.put(Put(table=Table.LEDGER, item=measured.known.to_item()))
        return measured.waiting

    def measure(self) -> Measured:
        """Measure, and store nothing.

        The result is the earliest time of four things: messages that may still be queued, batches missing from sources,
        commits waiting for the roll-up, and files that log sources have not delivered. An hour that no run has
        published holds nothing back: its rows are in staging, which every report reads. The queues are read first, so
        that the ledger already has every message that has left the queues.
        """
        looked = self._look()
        waiting = WaitingNow.of(commits.waiting_commits(self.items, self.shards))
        now_s = looked.memory.looked_s
        holds = [*self._queued(looked), *_waiting(waiting, self._last()), *self._gaps(now_s), *self._logs(now_s)]
        holds = sorted((hold for hold in holds if hold.since_s < looked.bound_s), key=lambda hold: hold.since_s)
        return Measured(
            known=watch.Completeness(
                through_s=min([looked.bound_s, *(hold.since_s for hold in holds)]),
                held_by=tuple(holds),
                measured_s=now_s,
            ),
            waiting=waiting,
            queues=looked.memory,
        )

    def _look(self) -> Looked:
        """Measure the queues in the order in which messages pass through them; add the result to the history."""
        now_s = self.clock.now_ms() // 1_000
        redelivery: Redelivery | None = None
        waiting = self.ingest.depth().total
        empty = waiting == 0
        empty_s = now_s if empty else self._last_empty_s()
        left_s = noted_from_s = max(empty_s - DEPTH_DELAY_S, 0)
        if not empty:
            redelivery = self.queue_facts.redelivery()
            age_s = self.queue_facts.oldest_age_s()
            left_s = left_s if age_s is None else max(left_s, now_s - age_s - AGE_DELAY_S)
            # A message noted before this time became visible again before the oldest remaining message was sent, so it
            # was received again or is a dead letter.
            noted_from_s = max(noted_from_s, left_s - redelivery.visibility_s)
        held = self._held(noted_from_s)
        dead = self.dead.depth().total
        look = watch.QueueLook(
            now_s=now_s,
            left_s=left_s,
            empty=empty,
            ended_s=self.clock.now_ms() // 1_000,
            held_s=min((note.sent_s for note in held), default=None),
            unseen=dead > 0 or len(held) > NOTES_READ,
        )
        return Looked(
            memory=self._remembered(look, redelivery), waiting=waiting, dead=dead, held=len(held), held_s=look.held_s
        )

    def _queued(self, looked: Looked) -> list[watch.Hold]:
        """Holds on completeness by queued messages: everything sent before the earliest hold has its verdict."""
        memory = looked.memory
        found = [watch.Hold(holder=watch.Holder.QUEUE, since_s=memory.left_s, count=looked.waiting)]
        if looked.held_s is not None:
            found.append(watch.Hold(holder=watch.Holder.HELD_MESSAGES, since_s=looked.held_s, count=looked.held))
        if not memory.calm:
            since_s = memory.unseen_since_s(longest_life_s=self.queue_facts.longest_retention_s())
            found.append(watch.Hold(holder=_unseen(looked), since_s=since_s, count=looked.dead))
        return [hold for hold in found if hold.since_s < looked.bound_s]

    def _remembered(self, look: watch.QueueLook, redelivery: Redelivery | None) -> watch.QueueMemory:
        last = read_note(self.items, watch.QUEUES_KEY, watch.QueueMemory.from_item)
        return watch.QueueMemory.first(look) if last is None else last.after(look, blind_s=self._blind_s(redelivery))

    def _last_empty_s(self) -> int:
        state = read_note(self.items, watch.WATCH_KEY, watch.WatchState.from_item)
        return 0 if state is None else state.queue_empty_s

    def _held(self, noted_from_s: int) -> list[watch.HeldMessage]:
        notes = self.items.query(Table.LEDGER, watch.HELD_PK, sk_from=rfc3339(max(noted_from_s, 0)))
        return [watch.HeldMessage.from_item(item) for item in islice(notes, NOTES_READ + 1)]

    def _blind_s(self, redelivery: Redelivery | None) -> int:
        """Longest time that a message stays queued after its age is no longer reported: each receive hides it again."""
        if redelivery is None:
            return 0
        if redelivery.max_receives is None:
            return self.queue_facts.longest_retention_s()
        receives = max(redelivery.max_receives - watch.HELD_FROM_RECEIVE + 1, 1)
        return receives * redelivery.visibility_s + AGE_DELAY_S

    def _gaps(self, now_s: int) -> list[watch.Hold]:
        known = read_note(self.items, RECONCILIATION_KEY, Reconciliation.from_item)
        if known is None or known.gaps_since_s is None:
            return []
        return [watch.Hold(holder=watch.Holder.SOURCE_GAPS, since_s=max(known.gaps_since_s, now_s - self.window_s))]

    def _logs(self, now_s: int) -> list[watch.Hold]:
        known = read_note(self.items, log_sources.LOG_SOURCES_KEY, log_sources.LogFigures.from_item)
        return [] if known is None else log_holds(known, now_s=now_s)

    def _last(self) -> watch.Completeness | None:
        return read_note(self.items, watch.COMPLETENESS_KEY, watch.Completeness.from_item)


def _waiting(waiting: WaitingNow, last: watch.Completeness | None) -> list[watch.Hold]:
    """P27: reports include everything committed before the last run of the roll-up."""
    if waiting.sent_s is None:
        return []
    since_s = waiting.sent_s
    if not waiting.all_read:
        since_s = min(since_s, 0 if last is None else last.through_s)
    return [watch.Hold(holder=watch.Holder.WAITING_COMMITS, since_s=since_s, count=waiting.count)]
