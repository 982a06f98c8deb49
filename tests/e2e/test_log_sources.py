"""Log files are metered without a command: an object in a log bucket counts once, even if delivered again."""

from __future__ import annotations

import gzip
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.exceptions
import pytest

from metering.adapters.aws.objects import S3ObjectStore
from metering.onramps.context.store import ContextStore
from tests.e2e.conftest import LOG_ACCOUNTS, LOG_BUCKET, LOG_PREFIX, REGION, Service, wait_for
from tests.e2e.oncall import function
from tests.e2e.test_main_job import _DENIED, report

_FIELDS = (
    "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log-status vpc-id subnet-id instance-id pkt-srcaddr pkt-dstaddr region az-id flow-direction traffic-path"
)


class Logs:
    """A bucket of log files, with a VPC and its flow log."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.s3: Any = service.clients.s3
        ec2: Any = service.clients.client("ec2")
        self.s3.create_bucket(Bucket=LOG_BUCKET)
        self.s3.put_bucket_notification_configuration(
            Bucket=LOG_BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        self.vpc = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=self.vpc, CidrBlock="10.77.1.0/24")["Subnet"]
        self.subnet, self.zone = subnet["SubnetId"], subnet["AvailabilityZoneId"]
        self.flow_log = ec2.create_flow_logs(
            ResourceIds=[self.vpc],
            ResourceType="VPC",
            TrafficType="ALL",
            LogDestinationType="s3",
            LogDestination=f"arn:aws:s3:::{LOG_BUCKET}/",
            LogFormat=" ".join(f"${{{name}}}" for name in _FIELDS.split()),
        )["FlowLogIds"][0]

    def capture(self) -> None:
        """Invoke the function that captures a context every five minutes."""
        name = self.service.pipeline_outputs()["LogContextFunctionName"]
        answer = self.service.clients.lambda_.invoke(FunctionName=name, Payload=b"{}")
        assert "FunctionError" not in answer, answer["Payload"].read()

    def file(self, account_id: str, *sizes: int, name: str = "") -> tuple[str, bytes]:
        """Name and content of a log file with traffic between two instances of a subnet."""
        now_s = int(time.time()) // 300 * 300
        slot = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%MZ")
        lines = [
            f"5 {account_id} eni-0a 10.77.1.10 10.77.1.{20 + number} 1 2 6 1 {size} {now_s} {now_s + 30} ACCEPT OK "
            f"{self.vpc} {self.subnet} i-0abc 10.77.1.10 10.77.1.{20 + number} {REGION} {self.zone} egress 1"
            for number, size in enumerate(sizes)
        ]
        name = name or f"{account_id}_vpcflowlogs_{REGION}_{self.flow_log}_{slot}_{uuid.uuid4().hex[:8]}.log.gz"
        return name, gzip.compress("\n".join([_FIELDS, *lines, ""]).encode())

    def put(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=LOG_BUCKET, Key=key, Body=body)

    def counted(self, account_id: str) -> dict[str, int]:
        return report(self.service, account_id)


@pytest.fixture(scope="module")
def logs(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Logs:
    """The bucket, after an operator put a book of owners and a context was captured."""
    made = Logs(service)
    book = tmp_path_factory.mktemp("owners") / "owners.toml"
    book.write_text('rule = []\n[[network]]\nname = "datadog"\ncidrs = ["203.0.113.0/24"]\n')
    assert service.ask("operator", "owners", "put", str(book))["version"] == 1
    made.capture()
    return made


def key_of(name: str) -> str:
    return f"{LOG_PREFIX}{name.partition('_')[0]}/vpcflowlogs/{REGION}/{datetime.now(UTC):%Y/%m/%d}/{name}"


def test_a_context_is_captured_from_the_networks_of_the_account(logs: Logs) -> None:
    bucket = logs.service.outputs["DataBucketName"]
    context = ContextStore(S3ObjectStore(logs.service.clients.s3, bucket)).newest()
    assert context is not None
    assert logs.flow_log in context.flow_logs
    assert logs.subnet in {each.id for each in context.subnets}
    assert context.accounts == {LOG_ACCOUNTS[0]}
    assert context.networks == (("datadog", ("203.0.113.0/24",)),)
    # The hour already has its context, so nothing is captured again.
    before = len(list(ContextStore(S3ObjectStore(logs.service.clients.s3, bucket)).names()))
    logs.capture()
    assert len(list(ContextStore(S3ObjectStore(logs.service.clients.s3, bucket)).names())) == before


def test_an_object_in_a_log_bucket_is_in_the_report_without_a_command(logs: Logs) -> None:
    account_id = LOG_ACCOUNTS[1]
    name, body = logs.file(account_id, 1_000, 200, 30)
    began_s = time.monotonic()
    logs.put(key_of(name), body)
    counted = wait_for("bytes of the log file", lambda: logs.counted(account_id), limit_s=120)
    assert counted == {"C3DataTransfer-Out-Bytes": 1_230}
    assert time.monotonic() - began_s < 120

    # The file arrives again: as the same event, under another prefix, and with the same lines in other bytes.
    logs.put(key_of(name), body)
    logs.put(f"{LOG_PREFIX}copies/{name}", gzip.compress(gzip.decompress(body), 1))
    assert logs.service.ask("reader", "verify", "--wait", "60s", timeout_s=100)["settled"]
    assert logs.counted(account_id) == counted
    assert account_id not in json.dumps(logs.service.ask("reader", "quarantine", "list"))


def test_verify_waits_for_log_files_and_their_batches(logs: Logs) -> None:
    account_id = LOG_ACCOUNTS[2]
    began_s = time.monotonic()
    for size in (5, 7):
        name, body = logs.file(account_id, size)
        logs.put(key_of(name), body)
    assert logs.service.ask("reader", "verify", "--wait", "60s", timeout_s=100)["settled"]
    assert logs.counted(account_id) == {"C3DataTransfer-Out-Bytes": 12}
    assert time.monotonic() - began_s < 60


def test_the_biller_keeps_the_causes_of_the_log_under_its_own_role(logs: Logs) -> None:
    account_id, service = LOG_ACCOUNTS[2], logs.service
    assert service.run("operator", "compact").returncode == 0
    answer = service.clients.lambda_.invoke(FunctionName=function(service, "Biller"), Payload=b"{}")
    result = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, result
    assert (result["cause_files"] > 0, result["causes_behind_s"]) == (True, 0)
    found = service.ask("reader", "who", "--account", account_id, "--last", "6h", "--group-by", "workload,basis")
    assert [(row["workload"], row["basis"], row["bytes"]) for row in found["rows"]] == [("i-0abc", "told", "12")]
    # The operator does the same by command.
    assert service.ask("operator", "budget", "update")["files"] == 0


def test_what_is_no_log_of_the_source_is_refused_by_name_and_the_rest_is_not_even_announced(logs: Logs) -> None:
    account_id = LOG_ACCOUNTS[3]
    name, body = logs.file(account_id, 9)
    logs.put(f"elsewhere/{name}", body)
    logs.put(f"{LOG_PREFIX}readme.txt", b"no log")
    stranger, lines = logs.file("999999999999", 9)
    logs.put(key_of(stranger), lines)
    kept = wait_for(
        "entries of both files",
        lambda: (
            found
            if "readme.txt" in (found := json.dumps(logs.service.ask("reader", "quarantine", "list")))
            and "account_not_allowed" in found
            else None
        ),
        limit_s=60,
    )
    assert "unknown_name" in kept
    assert f"elsewhere/{name}" not in kept
    assert logs.counted(account_id) == {}
    assert logs.counted("999999999999") == {}


@pytest.mark.ministack(reason="it enforces IAM")
def test_the_onramp_may_read_below_its_prefix_only(logs: Logs) -> None:
    service = logs.service
    if not service.enforced:
        pytest.skip("this endpoint does not enforce IAM")
    name, body = logs.file(LOG_ACCOUNTS[1], 1)
    logs.put(f"elsewhere/{name}", body)
    s3 = service.client("onramp", "s3")
    inside = s3.list_objects_v2(Bucket=LOG_BUCKET, Prefix=LOG_PREFIX)["Contents"][0]["Key"]
    assert s3.get_object(Bucket=LOG_BUCKET, Key=inside)["Body"].read()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: s3.get_object(Bucket=LOG_BUCKET, Key=f"elsewhere/{name}"),
        lambda: s3.list_objects_v2(Bucket=LOG_BUCKET, Prefix="elsewhere/"),
        lambda: s3.list_objects_v2(Bucket=LOG_BUCKET),
        lambda: s3.put_object(Bucket=LOG_BUCKET, Key=inside, Body=b""),
        lambda: s3.delete_object(Bucket=LOG_BUCKET, Key=inside),
        lambda: s3.get_object(Bucket=service.outputs["DataBucketName"], Key="lake/x"),
    )
    for denied in attempts:
        with pytest.raises(botocore.exceptions.ClientError, match=_DENIED):
            denied()
