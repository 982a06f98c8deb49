"""Drills of runbooks: an alarm fires, the runbook's commands fix the cause, the alarm clears.

The alarm's description contains the command to run. Stage and region are not the defaults, and the shell is set to
another region, so commands must name both. Tests do not wait for days: they backdate stored state that the watch reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.aws.stacks import stack_outputs
from metering.ledger import partitions
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import Waiting, waiting_in
from metering.ledger.markers import CONFLICT_PK, Marker, conflict_of, conflict_seen_item, marker_key
from metering.ledger.notes.checks import CANARY_PK, CanaryRun, CanaryVerdict, DroppedObjects, LostDrop
from metering.ledger.notes.lake import Cleaning, LakeFigures
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, SOURCE_PK, Backlog, Reconciliation, WorkList
from metering.ledger.notes.watch import WatchState
from metering.ledger.runs import lake_chain, newest_first
from metering.ledger.usage.kinds import KindsBeyondCap
from metering.operations.alarms import WATCH_NAMESPACE
from metering.settings import GivenSettings
from metering.stores.writes import Action, Delete, Item, ItemStore, Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.wiring.connection import RegionConnection
from metering.wiring.region import RegionPorts
from tests.e2e import oncall
from tests.e2e.conftest import Service, deployed, own_emulator
from tests.e2e.oncall import follows
from tests.e2e.test_main_job import account, message, record, report
from tests.support.memory.clock import MemoryAlerts, MemoryMetrics
from tests.support.region import Parts
from tests.support.small_world import KilledError


class DyingItems:
    """Item store that simulates a process killed right after its first put into a partition."""

    def __init__(self, items: ItemStore, partition: str) -> None:
        self._items = items
        self._partition = partition
        self._dead = False

    def get(self, table: Table, key: Key) -> Item | None:
        return self._items.get(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        return self._items.get_many(table, keys)

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        return self._items.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        return self._items.scan(table, part=part, parts=parts, prefixes=prefixes)

    def put(self, action: Put) -> None:
        self._live()
        self._items.put(action)
        self._note([action])

    def update(self, action: Update) -> Item:
        self._live()
        return self._items.update(action)

    def delete(self, action: Delete) -> None:
        self._live()
        self._items.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        self._live()
        self._items.transact(actions)
        self._note(actions)

    def _live(self) -> None:
        if self._dead:
            raise KilledError

    def _note(self, actions: Sequence[Action]) -> None:
        self._dead |= any(
            isinstance(action, Put) and str(action.item["pk"]).startswith(self._partition) for action in actions
        )


def parts_dying_after(service: Service, partition: str) -> Parts:
    """The production stores and use cases of the deployed region, which fail after the first put into a partition."""
    region = RegionConnection(clients=service.clients, names=stack_outputs(service.clients, service.stage))
    return Parts(
        items=DyingItems(region.items, partition),
        objects=region.objects,
        clock=SystemClock(),
        entropy=SystemEntropy(),
        metrics=MemoryMetrics(),
        alerts=MemoryAlerts(),
        settings=region.settings,
    )


pytestmark = pytest.mark.ministack(reason="an alarm is looked at as soon as its figure is put")

STAGE, HOME, REGION = "killtest", "us-east-1", "eu-central-1"
# Three data points of a minute each, and the time between two measurements of the watch.
CLEARED_S = 240
_RAISED: list[str] = []
_TAKEN_BACK: dict[tuple[str, datetime], int] = {}
FUNCTIONS = ("aggregator", "compactor", "rollup", "reconciler", "canary", "watch", "biller", "api")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A stage with a non-default name, in a region that is not its home."""
    with own_emulator() as running:
        given = GivenSettings(like=STAGE, by_option={"api": True})
        yield deployed(
            running.endpoint, running.ca_bundle, enforced=True, stage=STAGE, regions=(HOME, REGION), given=given
        )


