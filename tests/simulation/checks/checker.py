"""Checks of a history: each minute, its reported completeness; at rest, what readers of the region see."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from metering.audit.freshness import Freshness
from metering.audit.hour_check import Figures, OneHour
from metering.hours import month_of, rfc3339
from metering.lake.view import LakeView
from metering.ledger.markers import Marker, conflict_key, marker_key
from metering.ledger.notes.watch import WatchState
from metering.ledger.partitions import WAITING
from metering.ledger.usage.kinds import KindNames, all_accounts
from metering.ledger.usage.reading import UsageReading
from metering.ledger.usage.region import as_booked, region_start, region_sums
from metering.quarantine.documents import decode_records
from metering.reports.query import TraceParameters
from metering.reports.source import ReportSource
from metering.reports.trace import Tracer
from metering.rollup.as_of_now import UsageNow
from metering.stores.objects import commit_of_refused_records, lake_prefix, quarantined_batch_key
from metering.stores.queues import QueueDepth, Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import REGION, ZERO, Total
from tests.simulation.checks.restored import late_files
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import MINUTE_MS
from tests.simulation.region.world import MAX_RECEIVES, VISIBILITY_MS, Message, World
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import PlainFrozenFiles
from tests.support.memory.rows import PlainLake, PlainRow, beside_rows, decode_rows, encode_rows, plain_usage
from tests.support.stage import ADMISSION, STAGE
from tests.support.usage_items import region_of, usage_of
from tests.support.written_down import forget_markers, written_down

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.ledger.markers import MarkerLine
    from metering.settings import Settings
    from tests.simulation.region.ports import Process
    from tests.simulation.sent.senders import SentBy
    from tests.simulation.sent.traffic import SentContent


@dataclass(slots=True)
class Findings:
    """Violations, and the number of dangerous situations that ended well.

    Attributes:
        lost: Sent contents that have no verdict and are not in flight, or are accepted but not fully visible.
        doubled: Contents that are visible or counted more than once.
        unexpected: Contents that are visible or counted, but were never accepted.
        recovered: Number of contents that were delivered more than once.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    recovered: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.unexpected)

    def __str__(self) -> str:
        return f"lost {self.lost}, doubled {self.doubled}, unexpected {self.unexpected}"


def check(world: World, rows: list[PlainRow]) -> Findings:
    """Compare the sent batches with the visible rows, the usage and the verdicts."""
    findings = Findings()
    _check_rows(world, rows, findings)
    _check_usage(world, rows, findings)
    _check_region(world, findings)
    _check_markers(world, rows, findings)
    _check_written_down(world, findings)
    for content in world.contents.values():
        if {content.batch_id, content.retry_of} & world.watch.held:
            continue
        senders = world.queue.senders.get(content.name, {})
        foreign = [sender for sender in senders if not world.senders.may_send(content, sender)]
        if len(foreign) < len(senders):
            _check_verdict(world, content, findings)
        _check_foreign(world, content, foreign, findings)
    findings.recovered = sum(world.queue.delivered.get(name, 0) > 1 for name in world.contents)
    return findings


def lake_rows(world: World) -> list[PlainRow]:
    """Every row below `lake/`, as read by an engine that only lists the prefix.

    Without files of a ledger that a restore replaced, if they came late: `metering restore finish` takes them away.
    """
    rows: list[PlainRow] = []
    late = late_files(world)
    world.faults.histogram["late lake file of a ledger before"] += len(late)
    for key in world.objects.keys("lake/"):
        if key in late:
            continue
        body = world.objects.peek(key)
        found = decode_rows(body or b"")
        if any(not key.startswith(lake_prefix(row.booked_s)) for row in found):
            raise AssertionError(f"{key} has rows of another hour")
        rows += found
    return rows


def _check_rows(world: World, rows: list[PlainRow], findings: Findings) -> None:
    counts = Counter(row.resource_id for row in rows)
    findings.doubled += [name for name, count in counts.items() if count > 1]
    visible: dict[str, set[int]] = {}
    # Of batches that a restore could not decide, some content or none is counted.
    held = {
        (content.retries or content).name
        for content in world.contents.values()
        if {content.batch_id, content.retry_of} & world.watch.held
    }
    for row in rows:
        name, _, position = row.resource_id.partition("/")
        if name in held:
            continue
        visible.setdefault(name, set()).add(int(position))
        sent = (_metered(world, world.contents[name]) or world.contents[name]).rows[int(position)]
        if row != sent and (row[1:] != sent[1:] or not _booked_right(world, row, sent)):
            findings.unexpected.append(f"{row.resource_id} is not as it was sent")
    for content in world.contents.values():
        if content.retries is None and content.name not in held:
            _check_content(world, content, visible.get(content.name, set()), findings)


