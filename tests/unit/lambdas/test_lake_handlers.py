"""The lake's functions do one unit of work per tick, and a repeated tick changes nothing."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import lambdas
from lambdas.aggregator.handler import handler as aggregate
from lambdas.api.handler import handler as answer
from lambdas.compactor import handler as compactor
from lambdas.reconciler import handler as reconciler
from lambdas.rollup import handler as rollup
from lambdas.sqs import SqsRecord
from lambdas.start import Started
from metering.adapters.aws.items import to_attributes
from metering.adapters.aws.session import Access, Clients
from metering.errors import FormatTooNewError, FormatTooOldError, GenerationError, LedgerCorruptError
from metering.ledger.format_version import FORMAT_VERSION, LedgerFormat, WatchedLedger
from metering.ledger.markers import marker_key
from metering.ledger.notes.checks import DROPS_KEY
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.notes.watch import Completeness
from metering.rollup.rollup import RollupTick
from metering.settings import as_environment
from metering.stores.writes import Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.version import package_version
from metering.wiring.connection import RegionConnection
from metering.wiring.jobs import LakeJobs
from metering.wiring.lake import rollup_tick
from metering.wiring.region import FunctionParts, ReaderParts, RegionPorts
from tests.support.format_ledger import NEWER, REFUSAL, FormatLedger
from tests.support.lake_world import NOW_S, World, record
from tests.support.memory.objects import MemoryObjectStore
from tests.support.small_world import batch, delivery
from tests.support.stage import settings
from tests.unit.lambdas.api_requests import Context, request, started


def compactor_parts(world: World) -> Started[LakeJobs]:
    return started(world.jobs, "compactor")


def test_a_commit_that_cannot_be_read_fails_the_tick_and_stops_nothing_that_does_not_depend_on_it() -> None:
    world = World()
    world.send([record(5)])
    [pending] = [item for item in world.items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]
    key = Key(str(pending["pk"]), str(pending["sk"]))
    world.items.update(Update(table=Table.LEDGER, key=key, remove=("totals",)))
    orphan = f"staging/2026-11-24/{'e' * 32}.parquet"
    world.objects.put(orphan, b"left behind", if_absent=True)
    world.clock.advance_s(2 * HOUR_S)
    with pytest.raises(LedgerCorruptError, match=key.sk):
        compactor.handle({}, Context(900_000), compactor_parts(world))
    assert orphan not in world.objects.keys("staging/")
    assert len(world.objects.keys("staging/")) == 1


def rollup_parts(world: World) -> Started[RollupTick]:
    return started(rollup_tick(world, world.jobs.rollup), "rollup")


def test_a_tick_rolls_up_what_waits_and_a_second_one_nothing() -> None:
    world = World()
    world.send([record(5), record(7)], rolled_up=False)
    assert world.usage() == {}
    parts = rollup_parts(world)
    first = rollup.handle({}, Context(900_000), parts)
    assert first == {"runs": 1, "commits": 1, "items": 1, "finished": True}
    assert rollup.handle({}, Context(900_000), parts) == {"runs": 0, "commits": 0, "items": 0, "finished": True}
    assert sum(total.bytes for total in world.usage().values()) == 12


def test_each_shard_has_a_tick_of_the_roll_up_and_the_first_takes_those_that_the_stage_has_no_more() -> None:
    world = World(shards=3)
    for size in range(12):
        world.send([record(size + 1)], rolled_up=False)
    assert rollup.handle({"shard": 1}, Context(900_000), rollup_parts(world))["runs"] == 1
    world.settings = world.settings.model_copy(update={"shards": 1})
    world.jobs = world.make_jobs()
    assert rollup.handle({"shard": 0}, Context(900_000), rollup_parts(world))["runs"] == 2
    assert sum(total.bytes for total in world.usage().values()) == 78


def test_a_tick_compacts_what_is_due_and_a_second_one_nothing() -> None:
    world = World()
    world.send([record(5), record(7)])
    world.clock.advance_s(HOUR_S)
    parts = compactor_parts(world)
    first = compactor.handle({}, Context(900_000), parts)
    assert (first["runs"], first["rows"], first["finished"]) == (1, 2, True)
    second = compactor.handle({}, Context(900_000), parts)
    assert (second["runs"], second["rows"]) == (0, 0)


@pytest.mark.parametrize(("hides", "code"), [(False, "404"), (True, "403")])
def test_the_compactor_tells_the_doctor_what_it_gets_for_a_missing_file_and_does_nothing_else(
    hides: bool, code: str
) -> None:
    world = World()
    world.send([record(5)])
    world.clock.advance_s(HOUR_S)
    jobs = replace(world.jobs, objects=MemoryObjectStore(world.clock, hides_missing=hides))
    assert compactor.probed({"probe": "missing-key"}, started(jobs, "compactor")) == {"probe": code}
    assert not world.objects.keys("lake/")
    with pytest.raises(ValueError, match="no probe"):
        compactor.probed({"probe": "secrets"}, started(jobs, "compactor"))


@dataclass(frozen=True)
class ClockContext:
    """Context of an invocation that times out by the world's clock."""

    world: World
    end_ms: int

    def get_remaining_time_in_millis(self) -> int:
        return self.end_ms - self.world.clock.now_ms()


