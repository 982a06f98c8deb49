"""Production jobs as simulated processes, built as in a Lambda function and restarted after a kill."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from greenlet import getcurrent

from metering.audit.hour_check import Figures
from metering.audit.incremental import IncrementalCheck
from metering.audit.rebuild import Rebuilder
from metering.audit.reconciler import Reconciler
from metering.audit.verifier import Verifier
from metering.billing.closer import PeriodCloser
from metering.errors import MeteringError, UnavailableError
from metering.intake.dropped import DropIds
from metering.intake.reader import JudgingReader
from metering.lake.cleaner import Cleaner, OrphanCleaner
from metering.lake.compactor import Compactor
from metering.lake.plan import CompactionPolicy
from metering.lake.ports import RowQuery
from metering.lake.view import LakeView
from metering.ledger.notes.access import LedgerProducers
from metering.ledger.usage.reading import UsageReading
from metering.operations.dead_letters import DeadLetters
from metering.quarantine.entries import QuarantineEntries
from metering.restore.adoption import Adoption
from metering.restore.carried import Carrier
from metering.restore.copies import BatchCopies
from metering.restore.core import Restoration
from metering.restore.decision import Decider
from metering.restore.marking import UsageMarks
from metering.rollup.as_of_now import UsageNow
from metering.rollup.cleaner import RollupCleaner
from metering.stores.clock import Retrier
from metering.stores.queues import Delivery, QueueDepth, ReceivedMessage
from metering.units import DAY_S
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region.faults import MINUTE_MS
from tests.simulation.region.ports import NEVER_MS, Process, ProcessItems
from tests.simulation.region.scheduler import KilledError
from tests.simulation.sent.senders import SERVICES
from tests.simulation.sent.traffic import ContentReader
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.frozen import PlainFrozenFiles, PlainTotals
from tests.support.memory.queues import MemoryQueue
from tests.support.memory.rows import PlainLake, PlainRowCodec
from tests.support.region import Parts
from tests.support.stage import ADMISSION, QUARANTINE_AGE_S, STAGE
from tests.support.stage import settings as stage_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.audit.census_state import HourStep
    from metering.audit.rebuild import UsageRebuild
    from metering.commit.aggregator import Aggregator
    from metering.intake.batches import BatchReader
    from metering.ledger.usage.kinds import KindNumbers
    from metering.rollup.rollup import Rollup
    from metering.settings import Settings
    from tests.simulation.region.world import World

OPERATOR = "operator"


class IngestQueue:
    """`Queue` of one process, only for sending."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._queue = process.world.queue

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        def apply() -> list[int]:
            for body, stated in zip(bodies, original_senders or [""] * len(bodies), strict=True):
                self._queue.send(body, OPERATOR, stated)
            return []

        return self._process.write("queue.send_many", apply)

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        raise NotImplementedError("workers receive, people do not")

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        raise NotImplementedError("workers delete, people do not")

    def release(self, receipts: Sequence[str]) -> None:
        raise NotImplementedError("workers release, people do not")

    def hide(self, receipts: Mapping[str, int]) -> None:
        raise NotImplementedError("workers hide, people do not")

    def depth(self) -> QueueDepth:
        return self._process.read(
            "queue.depth", lambda: QueueDepth(visible=len(self._queue.messages), in_flight=0, delayed=0)
        )

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        del max_per_s
        return None


class DeadLetterQueue(IngestQueue):
    """`Queue` of one process over the dead letters. A receipt is a message id."""

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        del wait_s

        def apply() -> list[ReceivedMessage]:
            now_ms = self._process.world.scheduler.now_ms
            found = [m for m in self._queue.dead.values() if m.visible_at_ms <= now_ms][:max_messages]
            for message in found:
                message.visible_at_ms = now_ms + (visibility_s or 30) * 1000
                message.receives += 1
            return [
                ReceivedMessage(
                    delivery=Delivery(
                        message_id=m.message_id,
                        body=m.body,
                        sent_at_ms=m.sent_at_ms,
                        receive_count=m.receives,
                        sender_id=m.sender_id,
                        stated_sender=m.stated_sender,
                    ),
                    receipt=m.message_id,
                )
                for m in found
            ]

        return self._process.write("dead.receive", apply)

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        def apply() -> list[int]:
            for message_id in receipts:
                self._queue.dead.pop(message_id, None)
            return []

        return self._process.write("dead.delete_many", apply)

    def release(self, receipts: Sequence[str]) -> None:
        def apply() -> None:
            for message_id in receipts:
                self._queue.dead[message_id].visible_at_ms = 0

        self._process.write("dead.release", apply)

    def depth(self) -> QueueDepth:
        return self._process.read(
            "dead.depth", lambda: QueueDepth(visible=len(self._queue.dead), in_flight=0, delayed=0)
        )