def _check_content(world: World, content: SentContent, seen: set[int], findings: Findings) -> None:
    metered = _metered(world, content)
    if metered is None:
        findings.unexpected += [f"{content.name}/{position} was not accepted" for position in sorted(seen)]
    elif seen not in _possible(world, metered):
        findings.lost.append(f"{content.name}: {len(seen)} of {len(content.rows)} rows are visible")
    elif len(seen) < len(content.rows):
        _check_refused(world, metered, seen, findings)
    if len(_accepted_as(world, content)) > 1:
        findings.doubled.append(f"{content.name}: accepted under its id and as a retry")


def _accepted_as(world: World, content: SentContent) -> list[SentContent]:
    """Those of the content and its retries that are accepted."""
    retries = [each for each in world.contents.values() if each.retries is content]
    return [
        each for each in (content, *retries) if world.watch.accepted.get(each.batch_id, ("",))[0] == each.content_hash
    ]


def _metered(world: World, content: SentContent) -> SentContent | None:
    return next(iter(_accepted_as(world, content)), None)


def _booked_right(world: World, row: PlainRow, sent: PlainRow) -> bool:
    own_month = month_of(sent.booked_s)
    return row.booked_s == sent.booked_s or (own_month in world.watch.closing and month_of(row.booked_s) != own_month)


def _possible(world: World, content: SentContent) -> list[set[int]]:
    """For each SentTimestamp of the content's messages: positions of the rows that admission could have admitted."""
    return [
        {n for n, row in enumerate(content.rows) if ADMISSION.refusal(row.start_s, sent_ms) is None}
        for sent_ms in world.queue.sent_times.get(content.name, [])
    ]


def _check_refused(world: World, content: SentContent, seen: set[int], findings: Findings) -> None:
    marker = world.peek(marker_key(content.batch_id))
    if marker is None or marker["verdict"] != "accepted":
        # Its life is over.
        return
    rebuilt = content.batch_id in world.watch.rebuilt
    body = world.objects.peek(_beside_rows(world, content) if rebuilt else str(marker.get("quarantine", "")))
    kept = (
        set() if body is None else {r.record.position for r in decode_records(body) if r.batch_id == content.batch_id}
    )
    if kept != set(range(len(content.rows))) - seen or marker["refused"] != (0 if rebuilt else len(kept)):
        findings.lost.append(f"{content.name}: refused records are not in quarantine")


def _beside_rows(world: World, content: SentContent) -> str:
    """Key of a batch's refused records, for a marker that was rebuilt from rows and so does not name this key."""
    commit_id = world.watch.accepted[content.batch_id][1]
    return next((key for key in world.objects.keys("quarantine/") if commit_of_refused_records(key) == commit_id), "")


def _check_usage(world: World, rows: list[PlainRow], findings: Findings) -> None:
    expected, counted = plain_usage(rows), world.usage()
    for key in expected.keys() | counted.keys():
        want, have = expected.get(key, ZERO), counted.get(key, ZERO)
        if have != want:
            more = have.records > want.records or have.bytes > want.bytes
            (findings.doubled if more else findings.lost).append(f"usage {key}: {have}, not {want}")


def _check_region(world: World, findings: Findings) -> None:
    """P51: the region's totals equal the sum of the accounts', and the directory has these accounts."""
    start = region_start(world.items)
    entries = usage_of(world.items)
    since_s = (1 << 62) if start is None else start.since_s
    numbers = {kind: number for number, kind in KindNames(world.items).of(REGION).items()}
    expected = as_booked(region_sums((entry.key, entry.total) for entry in entries), numbers)
    found = {entry.key: entry.total for entry in region_of(world.items)}
    for key in expected.keys() | found.keys():
        want, have = expected.get(key, ZERO), found.get(key, ZERO)
        # In the table, usage of a closed month can be wrong, and is not repaired.
        if have != want and key.hour_s >= since_s and month_of(key.hour_s) not in world.watch.frozen:
            more = have.records > want.records or have.bytes > want.bytes
            (findings.doubled if more else findings.lost).append(f"the region's {key}: {have}, not {want}")
    known = set(all_accounts(world.items))
    findings.lost += [
        f"{entry.key.account_id} in the directory"
        for entry in entries
        if entry.key.hour_s >= since_s and entry.key.account_id not in known
    ]
    world.faults.histogram["entries of the region's totals"] += len(found)