def tick_of(world: World, seconds: int = 900) -> ClockContext:
    return ClockContext(world=world, end_ms=world.clock.now_ms() + seconds * 1_000)


def leave_orphans(world: World, count: int) -> None:
    for number in range(count):
        world.objects.put(f"staging/2026-11-24/{number:032x}.parquet", b"left behind", if_absent=True)


def test_a_compactor_that_has_more_to_do_than_time_leaves_a_quarter_of_it_to_the_cleaners() -> None:
    world = World()
    world.send([record(5)])
    world.clock.advance_s(HOUR_S)
    world.jobs.compactor.run(world.deadline())
    world.send([record(5, start_s=NOW_S - hours * HOUR_S) for hours in range(40)])
    leave_orphans(world, 250)
    world.clock.advance_s(2 * DAY_S)

    def slow(call: str) -> None:
        if call == "objects.put":
            world.clock.advance_s(20)

    world.objects.on_call = slow
    answer = compactor.handle({}, tick_of(world), compactor_parts(world))
    assert 0 < answer["hours"] < 40
    assert (answer["finished"], answer["cleaned_runs"], answer["orphans"]) == (False, 1, 250)


def test_a_cleaner_that_has_more_to_do_than_time_leaves_half_of_it_to_those_after_it() -> None:
    world = World()
    for _ in range(20):
        world.send([record(5)])
        world.clock.advance_s(HOUR_S)
        world.jobs.compactor.run(world.deadline())
    leave_orphans(world, 250)
    world.clock.advance_s(2 * HOUR_S)

    def slow(call: str) -> None:
        if call == "objects.get":
            world.clock.advance_s(120)

    world.objects.on_call = slow
    answer = compactor.handle({}, tick_of(world), compactor_parts(world))
    assert 0 < answer["cleaned_runs"] < 10
    assert answer["orphans"] == 250


def test_each_shard_has_a_tick_and_the_first_one_takes_what_is_no_shards_own() -> None:
    world = World(shards=3)
    for size in range(12):
        world.send([record(size + 1)])
    orphan = f"staging/2026-11-24/{'e' * 32}.parquet"
    world.objects.put(orphan, b"left behind", if_absent=True)
    world.clock.advance_s(HOUR_S)
    parts = compactor_parts(world)
    answers = [compactor.handle({"shard": shard}, Context(900_000), parts) for shard in (1, 2, 0)]
    assert [answer["runs"] for answer in answers] == [1, 1, 1]
    assert sum(answer["rows"] for answer in answers) == 12
    assert [answer["orphans"] for answer in answers] == [0, 0, 1]


