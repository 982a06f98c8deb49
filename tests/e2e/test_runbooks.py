"""Something stops or breaks, its alarm says so by name, and the commands of the runbook that it names bring it back.

Nobody waits for a quarter of an hour here: what the watch goes by is durable state, so the state is made that old.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.stacks import stack_outputs
from metering.ledger.notes.canary_runs import CANARY_PK, CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.notes.watch_state import WatchState
from metering.stores.writes import Delete, Put, Table
from metering.units import MINUTE_S
from metering.wiring.region import RegionPorts
from tests.e2e.oncall import alarm_of, figures, follow, function, hear, mapping, runbook_of, until
from tests.e2e.test_main_job import account, message, record, report

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from tests.e2e.conftest import Service

pytestmark = pytest.mark.ministack(reason="an alarm is looked at as soon as its figure is put")

SEE, MITIGATE, CHECK = "How to see", "How to mitigate", "How to check"


def test_a_new_region_pages_nobody_for_a_watch_that_has_not_run_yet(service: Service) -> None:
    name = f"metering-{service.stage}-watch-silent"
    [alarm] = service.clients.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]

    # Judged good when it was made: the figure was there before the alarm.
    assert alarm["StateValue"] == "OK"
    assert (alarm["StateUpdatedTimestamp"] - alarm["AlarmConfigurationUpdatedTimestamp"]).total_seconds() < 2


def test_a_stopped_aggregator_raises_oldest_batch_and_its_runbook_starts_it(
    service: Service, pager: str, stopped_aggregator: None
) -> None:
    who = account()
    send(service, who, size=815)
    let_pass(service, 16 * MINUTE_S)

    alert = hear(service, pager, {"oldest-batch"})
    runbook = runbook_of(alert)
    assert runbook.stem == alarm_of(service, alert)
    assert follow(service, runbook, SEE) == [0, 0]
    assert report(service, who) == {}

    assert follow(service, runbook, MITIGATE) == [0]
    assert follow(service, runbook, CHECK) == [0, 0]
    assert service.clients.lambda_.get_event_source_mapping(UUID=mapping(service))["State"] == "Enabled"
    assert list(report(service, who).values()) == [815]
    assert figures(service)["OldestBatchAge"] == 0


def test_a_stopped_canary_raises_canary_late_and_its_runbook_starts_it(service: Service, pager: str) -> None:
    rule = schedule_of(service, "Canary")
    service.clients.events.disable_rule(Name=rule)
    # One that began before ends now, not 21 minutes ago.
    until(lambda: all(run.verdict is not CanaryVerdict.SENT for run in canaries(service)), 150)
    let_pass(service, 21 * MINUTE_S)

    runbook = runbook_of(hear(service, pager, {"canary-late"}))
    assert follow(service, runbook, SEE) == [0, 0, 0]
    assert follow(service, runbook, MITIGATE) == [0]
    assert follow(service, runbook, CHECK) == [0, 0]
    assert service.clients.events.describe_rule(Name=rule)["State"] == "ENABLED"
    assert figures(service)["CanaryAge"] < MINUTE_S


@pytest.mark.drill
def test_a_broken_usage_item_raises_reconciliation_differences_and_its_runbook_repairs_it(
    service: Service, pager: str
) -> None:
    """Two passes a minute apart must agree before anybody is told or anything is repaired: it takes five minutes."""
    who = account()
    send(service, who, size=1_000)
    service.wait_for_rest()
    add_by_hand(service, who, 1)
    assert list(report(service, who).values()) == [1_001]
    service.clients.lambda_.invoke(FunctionName=function(service, "Reconciler"), InvocationType="Event", Payload=b"{}")
    until(lambda: reconciled(service).differences, 150)

    runbook = runbook_of(hear(service, pager, {"reconciliation-differences"}))
    assert follow(service, runbook, SEE) == [1]
    assert follow(service, runbook, MITIGATE) == [0, 0]
    assert follow(service, runbook, CHECK) == [0, 0]
    assert list(report(service, who).values()) == [1_000]
    assert figures(service)["ReconciliationDifferences"] == 0
    until(lambda: state_of(service, "reconciliation-differences") == "OK", 90)


def send(service: Service, who: str, *, size: int) -> None:
    body = message(f"batch-{who}", [record(who, size=size)])
    service.client("producer", "sqs").send_message(QueueUrl=service.outputs["IngestQueueUrl"], MessageBody=body)


def let_pass(service: Service, seconds: int) -> None:
    """Make what the watch remembers, and what the canary found, that much older. Whole minutes, as canaries run."""
    items, then_s = ledger(service), int(time.time()) - seconds
    items.put(Put(table=Table.LEDGER, item=WatchState(first_s=then_s, queue_empty_s=then_s).to_item()))
    for run in canaries(service):
        times = {name: getattr(run, name) - seconds for name in ("slot_s", "sent_s", "settled_s")}
        items.put(Put(table=Table.LEDGER, item=replace(run, **times).to_item()))
        items.delete(Delete(table=Table.LEDGER, key=run.key))


def canaries(service: Service) -> list[CanaryRun]:
    return [CanaryRun.from_item(item) for item in ledger(service).query(Table.LEDGER, CANARY_PK)]


def add_by_hand(service: Service, who: str, size: int) -> None:
    """What nobody should do: change a usage item outside of a transaction of the protocol."""
    table = service.outputs["UsageTableName"]
    [item] = [i for i in scan(service, table) if i["pk"]["S"].startswith(f"A#{who}#")]
    service.clients.dynamodb.update_item(
        TableName=table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="ADD #b :size",
        ExpressionAttributeNames={"#b": next(name for name in item if name.startswith("b"))},
        ExpressionAttributeValues={":size": {"N": str(size)}},
    )


def scan(service: Service, table: str) -> list[dict[str, Any]]:
    pages = service.clients.dynamodb.get_paginator("scan").paginate(TableName=table)
    return [item for page in pages for item in page["Items"]]


def schedule_of(service: Service, name: str) -> str:
    """The rule that runs a function."""
    arn = service.clients.lambda_.get_function(FunctionName=function(service, name))["Configuration"]["FunctionArn"]
    [rule] = service.clients.events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]
    return rule


def reconciled(service: Service) -> Reconciliation:
    item = ledger(service).get(Table.LEDGER, RECONCILIATION_KEY)
    return Reconciliation(finished_s=0, hours=0, differences=0) if item is None else Reconciliation.from_item(item)


def state_of(service: Service, alarm: str) -> str:
    """An alarm's state after the watch has looked again."""
    figures(service)
    name = f"metering-{service.stage}-{alarm}"
    [found] = service.clients.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    return found["StateValue"]


def ledger(service: Service) -> ItemStore:
    return RegionPorts(service.clients, stack_outputs(service.clients, service.stage)).items
