"""Drills of the log sources' runbooks: an alarm fires, the runbook's commands fix the cause, the alarm clears.

As in `test_runbooks`, the tests backdate stored state that the watch reads.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from metering.ledger.notes.log_sources import LOG_SOURCE_PK, LOG_SOURCES_KEY, LogFigures, LogSourceState, log_sums_pk
from metering.onramps.coverage.looking import SLOT_S
from metering.onramps.plans import slot_label, source_prefix
from metering.settings import GivenSettings
from metering.stores.writes import Delete, Key, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.e2e.conftest import Service, deployed, own_emulator
from tests.e2e.oncall import CHECK, MITIGATE, SEE, cured, figures, follow, follows, function, heard, told, until
from tests.e2e.test_runbooks import (
    CLEARED_S,
    changed_by_hand,
    forget_errors,
    here,
    item_of,
    ledger,
    put,
    put_figure,
    state_of,
)

pytestmark = [pytest.mark.ministack(reason="an alarm is looked at as soon as its figure is put"), pytest.mark.drill]

STAGE, HOME, REGION, ACCOUNT = "killtest", "us-east-1", "eu-central-1", "000000000000"
BUCKET, PLACE = "drilled-logs", "s3://drilled-logs/AWSLogs/"
_SOURCES = [{"name": "drilled", "bucket": BUCKET, "region": REGION, "prefix": "AWSLogs/", "accounts": [ACCOUNT]}]
_FIELDS = (
    "version account-id interface-id srcaddr dstaddr bytes start end action log-status vpc-id subnet-id instance-id "
    "pkt-srcaddr pkt-dstaddr region az-id flow-direction traffic-path"
)
_RAISED: list[str] = []
_TAKEN_BACK: dict[tuple[str, datetime], int] = {}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A stage with a log source, in a region other than the shell's."""
    given = GivenSettings(like=STAGE, by_option={"log_sources": _SOURCES})
    with own_emulator() as running:
        yield deployed(
            running.endpoint, running.ca_bundle, enforced=True, stage=STAGE, regions=(HOME, REGION), given=given
        )


@dataclass(frozen=True)
class Network:
    """A VPC with two flow logs, one of which delivers nothing, and their bucket, which sends no event notifications."""

    service: Service
    vpc: str
    subnet: str
    zone: str
    flow_log: str
    mute: str

    def deliver(self, slot_s: int, *, peer: str = "10.77.1.20", bad: int = 0) -> str:
        """Put the log file of a time slot into the bucket; return its key."""
        line = (
            f"5 {ACCOUNT} eni-0a 10.77.1.10 {peer} 1000 {slot_s} {slot_s + 30} ACCEPT OK {self.vpc} {self.subnet} "
            f"i-0abc 10.77.1.10 {peer} {REGION} {self.zone} egress 1"
        )
        lines = [_FIELDS, *[line] * (20 - bad), *["a line of something else"] * bad, ""]
        name = f"{ACCOUNT}_vpcflowlogs_{REGION}_{self.flow_log}_{slot_label(slot_s)}_1a2b3c4d.log.gz"
        key = f"AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/{datetime.fromtimestamp(slot_s, UTC):%Y/%m/%d}/{name}"
        self.service.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=gzip.compress("\n".join(lines).encode()))
        return key

    def ingest(self) -> None:
        done = self.service.type("operator", here(self.service, f"ingest {PLACE} --since 1d"))
        assert done.returncode in {0, 1}, done.stderr

    def look(self) -> None:
        """Invoke the `LogContext` function, as its schedule does every five minutes."""
        answer = self.service.clients.lambda_.invoke(FunctionName=function(self.service, "LogContext"), Payload=b"{}")
        assert "FunctionError" not in answer, answer["Payload"].read()

    def forget_files(self) -> None:
        """Delete the plans of all log files, as if the files were older than the look-back."""
        s3, items, bucket = self.service.clients.s3, ledger(self.service), self.service.outputs["DataBucketName"]
        for prefix in (source_prefix("vpc-flow", self.flow_log), "AWSLogs/"):
            named = BUCKET if prefix == "AWSLogs/" else bucket
            for each in s3.list_objects_v2(Bucket=named, Prefix=prefix).get("Contents", []):
                s3.delete_object(Bucket=named, Key=each["Key"])
        pk = log_sums_pk("vpc-flow", self.flow_log)
        for item in list(items.query(Table.LEDGER, pk)):
            items.delete(Delete(table=Table.LEDGER, key=Key(pk, str(item["sk"]))))
        items.delete(Delete(table=Table.LEDGER, key=Key(LOG_SOURCE_PK, f"vpc-flow#{self.flow_log}")))