def test_shards_that_the_stage_has_no_more_are_worked_on_by_the_first_tick() -> None:
    world = World(shards=3)
    for size in range(12):
        world.send([record(size + 1)])
    world.settings = world.settings.model_copy(update={"shards": 1})
    world.jobs = world.make_jobs()
    world.clock.advance_s(HOUR_S)
    answer = compactor.handle({"shard": 0}, Context(900_000), compactor_parts(world))
    assert (answer["runs"], answer["rows"]) == (3, 12)


@pytest.mark.parametrize("shard", ["0", -1, True, 1.0])
def test_an_event_that_names_no_shard_is_refused(shard: object) -> None:
    with pytest.raises(ValueError, match="no shard"):
        compactor.handle({"shard": shard}, Context(900_000), compactor_parts(World()))


def reconciler_parts(world: World) -> Started[LakeJobs]:
    return started(world.jobs, "reconciler")


def test_hours_are_reconciled_before_lost_objects_are_looked_for_and_although_that_fails() -> None:
    world = World()
    world.send([record(5)])
    world.items.put(Put(table=Table.LEDGER, item={**DROPS_KEY._asdict(), "lost": "unreadable"}))
    with pytest.raises(LedgerCorruptError, match=DROPS_KEY.pk):
        reconciler.handle(Context(900_000), reconciler_parts(world))
    assert world.items.peek(Table.LEDGER, RECONCILIATION_KEY) is not None


def test_lost_objects_are_looked_for_although_the_hours_cannot_be_reconciled_and_both_failures_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    now_s = world.clock.now_ms() // 1_000
    known = Completeness(through_s=now_s, measured_s=now_s)
    world.items.put(Put(table=Table.LEDGER, item=known.to_item()))
    [batch_id] = world.send([record(5)])
    world.items.update(Update(table=Table.LEDGER, key=marker_key(batch_id), remove=("verdict",)))
    with pytest.raises(LedgerCorruptError, match=batch_id):
        reconciler.handle(Context(900_000), reconciler_parts(world))
    assert world.items.peek(Table.LEDGER, DROPS_KEY) is not None
    world.items.put(Put(table=Table.LEDGER, item={**DROPS_KEY._asdict(), "lost": "unreadable"}))
    caplog.clear()
    with pytest.raises(LedgerCorruptError, match=DROPS_KEY.pk):
        reconciler.handle(Context(900_000), reconciler_parts(world))
    assert batch_id in caplog.text


def test_a_tick_reconciles_and_writes_down_what_it_came_to() -> None:
    world = World()
    world.send([record(5)], source="edge")
    parts = reconciler_parts(world)
    for _ in range(2):
        answer = reconciler.handle(Context(900_000), parts)
        assert answer == {"scanned": True, "hours": 1, "different": 0, "left": 0, "lost_drops": 0}
        assert [source.source_id for source in world.jobs.reconciler_state.sources()] == ["edge"]
        item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
        assert item is not None
        assert Reconciliation.from_item(item) == Reconciliation(
            finished_s=NOW_S, hours=1, differences=0, scan_due_s=NOW_S
        )


# No function works with a ledger in an unknown format: the invocation fails, and the messages return to the queue.

OWN = LedgerFormat(number=FORMAT_VERSION, written_by="0.1.0", usage_generation=settings().usage_generation)
OLD = LedgerFormat(number=FORMAT_VERSION - 1, written_by="0.1.0", usage_generation=1)
OF_LOGS = ("onramp", "log_context")
FUNCTIONS = sorted(path.parent.name for path in Path(lambdas.__path__[0]).glob("*/handler.py"))


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[FormatLedger]:
    """The ledger of a region; the region's functions start in this process."""
    for name, value in as_environment(settings().model_dump()).items():
        monkeypatch.setenv(name, value)
    clients = Clients(Access(region="eu-west-1", endpoint_url="http://127.0.0.1:9", access_key=("test", "test")))
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: clients)
    _forget()
    yield FormatLedger(clients, None)
    _forget()