def test_a_new_region_pages_nobody_for_a_watch_that_has_not_run_yet(service: Service) -> None:
    name = f"metering-{service.stage}-watch-silent"
    [alarm] = service.clients.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]

    # The alarm was in state OK when it was created, because its metric existed before.
    assert alarm["StateValue"] == "OK"
    assert (alarm["StateUpdatedTimestamp"] - alarm["AlarmConfigurationUpdatedTimestamp"]).total_seconds() < 2


@follows("oldest-batch")
@pytest.mark.parametrize("of", ["the gate", pytest.param("the drills", marks=pytest.mark.drill)])
def test_a_stopped_aggregator_raises_oldest_batch_and_its_runbook_starts_it(
    service: Service, pager: str, stopped_aggregator: None, of: str
) -> None:
    """The drills also wait for the alarm to clear, which takes minutes."""
    who = account()
    service.send(message(f"batch-{who}", [record(who, size=815)]))
    let_pass(service, 16 * MINUTE_S)

    alert = oncall.hear(service, pager, {"oldest-batch"})
    page = oncall.runbook_of(service, alert)
    assert page.name == oncall.alarm_of(service, alert)
    assert oncall.follow(service, page, oncall.SEE) == [0, 0]
    assert report(service, who) == {}

    assert oncall.follow(service, page, oncall.MITIGATE) == [0]
    assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
    assert service.clients.lambda_.get_event_source_mapping(UUID=oncall.mapping(service))["State"] == "Enabled"
    assert list(report(service, who).values()) == [815]
    assert oncall.figures(service)["OldestBatchAge"] == 0
    will_clear("oldest-batch")


@follows("canary-late")
@pytest.mark.drill
def test_a_stopped_canary_raises_canary_late_and_its_runbook_starts_it(service: Service, pager: str) -> None:
    with stopped(service, "Canary") as rule:
        # An earlier run must end now, because the clock is then moved forward by 21 minutes.
        oncall.until(lambda: all(run.verdict is not CanaryVerdict.SENT for run in canaries(service)), 150)
        let_pass(service, 21 * MINUTE_S)

        assert oncall.cured(service, oncall.heard(service, pager, "canary-late")) == ([0, 0, 0, 0], [0], [0, 0])
        assert service.clients.events.describe_rule(Name=rule)["State"] == "ENABLED"
    assert oncall.figures(service)["CanaryAge"] < MINUTE_S
    will_clear("canary-late")


@follows("watch-silent")
@pytest.mark.drill
def test_a_stopped_watch_raises_watch_silent_and_its_runbook_starts_it(service: Service, pager: str) -> None:
    with stopped(service, "Watch") as rule:
        # CloudWatch treats a missing heartbeat as breaching; MiniStack evaluates only the data points that are put.
        stopped_s = time.time()
        put_figure(service, WATCH_NAMESPACE, "Heartbeat", -1_000, at_s=stopped_s)
        page = oncall.told(service, pager, "watch-silent")
        assert oncall.follow(service, page, oncall.SEE) == [0, 0]
        assert oncall.follow(service, page, oncall.MITIGATE) == [0, 0, 0]
        assert service.clients.events.describe_rule(Name=rule)["State"] == "ENABLED"
        assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
    put_figure(service, WATCH_NAMESPACE, "Heartbeat", 1_000, at_s=stopped_s)
    assert state_of(service, "watch-silent") == "OK"


@follows("dead-letters")
@pytest.mark.drill
def test_a_batch_that_died_raises_dead_letters_and_its_runbook_meters_it(
    service: Service, pager: str, stopped_aggregator: None
) -> None:
    who = account()
    body = message(f"dies-{who}", [record(who, size=4_711)])
    # SQS moves a message to the dead-letter queue after five receives.
    service.clients.sqs.send_message(QueueUrl=service.outputs["DeadLetterQueueUrl"], MessageBody=body)
    service.clients.lambda_.update_event_source_mapping(UUID=oncall.mapping(service), Enabled=True)

    assert oncall.cured(service, oncall.heard(service, pager, "dead-letters")) == ([0, 0, 0], [0, 0, 0], [0, 0, 0])
    assert list(report(service, who).values()) == [4_711]
    will_clear("dead-letters")