@pytest.fixture(scope="module")
def network(service: Service) -> Network:
    ec2: Any = service.clients.client("ec2")
    service.clients.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})  # type: ignore[typeddict-item]  # a region
    vpc = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.1.0/24")["Subnet"]
    logs = [
        ec2.create_flow_logs(
            ResourceIds=[each],
            ResourceType=kind,
            TrafficType="ACCEPT",
            LogDestinationType="s3",
            LogDestination=f"arn:aws:s3:::{BUCKET}",
            LogFormat=" ".join(f"${{{name}}}" for name in _FIELDS.split()),
        )["FlowLogIds"][0]
        for kind, each in (("VPC", vpc), ("Subnet", subnet["SubnetId"]))
    ]
    made = Network(
        service=service,
        vpc=vpc,
        subnet=subnet["SubnetId"],
        zone=subnet["AvailabilityZoneId"],
        flow_log=logs[0],
        mute=logs[1],
    )
    made.look()
    return made


@follows("log-slots-missing")
def test_files_that_did_not_come_raise_log_slots_missing_and_its_runbook_sends_or_accepts_them(
    service: Service, pager: str, network: Network
) -> None:
    end_s = int(time.time()) // SLOT_S * SLOT_S
    slots = list(range(end_s - 2 * HOUR_S, end_s, SLOT_S))
    never_s, late_s = slots[4], slots[8]
    for slot_s in slots:
        if slot_s not in {never_s, late_s}:
            network.deliver(slot_s)
    network.ingest()
    network.look()
    network.deliver(late_s)

    page = heard(service, pager, "log-slots-missing")
    assert figures(service)["LogSlotsMissing"] == 2
    slots_text = datetime.fromtimestamp(never_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    filled = {"PLACE": PLACE, "SOURCE": network.flow_log, "SLOTS": slots_text}
    assert cured(service, page, **filled) == ([0, 0, 0], [0, 0], [0, 0])
    assert figures(service)["LogSlotsMissing"] == 0
    _RAISED.append("log-slots-missing")


@follows("log-source-silent")
def test_a_flow_log_that_never_delivered_raises_log_source_silent_and_is_forgotten(
    service: Service, pager: str, network: Network
) -> None:
    key = Key(LOG_SOURCE_PK, f"vpc-flow#{network.mute}")
    state = LogSourceState.from_item(item_of(service, key))
    older = replace(state, expected_s=state.expected_s - 2 * HOUR_S)
    put(service, older.to_item() | {"expires_at": int(time.time()) + DAY_S})
    network.look()

    page = heard(service, pager, "log-source-silent")
    filled = {"PLACE": PLACE, "SOURCE": network.mute}
    assert cured(service, page, **filled) == ([0, 0, 0], [0, 0, 0], [0, 0])
    assert figures(service)["LogSourceSilent"] == 0
    assert "EventBridgeConfiguration" in service.clients.s3.get_bucket_notification_configuration(Bucket=BUCKET)
    _RAISED.append("log-source-silent")


@follows("log-lines-refused")
@follows("log-bytes-unclassified")
@pytest.mark.parametrize(("name", "peer", "bad"), [
    ("log-lines-refused", "10.77.1.20", 5), ("log-bytes-unclassified", "203.0.113.7", 0),
])  # fmt: skip
def test_lines_that_nobody_can_meter_or_classify_raise_their_alarm_and_better_files_end_it(
    service: Service, pager: str, network: Network, name: str, peer: str, bad: int
) -> None:
    network.forget_files()
    network.deliver(int(time.time()) // SLOT_S * SLOT_S - SLOT_S, peer=peer, bad=bad)
    network.ingest()
    network.look()

    page = heard(service, pager, name)
    assert set(follow(service, page, SEE)) == {0}
    assert set(follow(service, page, MITIGATE)) == {0}
    # Two days later.
    network.forget_files()
    assert follow(service, page, CHECK) == [0, 0]
    _RAISED.append(name)


@follows("log-context-late")
def test_a_context_that_nobody_captured_raises_log_context_late_and_its_runbook_captures_one(
    service: Service, pager: str, network: Network
) -> None:
    known = LogFigures.from_item(item_of(service, LOG_SOURCES_KEY))
    old_s = int(time.time()) - 4 * HOUR_S
    put(service, replace(known, context_s=old_s, first_run_s=old_s).to_item())

    page = heard(service, pager, "log-context-late")
    assert follow(service, page, SEE) == [0, 0]
    # The exit code is 1 if AWS's list of address ranges cannot be downloaded; an emulated function works without it.
    assert set(follow(service, page, MITIGATE)) <= {0, 1}
    network.look()
    assert follow(service, page, CHECK) == [0, 0]
    assert figures(service)["LogContextAge"] == 0
    _RAISED.append("log-context-late")


@follows("onramp-dead-letters")
def test_a_file_that_could_not_be_read_raises_onramp_dead_letters_and_its_runbook_meters_it(
    service: Service, pager: str, network: Network
) -> None:
    key = network.deliver(int(time.time()) // SLOT_S * SLOT_S - 2 * SLOT_S)
    etag = service.clients.s3.head_object(Bucket=BUCKET, Key=key)["ETag"].strip('"')
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": BUCKET}, "object": {"key": key, "etag": etag}},
    }
    dead = service.pipeline_outputs()["OnrampDeadLetterQueueUrl"]
    # SQS moves a message to the dead-letter queue after five receives.
    service.clients.sqs.send_message(QueueUrl=dead, MessageBody=json.dumps(event))
    put_figure(service, "AWS/SQS", "ApproximateNumberOfMessagesVisible", 1, at_s=time.time())

    page = told(service, pager, "onramp-dead-letters")
    [letter] = json.loads(service.type("operator", here(service, "dlq list --log-files --format json")).stdout)["rows"]
    assert letter["file"] == f"s3://{BUCKET}/{key}"
    assert follow(service, page, SEE) == [0, 0, 0]
    assert follow(service, page, MITIGATE) == [0, 0]
    count = service.clients.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])
    assert count["Attributes"]["ApproximateNumberOfMessages"] == "0"
    put_figure(service, "AWS/SQS", "ApproximateNumberOfMessagesVisible", 0, at_s=time.time() + MINUTE_S)
    assert set(follow(service, page, CHECK)) == {0}