def _check_markers(world: World, rows: list[PlainRow], findings: Findings) -> None:
    """I2: each marker equals the sum of its batch's rows, hour by hour."""
    visible: dict[str, dict[int, Total]] = {}
    for row in rows:
        hours = visible.setdefault(row.batch_id, {})
        size, count = hours.get(row.booked_s, ZERO)
        hours[row.booked_s] = Total(size + row.bytes, count + 1)
    for batch_id in world.watch.accepted:
        item = world.peek(marker_key(batch_id))
        if item is None or item["verdict"] != "accepted":
            # Its life is over.
            continue
        marked, seen = Marker.from_item(item).hours, visible.get(batch_id, {})
        if marked != seen:
            findings.unexpected.append(f"marker of {batch_id}: {marked}, not {seen}")


def _check_written_down(world: World, findings: Findings) -> None:
    """P50: each accepted batch's marker is in S3 as it was written, although its staging object may be deleted."""
    if world.watch.unwritten:
        return
    lines = written_down(
        world.objects.keys(""),
        lambda key: world.objects.peek(key) or b"",
        lambda body: cast("bytes", beside_rows(body)),
    )
    retry_of = {content.batch_id: content.retry_of for content in world.contents.values() if content.retries}
    for batch_id, (content_hash, commit_id, _) in world.watch.accepted.items():
        named = (content_hash, commit_id, retry_of.get(batch_id, ""))
        found = [line for _, line in lines.get(batch_id, []) if _named(line) == named]
        item = world.peek(marker_key(batch_id))
        if not found:
            findings.lost.append(f"marker of {batch_id}: not in S3 with the content of commit {commit_id}")
        elif item is not None and item["verdict"] == "accepted" and batch_id not in world.watch.rebuilt:
            marker = Marker.from_item(item)
            # A retry extends the life of its original's marker, which is in S3 as it was before (P46).
            if all(replace(line.marker, expires_at_s=marker.expires_at_s) != marker for line in found):
                findings.unexpected.append(f"marker of {batch_id}: not the one in S3")


def _named(line: MarkerLine) -> tuple[str | None, str, str]:
    return line.marker.content_hash, line.marker.commit_id, line.retry_of


def _check_foreign(world: World, content: SentContent, foreign: list[SentBy], findings: Findings) -> None:
    """Check that each forbidden sender of a content got a refusal, and that the sending had no other effect."""
    for sender in foreign:
        if not world.watch.has_verdict(content, sender) and not world.queue.holds(content.name):
            findings.lost.append(f"{content.name} of {sender}: no refusal")
    if len(foreign) == len(world.queue.senders.get(content.name, {})) and _metered(world, content) is not None:
        findings.unexpected.append(f"{content.name}: accepted, although nobody who sent it may send it")


def _check_verdict(world: World, content: SentContent, findings: Findings) -> None:
    """I1: a content is exactly one of accepted, conflict and rejected, or it is still queued or a dead letter."""
    accepted = world.watch.accepted.get(content.batch_id)
    is_accepted = accepted is not None and accepted[0] == content.content_hash
    is_conflict = world.peek(conflict_key(content.batch_id, content.content_hash)) is not None
    # A copy that was sent later may have less admitted records than a marker without hash, which makes it unverified.
    if is_accepted and is_conflict and content.batch_id not in world.watch.rebuilt:
        findings.doubled.append(f"{content.name}: accepted and in conflict")
    if is_accepted or is_conflict or world.queue.holds(content.name):
        return
    if content.retries is not None and world.watch.is_metered_elsewhere(content):
        return
    # A rejected marker can be replaced when other content is accepted; the quarantine object stays. A message that
    # refers to a deleted object is a duplicate of the batch accepted from this object.
    hashes = (content.content_hash, f"body-{content.name}")
    kept = any(world.objects.peek(quarantined_batch_key(content.batch_id, name)) is not None for name in hashes)
    if content.batch_id in world.watch.rejected or (content.location and (accepted is not None or kept)):
        return
    findings.lost.append(f"{content.name}: no verdict")


# More shards than any history uses: the ledger's number is read, too, and the larger number counts.
_SHARDS = 3
_RETENTION_S = 14 * DAY_S