@follows("conflicts")
@pytest.mark.drill
def test_ids_that_were_used_twice_raise_conflicts_and_only_the_named_source_is_metered(
    service: Service, pager: str
) -> None:
    right, wrong = account(), account()
    for who, size in ((right, 10), (wrong, 20), (right, 1_000), (wrong, 2_000)):
        numbered = {"source_id": f"source-{who}", "sequence": 0}
        service.send(message(f"reused-{who}", [record(who, size=size)], **numbered))
        service.wait_for_rest()

    page = oncall.heard(service, pager, "conflicts")
    filled = {"SOURCE": f"source-{right}", "BATCH": f"reused-{right}"}
    assert oncall.follow(service, page, oncall.SEE, **filled) == [0, 0]
    assert oncall.follow(service, page, oncall.MITIGATE, **filled) == [0, 0]
    service.wait_for_rest()
    assert oncall.follow(service, page, oncall.CHECK, **filled) == [0, 0, 0]
    assert list(report(service, right).values()) == [1_010]
    assert list(report(service, wrong).values()) == [20]
    forget_time_of_conflicts(service)
    will_clear("conflicts")


@follows("kinds-beyond-cap")
@pytest.mark.drill
def test_an_account_with_more_kinds_than_numbers_raises_kinds_beyond_cap(service: Service, pager: str) -> None:
    who = account()
    service.send(message(f"kinds-{who}", [record(who, size=10)]))
    service.wait_for_rest()
    # The test writes what the roll-up would write, because booking four thousand kinds would take minutes.
    note = KindsBeyondCap(account_id=who, kinds=3, example="T#AmazonEC2#us-east-1#internet", seen_s=int(time.time()))
    put(service, note.to_item())

    assert oncall.cured(service, oncall.heard(service, pager, "kinds-beyond-cap"), ACCOUNT=who) == ([0, 0], [0], [0])
    # Two hours later.
    put(service, replace(note, seen_s=note.seen_s - 3 * HOUR_S).to_item())
    will_clear("kinds-beyond-cap")


@follows("lost-drops")
@pytest.mark.drill
def test_an_object_that_was_not_announced_raises_lost_drops_and_its_runbook_announces_it(
    service: Service, pager: str
) -> None:
    who = account()
    lost = drop_unannounced(service, who, json.dumps(record(who, size=4_711)).encode())
    # The reconciler does this once a day, when no role can still announce the object.
    now_s = int(time.time())
    put(service, DroppedObjects(lost=(lost,), began_s=now_s, finished_s=now_s, seen_to_s=now_s).to_item())

    page = oncall.heard(service, pager, "lost-drops")
    assert oncall.follow(service, page, oncall.SEE) == [0, 0, 0]
    assert report(service, who) == {}
    assert oncall.follow(service, page, oncall.MITIGATE) == [0]
    service.wait_for_rest()
    assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
    assert list(report(service, who).values()) == [4_711]
    service.clients.lambda_.invoke(
        FunctionName=oncall.function(service, "Reconciler"), InvocationType="Event", Payload=b"{}"
    )
    will_clear("lost-drops")


def drop_unannounced(service: Service, name: str, body: bytes) -> LostDrop:
    """Put an object below `drop/` while its bucket sends no events."""
    bucket, key, s3 = service.outputs["DataBucketName"], f"drop/{name}.ndjson", service.clients.s3
    answer = s3.get_bucket_notification_configuration(Bucket=bucket)
    kept = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        etag = s3.put_object(Bucket=bucket, Key=key, Body=body)["ETag"].strip('"')
    finally:
        s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=kept)  # type: ignore[arg-type]  # as it was
    return LostDrop(key=key, etag=etag, put_s=int(time.time()))