@follows("onramp-errors")
@follows("log-context-errors")
@pytest.mark.parametrize(("name", "construct"), [("onramp", "Onramp"), ("log-context", "LogContext")])
def test_a_function_for_logs_that_fails_raises_its_alarm_and_its_runbook_names_the_error(
    service: Service, pager: str, network: Network, name: str, construct: str
) -> None:
    del network
    with changed_by_hand(service, construct, METERING_LEDGER_TABLE="") as undo:
        answer = service.clients.lambda_.invoke(FunctionName=function(service, construct), Payload=b'{"Records": []}')
        assert "FunctionError" in answer
        # MiniStack evaluates an alarm only when a data point is put.
        put_figure(service, "AWS/Lambda", "Errors", 0, at_s=time.time())
        page = told(service, pager, f"{name}-errors")
        [line] = [each for each in page.text.splitlines() if each.startswith(f"$ metering errors {name}")][:1]
        logged = json.loads(service.type("operator", f"{line[2:]} --format json").stdout)["rows"]
        assert any("METERING_LEDGER_TABLE" in row["error"] for row in logged)
        assert {row["function"] for row in logged} == {name}
        assert set(follow(service, page, SEE)) == {0}
        undo()
        # The redeployment stands last.
        assert set(follow(service, page, MITIGATE, PLACE=PLACE)[-1:]) == {0}
        assert set(follow(service, page, CHECK)) == {0}
    forget_errors(service, constructs=("Onramp", "LogContext"), taken_back=_TAKEN_BACK)
    assert state_of(service, f"{name}-errors") == "OK"


def test_every_alarm_of_a_figure_is_off_again(service: Service, network: Network) -> None:
    """This test runs last, because the other tests do not wait until alarms clear."""
    network.look()
    assert _RAISED, "no drill came before"
    until(lambda: all(state_of(service, name) == "OK" for name in set(_RAISED)), CLEARED_S)
