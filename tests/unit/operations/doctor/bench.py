"""An in-memory bench: a region that behaves as AWS documents, in which a test can change each behaviour."""

from __future__ import annotations

import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from metering.intake.dropped import DropIds
from metering.ledger.booked_hours import pending_key
from metering.ledger.commits import CommitRecord, waiting_key
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict, canary_batch_id, slot_of
from metering.operations.doctor.bench import (
    AlarmAction,
    AlarmPath,
    Bench,
    BuiltRegion,
    CannotAskError,
    Effort,
    EngineHour,
    EventMapping,
    Pages,
    ScratchQueues,
)
from metering.operations.logged_errors import LoggedLine
from metering.stores.writes import Action, ItemStore, Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from metering.usage.totals import Total
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.verdicts import marker_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.ledger.markers import Marker
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import ReceivedMessage
    from metering.version import DropIdentity

NOW_MS = 1_795_000_000_000
HOUR = NOW_MS // 1000 - NOW_MS // 1000 % HOUR_S
BUCKET = "data"
REGION = "eu-west-1"
MAPPING = EventMapping(state="Enabled", batch_size=95, window_s=5, concurrency=20, pollers=None, partial=True)


class Logs:
    functions = ("compactor",)

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> list[LoggedLine]:
        assert to_s - from_s == 7 * DAY_S
        return [LoggedLine(function=functions[0], at_ms=NOW_MS, text=text) for text in self._texts][:limit]