@follows("source-gaps")
@pytest.mark.drill
def test_numbers_that_never_came_raise_source_gaps_and_an_accepted_gap_holds_nothing_back(
    service: Service, pager: str
) -> None:
    source = sent_by_source(service, 0, 3)
    assert service.type("operator", here(service, "reconcile")).returncode == 0
    age_gaps(service, source, 16 * MINUTE_S)
    assert service.type("operator", here(service, "reconcile")).returncode == 0

    page = oncall.heard(service, pager, "source-gaps")
    filled = {"SOURCE": source, "NUMBERS": "1-2"}
    assert oncall.cured(service, page, **filled) == ([0, 0, 0], [0, 0, 0], [0, 0, 0])
    assert oncall.figures(service)["SourceGaps"] == 0
    will_clear("source-gaps")


@follows("incredible-sources")
@pytest.mark.drill
def test_a_number_beyond_belief_raises_incredible_sources_and_a_forgotten_source_begins_anew(
    service: Service, pager: str
) -> None:
    source = sent_by_source(service, 0, 9_000_000)
    assert service.type("operator", here(service, "reconcile")).returncode == 0

    assert oncall.cured(service, oncall.heard(service, pager, "incredible-sources"), SOURCE=source) == (
        [0],
        [0, 0],
        [0, 0],
    )
    will_clear("incredible-sources")


@follows("silent-sources")
@pytest.mark.drill
def test_a_source_that_went_silent_raises_silent_sources_and_is_forgotten(service: Service, pager: str) -> None:
    source = sent_by_source(service, 0)
    marker = Marker.from_item(item_of(service, marker_key(f"{source}-0")))
    put(service, replace(marker, decided_at_ms=marker.decided_at_ms - 25 * HOUR_S * 1000).to_item())
    ledger(service).delete(Delete(table=Table.LEDGER, key=Key(SOURCE_PK, source)))
    assert service.type("operator", here(service, "reconcile")).returncode == 0

    page = oncall.heard(service, pager, "silent-sources")
    assert oncall.cured(service, page, SOURCE=source) == ([0], [0, 0, 0, 0], [0, 0, 0])
    will_clear("silent-sources")


@follows("unpublished-hours")
@pytest.mark.drill
def test_a_commit_that_waits_raises_unpublished_hours_and_is_compacted(service: Service, pager: str) -> None:
    who = account()
    with stopped(service, "Compactor"):
        service.send(message(f"waits-{who}", [record(who, size=1)]))
        service.wait_for_rest()
        for item in list(pending_in(ledger(service), 0)):
            pending = Pending.from_item(item)
            put(service, replace(pending, created_at_ms=pending.created_at_ms - 27 * HOUR_S * 1000).to_item())
        # The compactor stopped before that commit arrived.
        put(service, LakeFigures(shard=0, listed_s=int(time.time()) - 27 * HOUR_S).to_item())

        page = oncall.heard(service, pager, "unpublished-hours")
        assert oncall.follow(service, page, oncall.SEE)[1:] == [0, 0]
        assert oncall.follow(service, page, oncall.MITIGATE) == [0]
        assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
        assert list(report(service, who).values()) == [1]
        will_clear("unpublished-hours")


@follows("compaction-stalled")
@pytest.mark.drill
def test_a_run_that_nobody_ends_raises_compaction_stalled_and_its_runbook_ends_it(service: Service, pager: str) -> None:
    who = account()
    with stopped(service, "Compactor"):
        service.send(message(f"planned-{who}", [record(who, size=2)]))
        service.wait_for_rest()
        for item in list(pending_in(ledger(service), 0)):
            pending = Pending.from_item(item)
            put(service, replace(pending, created_at_ms=pending.created_at_ms - 2 * HOUR_S * 1000).to_item())
        parts = parts_dying_after(service, partitions.RUN)
        with pytest.raises(KilledError):
            parts.jobs().compactor.run(parts.deadline(5 * MINUTE_S * 1000))
        run = next(newest_first(ledger(service), lake_chain(0)))
        assert run.state == "planned"
        put(service, replace(run, planned_at_ms=run.planned_at_ms - 31 * MINUTE_S * 1000).to_item())

        page = oncall.heard(service, pager, "compaction-stalled")
        assert oncall.follow(service, page, oncall.SEE)[1:] == [0, 0]
        assert oncall.follow(service, page, oncall.MITIGATE) == [0]
        assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
        assert next(newest_first(ledger(service), lake_chain(0))).state == "done"
        will_clear("compaction-stalled")