class _Depth:
    """A queue that reports only its depth."""

    def __init__(self, messages: Mapping[str, Message]) -> None:
        self._count = len(messages)

    def depth(self) -> QueueDepth:
        return QueueDepth(visible=self._count, in_flight=0, delayed=0)


class _Facts:
    """Queue facts as on an emulator, which reports no message age."""

    def oldest_age_s(self) -> None:
        return None

    def longest_retention_s(self) -> int:
        return _RETENTION_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=VISIBILITY_MS // 1000, max_receives=MAX_RECEIVES)


class CompletenessCheck:
    """Measures completeness as the watch does, and compares it with the sent contents."""

    def __init__(self, world: World) -> None:
        self._world = world

    def during(self, start_ms: int, length_ms: int) -> None:
        """Measure completeness in each minute of the given period."""
        for at_ms in range(start_ms, start_ms + length_ms, MINUTE_MS):
            self._world.scheduler.at(at_ms, self.look)

    def look(self) -> None:
        world = self._world
        if not world.watch.follows:
            # The ledger is being restored.
            return
        if not world.queue.messages:
            state = WatchState(first_s=0, queue_empty_s=world.scheduler.now_ms // 1000)
            world.items.put(Put(table=Table.LEDGER, item=state.to_item()))
        freshness = Freshness(
            items=world.items,
            ingest=_Depth(world.queue.messages),  # type: ignore[arg-type]  # no other call is made
            dead=_Depth(world.queue.dead),  # type: ignore[arg-type]  # as above
            queue_facts=_Facts(),
            clock=world,
            region="us-east-1",
            stage="local",
            shards=_SHARDS,
            window_s=35 * DAY_S,
        )
        freshness.keep()
        answer = freshness.answer()
        if answer.through_s < world.scheduler.now_ms // 1000 - MINUTE_MS // 1000 and not answer.held_back_by:
            raise ViolationError("completeness is held back, and nothing is named")
        self._check_messages(answer.through_s)
        self._check_commits(answer.through_s)
        world.faults.histogram["completeness measured"] += 1

    def _check_messages(self, through_s: int) -> None:
        queue, contents = self._world.queue, self._world.contents
        # The simulated queue keeps messages of any age. SQS drops old messages, and the watch relies on that.
        oldest_ms = self._world.scheduler.now_ms - _RETENTION_S * 1000
        for message in (*queue.messages.values(), *queue.dead.values()):
            content = contents.get(message.body)
            sender = queue.sender_of(message)
            first_ms = queue.senders[message.body][sender]
            if content is not None and (content.name, sender) in self._world.watch.decided:
                # The first copy got a verdict, which may have expired by now. A later copy is counted separately.
                first_ms = message.sent_at_ms
            if content is None or not oldest_ms < first_ms < through_s * 1000:
                continue
            if not self._world.watch.has_verdict(content, sender):
                raise ViolationError(f"complete through {through_s}, and {message.body} of {first_ms} has no verdict")

    def _check_commits(self, through_s: int) -> None:
        """Check that no earlier commit waits for the roll-up, because usage reports omit waiting commits (P27)."""
        world = self._world
        waits = {str(item["sk"]) for item in world.items.everything(Table.LEDGER) if str(item["pk"])[:2] == WAITING}
        for content in world.contents.values():
            content_hash, commit_id, _ = world.watch.accepted.get(content.batch_id, ("", "", 0))
            if content_hash != content.content_hash or commit_id not in waits:
                continue
            sent_ms = world.queue.sent_times.get(content.name, [])
            if sent_ms and max(sent_ms) < through_s * 1000:
                raise ViolationError(f"complete through {through_s}, and {content.name} of {max(sent_ms)} waits")


_SHARE = 0.06
# Batches with older hours get no marker again, because their markers may have expired.
_SURELY_MARKED_S = 45 * DAY_S


class MarkerLoss:
    """Losses of one history.

    Args:
        seed: Seed of a history. Losses have a separate random stream, so that the rest of the history does not change.
    """

    def __init__(self, world: World, seed: int, world_settings: Settings, *, shards: int) -> None:
        self._world = world
        self._settings = world_settings
        self._shards = shards
        self._chance = random.Random(f"markers {seed}")
        self.happens = self._chance.random() < _SHARE

    def lose(self) -> None:
        """Delete some accepted markers. No worker runs, because it would meter copies again."""
        lost = [each.batch_id for each in self._markers() if self._chance.random() < 0.6]
        for batch_id in lost:
            self._world.watch.lose_marker(batch_id)
        if lost and self._chance.random() < 0.5:
            forget_markers(self._world.objects, lambda body: encode_rows(decode_rows(body)))
            self._world.watch.unwritten = True
        self._world.faults.histogram["markers lost, to be rebuilt"] += len(lost)

    def rebuild_amid_faults(self, roll_up: Callable[[Process], object]) -> None:
        """Run two rebuilds in parallel with a roll-up."""
        world = self._world
        for name, run, delay_ms in (
            ("markers 1", self.rebuild, 0),
            ("markers 2", self.rebuild, self._chance.randrange(MINUTE_MS)),
            ("rollup", roll_up, self._chance.randrange(4 * MINUTE_MS)),
        ):
            process = world.process(name)
            world.scheduler.spawn(jobs.job(process, partial(run, process)), delay_ms=delay_ms)
        world.scheduler.run_until(world.scheduler.now_ms + 30 * MINUTE_MS)

    def rebuild(self, process: Process) -> None:
        jobs.rebuilder(process, self._settings, shards=self._shards).markers()

    def rebuild_rest(self, process: Process) -> None:
        """Check that a rebuild without faults restores every marker."""
        self.rebuild(process)
        if self._world.watch.markers_lost:
            raise ViolationError(f"markers of {sorted(self._world.watch.markers_lost)} stay lost")

    def send_copies(self) -> None:
        """Resend every content that was ever sent under the id of a marker that came back."""
        came_back = self._world.watch.rebuilt | self._world.watch.put_again
        for content in self._world.contents.values():
            if content.batch_id in came_back and self._world.queue.sent_times.get(content.name):
                self._world.queue.send(content.name, content.sender_id)

    def _markers(self) -> list[Marker]:
        oldest_s = self._world.scheduler.now_ms // 1000 - _SURELY_MARKED_S
        items = [self._world.peek(marker_key(batch_id)) for batch_id in sorted(self._world.watch.accepted)]
        markers = [Marker.from_item(item) for item in items if item is not None and item["verdict"] == "accepted"]
        return [marker for marker in markers if min(marker.hours) > oldest_s]


def check_trace(world: World, *, shards: int) -> None:
    """Trace one account over all time, and one hour of that account separately.

    The tracer reads the stores directly, because simulated processes cannot run its threads.

    Raises:
        ViolationError: The sums of the trace differ from usage, or the hour's trace differs from the whole trace.
    """
    view = LakeView(items=world.items, objects=world.objects, reader=PlainLake(world.objects), shards=shards)
    reading = UsageReading(world.items)
    source = ReportSource(
        region="",
        items=world.items,
        objects=world.objects,
        view=view,
        frozen=PlainFrozenFiles(world.objects),
        as_of_now=UsageNow(reading=reading, objects=world.objects, staged=PlainLake(world.objects), shards=shards),
    )
    tracer = Tracer(source=source, marker_life_s=STAGE.marker_life_s)
    keys = [entry.key for entry in usage_of(world.items)]
    now_s = world.scheduler.now_ms // 1000
    accounts = sorted({key.account_id for key in keys})
    # Only every third history is checked, to save time.
    if not accounts or len(keys) % 3:
        return
    account = accounts[len(keys) // 3 % len(accounts)]
    hours = [key.hour_s for key in keys if key.account_id == account]
    asked = TraceParameters(account=account, start=rfc3339(min(hours)), end=rfc3339(max(hours) + HOUR_S))
    trace = tracer.trace(asked.query(now_s=max(now_s, *hours)), now_s=now_s)
    world.faults.histogram["batches traced"] += len(trace.batches)
    if not trace.equal:
        different = [hour for hour in trace.hours if hour.differences]
        doubtful = [batch for batch in trace.batches if batch.vouching not in {"agrees", "expired"}]
        raise ViolationError(f"trace: {account} is not equal: {different[:1] or doubtful[:1]}")
    clock = ManualClock(world.scheduler.now_ms)
    figures = Figures.counted(items=world.items, view=view, clock=clock, marker_life_s=STAGE.marker_life_s)
    look = OneHour(figures=figures).look(max(hours), now_s=now_s)
    # In the table, usage of a closed month can be wrong, and is not repaired.
    if look.check is not None and not look.check.agrees and month_of(max(hours)) not in world.watch.frozen:
        raise ViolationError(f"one hour: {look.check.differences[:2]}")