BY_ROW = RowQuery(columns=("batch_id", "resource_id"))

_TIMEOUT_MS = MINUTE_MS
_RESTART_MS = 500


@lru_cache(maxsize=64)
def settings(
    shards: int,
    commit_records: int,
    *,
    rollup_commits: int = 100,
    rollup_blocks: int = 0,
    kinds: int = 1000,
    floor_s: int = 0,
    usage_generation: int = 2,
) -> Settings:
    return stage_settings(
        shards=shards,
        commit_records=commit_records,
        rollup_commits=rollup_commits,
        rollup_blocks=rollup_blocks,
        kinds_per_account=kinds,
        admission_floor_s=floor_s,
        usage_generation=usage_generation,
    )


def retrier(process: Process) -> Retrier:
    return Retrier(clock=process, entropy=process, attempts=4)


def parts(process: Process, world_settings: Settings) -> Parts:
    world = process.world
    return Parts(
        items=process.items,
        objects=process.objects,
        clock=process,
        entropy=process,
        metrics=world.metrics,
        alerts=world.alerts,
        settings=world_settings,
        limits=world.limits,
        region_kinds=world.region_kinds,
    )


def aggregator(process: Process, world_settings: Settings) -> Aggregator:
    return parts(process, world_settings).worker_of(reader(process), PlainRowCodec())


def reader(process: Process) -> BatchReader:
    """The reader of contents, which checks senders if the stage checks senders."""
    contents = ContentReader(process.objects, process.world.contents)
    if not process.world.senders.judged:
        return contents
    producers = LedgerProducers(items=process.items, clock=process)
    return JudgingReader(reader=contents, producers=producers, services=SERVICES)


def rollup(process: Process, world_settings: Settings) -> Rollup:
    return parts(process, world_settings).plain_rollup()


def rollup_cleaner(process: Process, *, shards: int, wait_s: int = DAY_S) -> RollupCleaner:
    return RollupCleaner(
        items=process.items,
        objects=process.objects,
        clock=process,
        retrier=retrier(process),
        shards=shards,
        run_life_s=STAGE.marker_life_s,
        keep_s=wait_s,
    )


def numbers(process: Process, world_settings: Settings) -> KindNumbers:
    return rollup(process, world_settings).numbers


def usage_reading(process: Process) -> UsageReading:
    return UsageReading(process.items)


def usage_now(process: Process, *, shards: int) -> UsageNow:
    return UsageNow(
        reading=usage_reading(process), objects=process.objects, staged=PlainLake(process.objects), shards=shards
    )


def compactor(process: Process, policy: CompactionPolicy, *, shards: int) -> Compactor:
    world = process.world
    return Compactor(
        items=process.items,
        objects=process.objects,
        writer=PlainLake(process.objects),
        clock=process,
        entropy=process,
        retrier=retrier(process),
        metrics=world.metrics,
        alerts=world.alerts,
        policy=policy,
        shards=shards,
    )


def cleaner(process: Process, *, shards: int, wait_s: int = DAY_S) -> Cleaner:
    world = process.world
    return Cleaner(
        items=process.items,
        objects=process.objects,
        clock=process,
        retrier=retrier(process),
        metrics=world.metrics,
        alerts=world.alerts,
        shards=shards,
        wait_s=wait_s,
        commit_life_s=STAGE.marker_life_s,
    )


def orphan_cleaner(process: Process, *, age_s: int) -> OrphanCleaner:
    return OrphanCleaner(
        items=process.items,
        objects=process.objects,
        clock=process,
        retrier=retrier(process),
        metrics=process.world.metrics,
        quarantine_age_s=QUARANTINE_AGE_S,
        age_s=age_s,
    )