def _forget() -> None:
    for name in FUNCTIONS:
        importlib.import_module(f"lambdas.{name}.handler").dependencies.cache_clear()


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - {"api"}))
def test_a_function_starts_on_a_ledger_of_its_format_and_not_on_a_newer_or_an_older_one(
    name: str, ledger: FormatLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependencies = importlib.import_module(f"lambdas.{name}.handler").dependencies
    if name in OF_LOGS:
        monkeypatch.setenv("METERING_LOG_SOURCES", "[]")
    ledger.item = NEWER.to_item()
    for _ in range(2):
        # The failure is not cached, so the function works again once the region is repaired.
        with pytest.raises(FormatTooNewError, match=re.escape(REFUSAL)):
            dependencies()
    ledger.item = OLD.to_item()
    with pytest.raises(FormatTooOldError, match="run metering upgrade"):
        dependencies()
    ledger.item = replace(OWN, usage_generation=OWN.usage_generation + 1).to_item()
    with pytest.raises(GenerationError, match="usage table 3, and 2 is deployed"):
        dependencies()
    ledger.item = OWN.to_item()
    assert dependencies()
    assert ledger.put == []


@pytest.mark.parametrize(("parts", "watches"), [(RegionConnection, True), (ReaderParts, True), (FunctionParts, False)])
def test_who_reads_for_long_watches_whether_the_ledger_is_in_use(
    parts: type[RegionPorts], watches: bool, ledger: FormatLedger
) -> None:
    ledger.item = OWN.to_item()
    made = parts(clients=Clients.from_env({}), names=settings())
    assert isinstance(made.items, WatchedLedger) is watches
    assert ledger.asked == 1


def test_the_aggregator_makes_the_format_of_a_new_region_known(ledger: FormatLedger) -> None:
    assert importlib.import_module("lambdas.aggregator.handler").dependencies()
    own = replace(OWN, written_by=package_version())
    assert [put["Item"] for put in ledger.put] == [to_attributes(own.to_item())]
    assert "attribute_not_exists" in ledger.put[0]["ConditionExpression"]
    assert ledger.asked == 1


def message(name: str) -> SqsRecord:
    """A batch as the event source mapping delivers it."""
    attributes = {"SentTimestamp": "1", "ApproximateReceiveCount": "1", "SenderId": "a"}
    return {"messageId": name, "receiptHandle": name, "body": delivery(batch(1)).body, "attributes": attributes}


def test_a_new_process_that_gets_no_answer_gives_every_message_back_and_is_no_error(ledger: FormatLedger) -> None:
    ledger.throttled = True
    assert aggregate({"Records": [message("m"), message("n")]}, Context()) == {
        "batchItemFailures": [{"itemIdentifier": "m"}, {"itemIdentifier": "n"}]
    }


def test_the_api_answers_nothing_of_a_ledger_that_it_does_not_know(ledger: FormatLedger) -> None:
    """The client gets the function's error, not the gateway's, because only the first request opens the ledger."""
    event = request("/v1/health")
    ledger.item = NEWER.to_item()
    for _ in range(2):
        assert answer(event, Context())["statusCode"] == 500
    ledger.item = OWN.to_item()
    assert answer(event, Context())["statusCode"] == 200


def test_the_api_says_that_it_cannot_answer_now(ledger: FormatLedger) -> None:
    ledger.throttled = True
    answered = answer(request("/v1/health"), Context())
    assert answered["statusCode"] == 503


def test_the_aggregator_gives_every_message_back(ledger: FormatLedger) -> None:
    """The function raises, so no message is deleted from the queue; only the data format was read from the ledger."""
    ledger.item = NEWER.to_item()
    with pytest.raises(FormatTooNewError):
        aggregate({"Records": [message("m")]}, Context())
    assert ledger.put == []