@follows("cleaning-behind")
@pytest.mark.drill
def test_what_nobody_cleans_raises_cleaning_behind_and_its_runbook_cleans_it(service: Service, pager: str) -> None:
    with stopped(service, "Compactor"):
        now_s = int(time.time())
        put(service, Cleaning(chain=lake_chain(0), looked_s=now_s, due_ms=(now_s - 25 * HOUR_S) * 1000).to_item())

        assert oncall.cured(service, oncall.heard(service, pager, "cleaning-behind")) == ([0, 0, 0], [0, 0], [0, 0])
        will_clear("cleaning-behind")


@follows("usage-waiting")
@pytest.mark.drill
def test_a_stopped_roll_up_raises_usage_waiting_and_its_runbook_books_what_waits(service: Service, pager: str) -> None:
    who = account()
    with stopped(service, "Rollup"):
        service.send(message(f"waiting-{who}", [record(who, size=100)]))
        oncall.until(lambda: waiting_of(service), 120)
        for entry in waiting_of(service):
            put(service, replace(entry, created_at_ms=entry.created_at_ms - 16 * MINUTE_S * 1000).to_item())
        assert list(report(service, who).values()) == []

        page = oncall.heard(service, pager, "usage-waiting")
        oncall.follow(service, page, oncall.SEE)
        assert oncall.follow(service, page, oncall.MITIGATE) == [0]
        assert waiting_of(service) == []
        oncall.until(lambda: oncall.follow(service, page, oncall.CHECK) == [0, 0, 0], 150)
        assert list(report(service, who).values()) == [100]
        will_clear("usage-waiting")


def waiting_of(service: Service) -> list[Waiting]:
    """Commits that wait for the roll-up in the service's first shard."""
    return [Waiting.from_item(item) for item in waiting_in(ledger(service), 0)]


@follows("reconciliation-stalled")
@pytest.mark.drill
def test_a_stopped_reconciler_raises_reconciliation_stalled_and_its_runbook_starts_it(
    service: Service, pager: str
) -> None:
    with stopped(service, "Reconciler") as rule:
        past_s = int(time.time()) - 4 * HOUR_S
        put(service, WatchState(first_s=past_s, queue_empty_s=past_s).to_item())
        put(service, replace(reconciled(service), finished_s=past_s).to_item())

        assert oncall.cured(service, oncall.heard(service, pager, "reconciliation-stalled")) == ([0, 0], [0, 0], [0, 0])
        assert service.clients.events.describe_rule(Name=rule)["State"] == "ENABLED"
    will_clear("reconciliation-stalled")


@follows("reconciliation-backlog")
@pytest.mark.drill
def test_what_waits_for_a_day_raises_reconciliation_backlog_and_its_runbook_compares_it(
    service: Service, pager: str
) -> None:
    who = account()
    service.send(message(f"compared-{who}", [record(who, size=77)]))
    oncall.until(lambda: list(report(service, who).values()) == [77], 150)
    with stopped(service, "Reconciler"), listed_for_a_day(service):
        with seconds_of(service, "Reconciler", 60):
            # The time is shorter than the reconciler's reserve, so it begins nothing, and says what is waiting.
            invoke(service, "Reconciler")
        assert reconciled(service).backlog.waiting

        assert oncall.cured(service, oncall.heard(service, pager, "reconciliation-backlog")) == ([0, 0], [0, 0], [0, 0])
        # Invoked as by the schedule within a quarter of an hour, because only the function has its work list.
        invoke(service, "Reconciler")
        assert reconciled(service).backlog == Backlog()
    will_clear("reconciliation-backlog")