def lake_view(process: Process, *, shards: int) -> LakeView:
    return LakeView(items=process.items, objects=process.objects, reader=PlainLake(process.objects), shards=shards)


def totals(process: Process) -> PlainTotals:
    return PlainTotals(process.objects, PlainLake(process.objects))


def figures(process: Process, *, shards: int) -> Figures:
    return Figures(
        items=process.items,
        usage=usage_reading(process),
        view=lake_view(process, shards=shards),
        totals=totals(process),
        clock=process,
        marker_life_s=STAGE.marker_life_s,
    )


def reconciler(process: Process, *, shards: int) -> Reconciler:
    world = process.world
    return Reconciler(figures=figures(process, shards=shards), metrics=world.metrics, alerts=world.alerts)


def verifier(process: Process, ingest: MemoryQueue) -> Verifier:
    return Verifier(
        items=process.items,
        objects=process.objects,
        view=lake_view(process, shards=1),
        ingest=ingest,
        dead_letters=MemoryQueue(process, name="dead"),
        clock=process,
        drops=DropIds(objects=process.objects, bucket="data"),
        marker_life_s=50 * DAY_S,
    )


def run_checker(process: Process, *, shards: int) -> IncrementalCheck:
    return IncrementalCheck(reconciler=reconciler(process, shards=shards), eventual=process.eventual)


def rebuilder(process: Process, world_settings: Settings, *, shards: int) -> Rebuilder:
    return Rebuilder(
        reconciler=reconciler(process, shards=shards),
        retrier=retrier(process),
        metrics=process.world.metrics,
        frozen=PlainFrozenFiles(process.objects),
        numbers=numbers(process, world_settings),
        staged=PlainLake(process.objects),
    )


def restoration(
    process: Process, world_settings: Settings, *, generation: int, since_ms: int, shards: int
) -> Restoration:
    lake = PlainLake(process.objects)
    adoption = Adoption(
        items=process.items,
        objects=process.objects,
        staged=lake,
        usage=lake,
        reader=lake,
        clock=process,
        retrier=retrier(process),
        generation=generation,
        restorer=process.token(),
        shards=shards,
        since_ms=since_ms,
        marker_life_s=STAGE.marker_life_s,
    )
    decider = Decider(
        items=process.items,
        objects=process.objects,
        rows=lake,
        clock=process,
        retrier=retrier(process),
        shards=shards,
        generation=generation,
    )
    rebuild = rebuilder(process, world_settings, shards=shards)

    def usage(hours: Mapping[int, set[str]] | None, tell: Callable[[HourStep], None]) -> UsageRebuild:
        return rebuild.usage(tell=tell) if hours is None else rebuild.hours(hours, tell=tell)

    assert process.world.fenced is not None
    fenced = ProcessItems(process, process.world.fenced)
    carrier = Carrier(items=process.items, generation=generation, clock=process, retrier=retrier(process), threads=1)
    marks = UsageMarks(
        items=process.items, objects=process.objects, numbers=rebuild.numbers, retrier=retrier(process), shards=shards
    )
    return Restoration(
        carry=lambda: carrier.from_table(fenced),
        decider=decider,
        adoption=adoption,
        copies=lambda decision: BatchCopies(
            adoption=adoption, rows=lake, entropy=process, closed=frozenset(decision.months)
        ),
        markers=rebuild.markers,
        marks=marks.run,
        usage=usage,
        region=marks.lift_region,
    )


def dead_letters(process: Process) -> DeadLetters:
    return DeadLetters(
        dead=DeadLetterQueue(process),
        ingest=IngestQueue(process),
        reader=reader(process),
        items=process.items,
        clock=process,
        admission=ADMISSION,
        drops=DropIds(objects=process.objects, bucket="data"),
        retention_s=14 * DAY_S,
        services=SERVICES if process.world.senders.judged else None,
    )


def quarantine_entries(process: Process) -> QuarantineEntries:
    return QuarantineEntries(
        items=process.items,
        objects=process.objects,
        queue=IngestQueue(process),
        clock=process,
        bucket="data",
        marker_life_s=STAGE.marker_life_s,
    )