@dataclass(kw_only=True)
class World:
    """The doctor's findings. Mutable, because a test changes the behaviour under test.

    Attributes:
        takes_drops: Whether objects below `drop/` become batches.
        verdict: Verdict of every sent batch.
        fill: Number of batches per commit.
        roles: Role -> reason why it cannot be assumed; other roles can be.
        stranger_lists: Whether a role without `s3:ListBucket` also gets 404 for a missing key.
        reader_denied: Whether a role with `s3:ListBucket` gets 403 for a missing key.
        compactor: What the compactor's function gets for a missing key.
        rules, mapping: As deployed; `declared_rules` and `declared_mapping` as in the template.
    """

    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW_MS))
    takes_drops: bool = True
    drop_identity: DropIdentity = "etag"
    verdict: str = "accepted"
    fill: int = 97
    roles: dict[str, str] = field(default_factory=dict)
    stranger_lists: bool = False
    reader_denied: bool = False
    compactor: str = "404"
    emulated: bool = False
    versioned: bool = True
    listing: Callable[[tuple[str, ...]], Pages] = lambda keys: Pages(keys=keys, pages=3, empty=2)
    warm: int = 12_000
    needed: int = 4_000
    provisioned: int = 0
    scales: tuple[int, int] | None = None
    quota: int = 40_000
    starts: dict[str, int] = field(default_factory=lambda: {"watch": 2_100})
    regions: list[BuiltRegion] = field(
        default_factory=lambda: [BuiltRegion(name="ap-east-1", ready=True, opted_in=True)]
    )
    window: tuple[int, int] | None = (NOW_MS // 1000 - 35 * DAY_S, NOW_MS // 1000 - 300)
    version_days: int | None = 35
    other_ledgers: dict[str, str] = field(default_factory=dict)
    project: str = "rollout"
    project_wanted: bool = True
    builds: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    expiry: dict[Table, str] = field(default_factory=lambda: {Table.LEDGER: "expires_at", Table.USAGE: ""})
    restorable: set[Table] = field(default_factory=lambda: set(Table))
    declared_rules: dict[str, str] = field(default_factory=lambda: {"drop": "drop/ deletes after 65 days"})
    rules: dict[str, str] = field(default_factory=lambda: {"drop": "drop/ deletes after 65 days"})
    declared_mapping: EventMapping | None = MAPPING
    mapping: EventMapping | None = MAPPING
    executions: int = 900
    bootstrap: int | None = 21
    actions: list[AlarmAction] = field(default_factory=lambda: [AlarmAction("heartbeat", NOW_MS // 1000 - 9, True, "")])
    undelivered: dict[str, int] = field(default_factory=dict)
    canaries: bool = True
    left: tuple[str, ...] = ()
    logged: list[str] = field(default_factory=lambda: ["Task timed out after 900.00 seconds"])
    lake_hour: tuple[int, Total] | None = (HOUR, Total(500, 5))
    engine: EngineHour | None = field(
        default_factory=lambda: EngineHour(
            usage=Total(500, 5), totals=Total(500, 5), rows=Total(500, 5), strange_times=0
        )
    )
    slow_table: ItemStore = field(default_factory=lambda: MemoryItemStore(throttled=lambda _action: "ThrottlingError"))
    alarms_arrive: bool = True
    topics_deliver: bool = True
    redrive: bool = True
    redrive_renews: bool = True
    fitful: bool = False
    scratch_denied: str = ""
    items: MemoryItemStore = field(default_factory=lambda: Tables())  # noqa: PLW0108  # it comes below
    asking: Callable[[], nullcontext[None]] = nullcontext
    objects: MemoryObjectStore = field(init=False)

    def __post_init__(self) -> None:
        self.objects = Bucket(self)
        if self.canaries:
            self._run_canaries()

    def bench(self) -> Bench:
        return Bench(
            drop_identity=self.drop_identity,
            region=REGION,
            token="0123456789abcdef",  # no secret
            bucket=BUCKET,
            clock=self.clock,
            objects=self.objects,
            as_roles={role: self._role(role) for role in ("reader", "operator", "producer")},
            items=self.items,
            ingest=Ingest(self),
            emulated=self.emulated,
            needed_writes_per_s=dict.fromkeys(Table, self.needed),
            ledger_scales=self.scales,
            needed_executions=22,
            project_wanted=self.project_wanted,
            logs=lambda: Logs(self.logged),
            facts=Parts(self),
            scratch=Parts(self),
            lake=Parts(self),
            engine=None if self.engine is None else Engine(self.engine),
            asking=self.asking,
            effort=Effort(tombstones=3, rate_per_s=60, rate_s=5, judged_s=2, arrival_s=20, throttle_s=5),
        )

    def judge(self, names: Sequence[str]) -> None:
        """Store the verdict of batches; each commit has `fill` batches."""
        for start in range(0, len(names), self.fill):
            for name in names[start : start + self.fill]:
                marker = decided(name, self.verdict, commit_id=f"{names[0]}-{start}")
                self.items.put(Put(table=Table.LEDGER, item=marker.to_item()))

    def _run_canaries(self) -> None:
        """Count a canary an hour ago and one twelve hours ago, whose commit was compacted and cleaned since."""
        now_s = NOW_MS // 1000
        for age_s, commit_id in ((HOUR_S, "young"), (12 * HOUR_S, "old")):
            slot_s = slot_of(now_s - age_s)
            run = CanaryRun(slot_s=slot_s, sent_s=slot_s, verdict=CanaryVerdict.GOOD, settled_s=slot_s + 60)
            marker = decided(canary_batch_id(slot_s), "accepted", commit_id=commit_id)
            commit = CommitRecord(
                commit_id=commit_id,
                state="committed",
                hours=(HOUR,),
                staging_key="staging/a",
                rows=1,
                bytes=1,
                created_at_ms=NOW_MS,
                expires_at_s=now_s + DAY_S if commit_id == "old" else None,
            )
            for item in (run.to_item(), marker.to_item(), commit.to_item()):
                self.items.put(Put(table=Table.LEDGER, item=item))
        for key in (waiting_key(0, "young"), pending_key(0, "old")):
            if key.pk in self.left:
                self.items.put(Put(table=Table.LEDGER, item=key._asdict()))
        # The compactor has not taken this one yet.
        self.items.put(Put(table=Table.LEDGER, item=pending_key(0, "young")._asdict()))

    def _role(self, role: str) -> Callable[[], ObjectStore]:
        def assume() -> ObjectStore:
            if role in self.roles:
                raise CannotAskError(self.roles[role])
            hides = self.reader_denied if role != "producer" else not self.stranger_lists
            return Bucket(self, hides_missing=hides)

        return assume


class Tables(MemoryItemStore):
    """The two tables. Like DynamoDB, the tables are thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()

    def transact(self, actions: Sequence[Action]) -> None:
        with self._lock:
            super().transact(actions)


class Bucket(MemoryObjectStore):
    """The bucket, with notifications for objects below `drop/`."""

    def __init__(self, world: World, *, hides_missing: bool = False) -> None:
        super().__init__(world.clock, hides_missing=hides_missing)
        self._world = world

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        etag = super().upload(key, body, crc64nvme=crc64nvme)
        if self._world.takes_drops:
            assert json.loads(body)["account_id"] == "000000000000"
            ids = DropIds(objects=self, bucket=BUCKET, identity=self._world.drop_identity)
            self._world.judge([ids.of_object(key, etag)[-1]])
        return etag


class Ingest(MemoryQueue):
    """The ingest queue; sent batches get their verdicts at once."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock)
        self._world = world

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        self._world.judge([json.loads(body)["batch_id"] for body in bodies])
        return super().send_many(bodies, original_senders=original_senders)


@dataclass
class Parts:
    """`Facts`, `Scratch` and `LakeHours` of a world."""

    world: World

    def bucket_is_versioned(self) -> bool:
        return self.world.versioned

    def pages(self, prefix: str, *, most: int) -> Pages:
        assert most > 1
        return self.world.listing(self.world.objects.keys(prefix))

    def writes_per_s(self, _table: Table) -> int:
        return self.world.warm

    def provisioned_writes_per_s(self, _table: Table) -> int:
        return self.world.provisioned

    def table_quota_per_s(self) -> int:
        return self.world.quota

    def restore_window(self) -> tuple[int, int] | None:
        return self.world.window

    def ledger_bytes(self) -> int:
        return 100 * GIB

    def noncurrent_days(self) -> int | None:
        return self.world.version_days

    def other_ledgers(self) -> Mapping[str, str]:
        return self.world.other_ledgers

    def cold_starts_ms(self, *, since_s: int) -> Mapping[str, int]:
        assert since_s < self.world.clock.now_ms() // 1000
        return self.world.starts

    def regions(self) -> Sequence[BuiltRegion]:
        return self.world.regions

    def project(self) -> str:
        return self.world.project

    def builds(self, project: str) -> Sequence[str]:
        assert project == self.world.project
        return self.world.builds

    def compactor_sees(self) -> str:
        return self.world.compactor

    def unreserved_executions(self) -> int:
        return self.world.executions

    def bootstrap_version(self) -> int | None:
        return self.world.bootstrap

    def expiry_attribute(self, table: Table) -> str:
        return self.world.expiry[table]

    def is_restorable(self, table: Table) -> bool:
        return table in self.world.restorable

    def lifecycle(self, *, declared: bool) -> Mapping[str, str]:
        return self.world.declared_rules if declared else self.world.rules

    def mapping(self, *, declared: bool) -> EventMapping | None:
        return self.world.declared_mapping if declared else self.world.mapping

    def alarm_actions(self, *, since_s: int) -> Sequence[AlarmAction]:
        return [action for action in self.world.actions if action.at_s >= since_s]

    def undelivered(self, severity: str, *, since_s: int) -> int:
        assert since_s < self.world.clock.now_ms() // 1000
        return self.world.undelivered.get(severity, 0)

    def newest(self) -> tuple[int, Total] | None:
        return self.world.lake_hour

    @contextmanager
    def queues(self) -> Iterator[ScratchQueues]:
        self._may()
        clock = self.world.clock
        dead = Renewing(clock, renews=self.world.redrive_renews, moves_by_itself=self.world.redrive)
        made = Fitful if self.world.fitful else MemoryQueue
        queue = made(clock, dead=dead, max_receives=3)
        dead.back_to(queue)
        yield ScratchQueues(queue=queue, dead=dead, max_receives=3)

    @contextmanager
    def slow_table(self) -> Iterator[ItemStore]:
        self._may()
        yield Ticking(self.world)

    @contextmanager
    def alarm(self, _severity: str) -> Iterator[AlarmPath]:
        self._may()
        yield Path(self.world)

    def _may(self) -> None:
        if self.world.scratch_denied:
            raise CannotAskError(self.world.scratch_denied, "Run it with other credentials.")


class Ticking(MemoryItemStore):
    """A slow table: each transaction takes a second."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def transact(self, actions: Sequence[object]) -> None:
        self._world.clock.advance_s(1)
        self._world.slow_table.transact(actions)  # type: ignore[arg-type]  # passed on


class Fitful(MemoryQueue):
    """A queue that answers every second receive with nothing, as SQS may although a message is there."""

    _calls = 0

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        self._calls += 1
        return [] if self._calls % 2 else super().receive(max_messages, wait_s=wait_s, visibility_s=visibility_s)


class Renewing(MemoryQueue):
    """A dead-letter queue; if `renews`, a redrive renews the SentTimestamp of messages."""

    def __init__(self, clock: ManualClock, *, renews: bool, moves_by_itself: bool) -> None:
        super().__init__(clock, name="dead")
        self._renews = renews
        self._moves = moves_by_itself
        self._queue: MemoryQueue | None = None

    def back_to(self, queue: MemoryQueue) -> None:
        self._queue = queue

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        del max_per_s
        if not self._moves or self._queue is None:
            return None
        for dead in (message.delivery for message in self.receive(10)):
            if self._renews:
                self._queue.send_many([dead.body])
            else:
                self._queue.put_dead(dead.message_id, dead.body, dead.sent_at_ms, 0, "")
        return "task"


@dataclass
class Path:
    world: World
    texts: list[str] = field(default_factory=list)

    def publish(self, text: str) -> None:
        if self.world.topics_deliver:
            self.texts.append(text)

    def trip(self, text: str) -> None:
        if self.world.alarms_arrive:
            self.texts.append(json.dumps({"NewStateReason": text}))

    def received(self) -> Sequence[str]:
        self.world.clock.advance_s(1)
        return self.texts


@dataclass
class Engine:
    answer: EngineHour

    def hour(self, hour_s: int) -> EngineHour:
        assert hour_s == HOUR
        return self.answer


def decided(name: str, verdict: str, *, commit_id: str) -> Marker:
    return marker_of(
        name, verdict, commit_id=commit_id, sender_id="", decided_at_ms=NOW_MS, expires_at_s=NOW_MS // 1000 + DAY_S,
        reason="" if verdict == "accepted" else "sender_not_allowed",
    )  # fmt: skip