@contextmanager
def listed_for_a_day(service: Service) -> Iterator[None]:
    """Simulate that this hour's usage has waited 25 hours for its comparison and that no scan is due."""
    now_s = int(time.time())
    put(service, WorkList(hours={now_s - now_s % HOUR_S: now_s - 25 * HOUR_S}, scanned_s=now_s + DAY_S).to_item())
    try:
        yield
    finally:
        put(service, WorkList().to_item())


@contextmanager
def seconds_of(service: Service, name: str, seconds: int) -> Iterator[None]:
    """Set a function's timeout to this many seconds, and restore it at the end."""
    change = service.clients.lambda_.update_function_configuration
    before = service.clients.lambda_.get_function_configuration(FunctionName=oncall.function(service, name))["Timeout"]
    change(FunctionName=oncall.function(service, name), Timeout=seconds)
    try:
        yield
    finally:
        change(FunctionName=oncall.function(service, name), Timeout=before)


def invoke(service: Service, name: str) -> None:
    """Invoke a function and wait until it has finished."""
    answer = service.clients.lambda_.invoke(FunctionName=oncall.function(service, name), Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


@follows("canary-doubled")
@pytest.mark.drill
def test_a_doubled_canary_raises_canary_doubled_and_its_runbook_proves_the_totals(service: Service, pager: str) -> None:
    sent_s = int(time.time()) // MINUTE_S * MINUTE_S - 10 * MINUTE_S
    doubled = CanaryRun(slot_s=sent_s, sent_s=sent_s, verdict=CanaryVerdict.DOUBLED, settled_s=sent_s + 60)
    put(service, doubled.to_item())

    assert oncall.cured(service, oncall.heard(service, pager, "canary-doubled")) == ([0, 0], [0], [0, 0])
    # Two hours later.
    ledger(service).delete(Delete(table=Table.LEDGER, key=doubled.key))
    will_clear("canary-doubled")


@follows("marker-life")
@pytest.mark.drill
def test_a_life_of_markers_that_is_too_short_raises_marker_life_and_its_runbook_restores_it(
    service: Service, pager: str
) -> None:
    with changed_by_hand(service, "Watch", METERING_MARKER_LIFE_S=str(40 * DAY_S)) as undo:
        page = oncall.heard(service, pager, "marker-life")
        oncall.follow(service, page, oncall.SEE)
        undo()
        assert oncall.follow(service, page, oncall.MITIGATE) == [0]
        assert oncall.follow(service, page, oncall.CHECK) == [0, 0]
    assert oncall.figures(service)["MarkerLifeHeadroom"] >= 0
    will_clear("marker-life")


@follows("aggregator-errors")
@follows("compactor-errors")
@follows("rollup-errors")
@follows("reconciler-errors")
@follows("canary-errors")
@follows("watch-errors")
@follows("biller-errors")
@follows("api-failing")
@pytest.mark.drill
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_fails_raises_its_alarm_and_its_runbook_names_the_error(
    service: Service, pager: str, name: str
) -> None:
    construct = name.capitalize()
    with changed_by_hand(service, construct, METERING_LEDGER_TABLE="") as undo:
        answer = service.clients.lambda_.invoke(
            FunctionName=oncall.function(service, construct), Payload=b'{"Records": []}'
        )
        assert "FunctionError" in answer
        # MiniStack evaluates an alarm only when a data point is put.
        put_figure(service, "AWS/Lambda", "Errors", 0, at_s=time.time())
        page = oncall.told(service, pager, f"{name}-errors")

        [line] = [each for each in page.text.splitlines() if each.startswith(f"$ metering errors {name}")][:1]
        logged = json.loads(service.type("operator", f"{line[2:]} --format json").stdout)["rows"]
        assert any("METERING_LEDGER_TABLE" in row["error"] for row in logged)
        assert {row["function"] for row in logged} == {name}
        oncall.follow(service, page, oncall.SEE)
        undo()
        assert set(oncall.follow(service, page, oncall.MITIGATE)[-1:]) == {0}
        assert set(oncall.follow(service, page, oncall.CHECK)) == {0}
    forget_errors(service, constructs=[each.capitalize() for each in FUNCTIONS], taken_back=_TAKEN_BACK)
    assert state_of(service, f"{name}-errors") == "OK"


@follows("reconciliation-differences")
@pytest.mark.drill
def test_a_broken_usage_item_raises_reconciliation_differences_and_its_runbook_repairs_it(
    service: Service, pager: str
) -> None:
    """Takes five minutes: an alert and a repair each require two equal passes a minute apart."""
    who = account()
    service.send(message(f"batch-{who}", [record(who, size=1_000)]))
    service.wait_for_rest()
    service.add_by_hand(who, 1)
    assert list(report(service, who).values()) == [1_001]
    service.clients.lambda_.invoke(
        FunctionName=oncall.function(service, "Reconciler"), InvocationType="Event", Payload=b"{}"
    )
    oncall.until(lambda: reconciled(service).differences, 150)

    assert oncall.cured(service, oncall.heard(service, pager, "reconciliation-differences")) == ([1], [0, 0], [0, 0, 0])
    assert list(report(service, who).values()) == [1_000]
    assert oncall.figures(service)["ReconciliationDifferences"] == 0
    will_clear("reconciliation-differences")


@pytest.mark.drill
def test_every_alarm_that_was_raised_is_off_again(service: Service) -> None:
    """This test runs last, because the other tests do not wait until alarms clear."""
    assert _RAISED, "no drill came before"
    end_s = time.monotonic() + CLEARED_S
    while still := sorted(name for name in set(_RAISED) if state_of(service, name) != "OK"):
        assert time.monotonic() < end_s, still
        time.sleep(2)


def will_clear(name: str) -> None:
    """Register an alarm to check later. Alarms clear a minute after the last bad data point."""
    _RAISED.append(name)


def here(service: Service, words: str) -> str:
    return f"metering {words} --region {service.region} --stage {service.stage}"


def sent_by_source(service: Service, *numbers: int) -> str:
    """Create a source that sent batches of these numbers: `<source>-<number>`."""
    who = account()
    source = f"edge-{who}"
    for number in numbers:
        numbered = {"source_id": source, "sequence": number}
        service.send(message(f"{source}-{number}", [record(who, size=1)], **numbered))
    service.wait_for_rest()
    oncall.until(lambda: all(ledger(service).get(Table.LEDGER, marker_key(f"{source}-{n}")) for n in numbers), 60)
    return source


def let_pass(service: Service, seconds: int) -> None:
    """Backdate the state of watch and canary by `seconds`. Whole minutes, like canaries."""
    items, then_s = ledger(service), int(time.time()) - seconds
    put(service, WatchState(first_s=then_s, queue_empty_s=then_s).to_item())
    for run in canaries(service):
        times = {name: getattr(run, name) - seconds for name in ("slot_s", "sent_s", "settled_s")}
        put(service, replace(run, **times).to_item())
        items.delete(Delete(table=Table.LEDGER, key=run.key))


def age_gaps(service: Service, source: str, seconds: int) -> None:
    """Backdate the discovery of a source's gaps by `seconds`."""
    item = dict(item_of(service, Key(SOURCE_PK, source)))
    noticed: Any = item["noticed"]
    item["noticed"] = [[first, last, at_ms - seconds * 1000, since_ms] for first, last, at_ms, since_ms in noticed]
    put(service, item)


def forget_time_of_conflicts(service: Service) -> None:
    """Backdate the conflicts by three hours."""
    items = ledger(service)
    for item in list(items.query(Table.LEDGER, CONFLICT_PK)):
        put(service, conflict_seen_item(*conflict_of(item), int(time.time()) - 3 * HOUR_S))
        items.delete(Delete(table=Table.LEDGER, key=Key(str(item["pk"]), str(item["sk"]))))


@contextmanager
def stopped(service: Service, name: str) -> Iterator[str]:
    """Stop the schedule of a function; yields its rule."""
    arn = service.clients.lambda_.get_function(FunctionName=oncall.function(service, name))["Configuration"][
        "FunctionArn"
    ]
    [rule] = service.clients.events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]
    service.clients.events.disable_rule(Name=rule)
    try:
        yield rule
    finally:
        service.clients.events.enable_rule(Name=rule)