def period_closer(
    process: Process, compaction: CompactionPolicy, world_settings: Settings, *, shards: int
) -> PeriodCloser:
    return PeriodCloser(
        items=process.items,
        objects=process.objects,
        view=lake_view(process, shards=shards),
        reader=PlainLake(process.objects),
        files=PlainFrozenFiles(process.objects),
        rollup=rollup(process, world_settings),
        compactor=compactor(process, compaction, shards=shards),
        reconciler=reconciler(process, shards=shards),
        clock=process,
        retrier=retrier(process),
        alerts=process.world.alerts,
        shards=shards,
    )


def deadline(process: Process, time_ms: int) -> DeadlineAt:
    return DeadlineAt(clock=process, at_ms=process.now_ms() + time_ms)


class Worker:
    """An event source mapping and its function: receives messages, invokes the function, deletes handled messages."""

    def __init__(self, process: Process, world_settings: Settings, *, messages: int, immortal: bool) -> None:
        self.busy = False
        self._process = process
        self._settings = world_settings
        self._messages = messages
        self._immortal = immortal
        self._function: Aggregator | None = None

    def redeploy(self, world_settings: Settings) -> None:
        """Deploy other settings, for the next invocation on; a running invocation is unaffected."""
        self._settings = world_settings
        self._function = None

    def _started(self) -> Aggregator:
        if self._function is None:
            self._function = aggregator(self._process, self._settings)
        return self._function

    def body(self) -> None:
        process, queue = self._process, self._process.world.queue
        scheduler = process.world.scheduler
        while not process.is_late():
            next_ms = queue.next_visible_ms()
            if next_ms is None:
                queue.park(getcurrent().switch)
                getcurrent().parent.switch()
                continue
            if next_ms > scheduler.now_ms:
                scheduler.wait(next_ms - scheduler.now_ms + 1)
                continue
            deliveries = queue.receive(self._messages)
            if not deliveries:
                continue
            self.busy = True
            if not self._immortal:
                process.dies_at_ms = scheduler.now_ms + _TIMEOUT_MS
            try:
                self._invoke(deliveries)
            except KilledError:
                scheduler.wait(_RESTART_MS)
                process.restart()
                self._function = None
            except (MeteringError, ViolationError):
                _raise_unless_late(process)
            process.dies_at_ms = NEVER_MS
            self.busy = False

    def _invoke(self, deliveries: list[Delivery]) -> None:
        process, queue = self._process, self._process.world.queue
        result = self._started().handle(deliveries, deadline(process, _TIMEOUT_MS))
        process.world.scheduler.wait(10)
        queue.hide(result.hide_s)
        done = [d.message_id for d in deliveries if d.message_id not in result.retry]
        for message in queue.acknowledge(done):
            content = process.world.contents.get(message.body)
            process.world.watch.acknowledged(content, queue.sender_of(message))


def _raise_unless_late(process: Process) -> None:
    """Raise the present error again, unless a restore has replaced the ledger of the process."""
    if not process.is_late():
        raise  # noqa: PLE0704  # called in an `except` clause


def job(process: Process, run: Callable[[], object], *, lives: int = 3) -> Callable[[], None]:
    """A job that is invoked again after a kill, at most `lives` times in all; the next job continues its work.

    An error of a late one after a restore does not count.
    """

    def body() -> None:
        for _ in range(lives):
            try:
                # After a restore, no job of the ledger before is invoked.
                if not process.is_late():
                    run()
            except KilledError:
                process.world.scheduler.wait(_RESTART_MS)
                process.restart()
            except UnavailableError:
                return
            except (MeteringError, ViolationError):
                _raise_unless_late(process)
                return
            else:
                return

    return body


def policy(file_rows: int, run_pairs: int, wait_s: int) -> CompactionPolicy:
    return CompactionPolicy(
        file_rows=file_rows, run_rows=3 * file_rows, run_pairs=run_pairs, wait_today_s=wait_s, wait_older_s=2 * wait_s
    )


def is_idle(world: World, workers: list[Worker]) -> bool:
    return not world.queue.messages and not any(worker.busy for worker in workers)