@contextmanager
def changed_by_hand(service: Service, name: str, **variables: str) -> Iterator[Any]:
    """Change environment variables of a function; an empty value removes one. Yields what undoes it."""
    client, physical = service.clients.lambda_, oncall.function(service, name)
    right = client.get_function_configuration(FunctionName=physical)["Environment"]["Variables"]
    wrong = {key: value for key, value in {**right, **variables}.items() if value}

    def undo() -> None:
        client.update_function_configuration(FunctionName=physical, Environment={"Variables": right})

    client.update_function_configuration(FunctionName=physical, Environment={"Variables": wrong})
    try:
        yield undo
    finally:
        undo()


def forget_errors(service: Service, *, constructs: Iterable[str], taken_back: dict[tuple[str, datetime], int]) -> None:
    """Subtract the counted errors from the metric, to simulate that the alarm periods are over.

    MiniStack counts the errors of all functions in one metric. An error is subtracted at the time when it was counted,
    so no alarm period has one without the other, however long a drill takes.

    Args:
        service: The deployed service.
        constructs: Functions whose errors are subtracted.
        taken_back: Function and time -> errors subtracted so far. Updated.
    """
    now_s = time.time()
    for name in constructs:
        found = service.clients.cloudwatch.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Dimensions=[{"Name": "FunctionName", "Value": oncall.function(service, name)}],
            StartTime=moment(now_s - 15 * MINUTE_S),
            EndTime=moment(now_s + MINUTE_S),
            Period=1,
            Statistics=["Sum"],
        )["Datapoints"]
        for point in found:
            place, counted = (name, point["Timestamp"]), int(point["Sum"])
            put_figure(
                service, "AWS/Lambda", "Errors", taken_back.get(place, 0) - counted, at_s=point["Timestamp"].timestamp()
            )
            taken_back[place] = counted


def moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, tz=UTC)


def put_figure(service: Service, namespace: str, name: str, value: int, *, at_s: float) -> None:
    """Publish a metric data point, as AWS would."""
    service.clients.cloudwatch.put_metric_data(
        Namespace=namespace, MetricData=[{"MetricName": name, "Timestamp": moment(at_s), "Value": value}]
    )


def canaries(service: Service) -> list[CanaryRun]:
    return [CanaryRun.from_item(item) for item in ledger(service).query(Table.LEDGER, CANARY_PK)]


def reconciled(service: Service) -> Reconciliation:
    item = ledger(service).get(Table.LEDGER, RECONCILIATION_KEY)
    return Reconciliation(finished_s=0, hours=0, differences=0) if item is None else Reconciliation.from_item(item)


def state_of(service: Service, alarm: str) -> str:
    """Run the watch, and return an alarm's state."""
    oncall.figures(service)
    name = f"metering-{service.stage}-{alarm}"
    [found] = service.clients.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return found["StateValue"]


def item_of(service: Service, key: Key) -> Any:
    item = ledger(service).get(Table.LEDGER, key)
    assert item is not None, key
    return item


def put(service: Service, item: Any) -> None:
    ledger(service).put(Put(table=Table.LEDGER, item=item))


def ledger(service: Service) -> ItemStore:
    return RegionPorts(service.clients, stack_outputs(service.clients, service.stage)).items
