"""The deployed service as its users see it: through its queue, its bucket and its command line.

The default is MiniStack, started here with IAM and TLS enforced. METERING_E2E_ENDPOINT selects another endpoint, such
as LocalStack or a MiniStack over plain http: its kind is detected, and tests that do not fit it are skipped with the
reason. If IAM is enforced, senders and readers have separate roles.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters.aws.deployment import run_deployment
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from metering.billing.checklist import ACCEPTABLE
from metering.hours import hour_of, month_of, rfc3339
from metering.settings import GivenSettings
from metering.units import DAY_S, GIB
from tests import ROOT
from tests.e2e.endpoints import Kind, kind_of, why_left_out
from tests.e2e.oncall import mapping, until
from tests.support.emulated import running_emulator

REGION = "us-east-1"
_ROLLED_UP_EVERY_S = 3
_PORT = 4680
_LAST_POLL_S = 2.5
_ENDPOINT = "METERING_E2E_ENDPOINT"
_OTHER_REGION = "ap-southeast-2"
# The oldest day that is admitted. The month of that day ended more than 72 hours ago, whatever today's date is.
LATE_S = hour_of(int(time.time()) - 34 * DAY_S)
MONTH = month_of(LATE_S)
# A bucket with log files for the service to meter; `test_log_sources` creates it.
LOG_BUCKET, LOG_PREFIX = "acme-logs", "AWSLogs/"
LOG_ACCOUNTS = ("000000000000", "210000000001", "210000000002", "210000000003")
_WITH_LOGS = GivenSettings(
    like="local",
    by_option={
        "log_sources": [
            {
                "name": "flows",
                "bucket": LOG_BUCKET,
                "region": REGION,
                "prefix": LOG_PREFIX,
                "accounts": list(LOG_ACCOUNTS),
            }
        ]
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A deployed region.

    Attributes:
        region: Name of the region.
        environ: Clients with the emulator's root credentials, for set-up and inspection only.
        roles: Environment with the credentials of `producer`, `reader`, `operator` and the deployer.
        enforced: Whether IAM is enforced, so that calls without permission are denied.
    """

    endpoint: str
    region: str
    stage: str
    environ: Mapping[str, str]
    roles: Mapping[str, Mapping[str, str]]
    clients: Clients
    outputs: Mapping[str, str]
    enforced: bool

    def run(self, role: str, *arguments: str, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
        """Run the command line under a role."""
        return ran(["--stage", self.stage, *arguments], self.roles[role], timeout_s)

    def type(self, role: str, line: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command line under a role. The line must name its region, because the shell's is another."""
        program, *arguments = shlex.split(line)
        assert program == "metering"
        elsewhere = {"AWS_REGION": _OTHER_REGION, "AWS_DEFAULT_REGION": _OTHER_REGION}
        return ran(arguments, {**self.roles[role], **elsewhere}, timeout_s)

    def ask(self, role: str, *arguments: str, timeout_s: float = 150) -> Any:
        """The JSON output of a command; if the command fails, the test fails with the command's messages."""
        done = self.run(role, *arguments, "--format", "json", timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def client(self, role: str, service: str) -> Any:
        """A plain boto3 client with a role's credentials."""
        import boto3

        keys = self.roles[role]
        return boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
            service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys.get("AWS_SESSION_TOKEN"),
            verify=keys.get("AWS_CA_BUNDLE", True),
        )

    def send(self, body: str) -> None:
        """Send a message as the producer."""
        self.client("producer", "sqs").send_message(QueueUrl=self.outputs["IngestQueueUrl"], MessageBody=body)

    @property
    def tables(self) -> Any:
        """A plain DynamoDB client. Once a store uses the client in `clients`, our own code decodes its queries."""
        return Clients(self.clients.access).dynamodb

    def pipeline_outputs(self) -> dict[str, str]:
        return stack_outputs_of(self.clients, self.stage, "pipeline")

    def add_by_hand(self, who: str, size: int) -> None:
        """A forbidden manual write: change a usage item outside of the protocol's transactions."""
        table = self.outputs["UsageTableName"]
        pages = self.tables.get_paginator("scan").paginate(TableName=table)
        [item] = [each for page in pages for each in page["Items"] if each["pk"]["S"].startswith(f"A#{who}#")]
        self.clients.dynamodb.update_item(
            TableName=table,
            Key={"pk": item["pk"], "sk": item["sk"]},
            UpdateExpression="ADD #b :size",
            ExpressionAttributeNames={"#b": next(name for name in item if name.startswith("b"))},
            ExpressionAttributeValues={":size": {"N": str(size)}},
        )

    def wait_for_rest(self, limit_s: float = 90) -> None:
        """Wait until the ingest queue is empty and all commits are rolled up; fail the test on a timeout."""
        end = time.monotonic() + limit_s
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        while True:
            answer = self.clients.sqs.get_queue_attributes(
                QueueUrl=self.outputs["IngestQueueUrl"],
                AttributeNames=names,  # type: ignore[arg-type]  # the stubs want literals
            )
            if not any(int(answer["Attributes"][name]) for name in names):  # type: ignore[index]  # the same
                self.roll_up()
                return
            assert time.monotonic() < end, f"still in the queue after {limit_s} s: {answer['Attributes']}"
            time.sleep(0.3)

    def roll_up(self) -> None:
        """Invoke the roll-up until no commit waits, without waiting for the roll-up's schedule."""
        name = self.pipeline_outputs()["RollupFunctionName"]
        end = time.monotonic() + 60
        while True:
            try:
                answer = self.clients.lambda_.invoke(FunctionName=name, Payload=b"{}")
            except self.clients.lambda_.exceptions.TooManyRequestsException:
                # Another tick is using the reserved concurrency of one. Objects after its listing are left to this one.
                assert time.monotonic() < end
                time.sleep(0.3)
                continue
            assert "FunctionError" not in answer, answer["Payload"].read()
            return


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deselect tests that do not fit the endpoint, and run the tests that disturb others last.

    Tests with long waits come first; other workers run other tests during the waits.
    """
    items.sort(key=lambda item: item.get_closest_marker("regions") is None)
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
    endpoint = os.environ.get(_ENDPOINT)
    if not endpoint:
        return
    try:
        kind = kind_of(endpoint)
    except ConnectionError as error:
        raise pytest.UsageError(str(error)) from error
    for item in items:
        if reason := why_left_out(item, kind):
            item.add_marker(pytest.mark.skip(reason=reason))


def plain_environment() -> dict[str, str]:
    """This process's environment without variables of AWS or a stage."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "METERING_", "LOCALST"))}


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The deployed service; if it was started here, it is stopped at the end."""
    endpoint = os.environ.get(_ENDPOINT)
    if endpoint:
        with _rolled_up_soon(deployed(endpoint, None, enforced=False, given=_given_at(endpoint))) as found:
            yield found
        return
    with (
        own_emulator() as running,
        _rolled_up_soon(deployed(running.endpoint, running.ca_bundle, enforced=True, given=_WITH_LOGS)) as found,
    ):
        yield found


@contextmanager
def _rolled_up_soon(service: Service) -> Iterator[Service]:
    """Invoke the roll-up's function every few seconds, because a wait for its schedule would slow the tests.

    A test that stops the function must stop these invocations, too.
    """
    ended = threading.Event()

    def ticks() -> None:
        while not ended.wait(_ROLLED_UP_EVERY_S):
            with suppress(AssertionError, BotoCoreError, ClientError):
                service.roll_up()

    thread = threading.Thread(target=ticks, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        ended.set()
        thread.join(timeout=30)


def _given_at(endpoint: str) -> GivenSettings:
    """LocalStack's open source edition has no HTTP APIs."""
    front = "url" if kind_of(endpoint) is Kind.LOCALSTACK else "http"
    return _WITH_LOGS.model_copy(update={"by_option": {**_WITH_LOGS.by_option, "api_front": front}})


def own_emulator() -> AbstractContextManager[emulator.Emulator]:
    """A MiniStack of this test run, with IAM and TLS enforced."""
    return running_emulator(_PORT, auth=True, tls=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A closed month of the service."""

    month: str
    who: str
    spenders: tuple[str, ...]
    spent_gb: int


@pytest.fixture(scope="session")
def closed_month(service: Service) -> ClosedMonth:
    """The month of `LATE_S`, with usage, closed once for all tests."""
    from tests.e2e.test_main_job import account, message, record

    start, sizes = rfc3339(LATE_S), {account(): 1_000}
    spenders = {account(): 6_000, account(): 6_000}
    for account_id, size in (sizes | {each: size_gb * GIB for each, size_gb in spenders.items()}).items():
        one = {**record(account_id, size=size, start=start, end=start)}
        if account_id in spenders:
            one |= {"from": "us-east-1"}
        service.send(message(f"{account_id}-{size}", [one]))
    service.wait_for_rest()
    # Other tests leave dead letters, gaps and messages, which block the close of any month to which they may belong.
    even_so = tuple(word for name in ACCEPTABLE for word in ("--accept", name))
    service.ask("operator", "period", "close", MONTH, *even_so)
    return ClosedMonth(month=MONTH, who=next(iter(sizes)), spenders=tuple(spenders), spent_gb=12_000)


@pytest.fixture
def pager(service: Service) -> Iterator[str]:
    """URL of a queue that is subscribed to both topics and simulates the pager of the person on call."""
    clients = service.clients
    url = clients.sqs.create_queue(QueueName=f"pager-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topics = [service.outputs["PageTopicArn"], service.outputs["TicketTopicArn"]]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topics}},
            }
        ],
    }
    clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    subscriptions = [
        clients.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})[
            "SubscriptionArn"
        ]
        for topic in topics
    ]
    yield url
    for subscription in subscriptions:
        clients.sns.unsubscribe(SubscriptionArn=subscription)
    clients.sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def stopped_aggregator(service: Service) -> Iterator[None]:
    """Stop the queue's only consumer, so that a test can turn a batch into a dead letter."""
    intake = mapping(service)
    service.clients.lambda_.update_event_source_mapping(UUID=intake, Enabled=False)
    until(lambda: service.clients.lambda_.get_event_source_mapping(UUID=intake)["State"] == "Disabled", 60)
    # LocalStack reports this while its poller still waits for messages, for the length of the mapping's batch window.
    time.sleep(_LAST_POLL_S)
    yield
    service.clients.lambda_.update_event_source_mapping(UUID=intake, Enabled=True)


def deployed(
    endpoint: str,
    ca_bundle: Path | None,
    *,
    enforced: bool,
    stage: str = "local",
    regions: Sequence[str] = (REGION,),
    given: GivenSettings | None = None,
) -> Service:
    """Deploy a stage to regions, in order; returns the service of the last region."""
    for region in regions:
        environ = emulator.client_environment(endpoint, ca_bundle, region=region)
        run_deployment(
            stage=stage,
            region=region,
            endpoint=endpoint,
            environ={**os.environ, **environ},
            progress=lambda _: None,
            given=given,
        )
    access = Access(
        region=regions[-1],
        endpoint_url=endpoint,
        ca_bundle=None if ca_bundle is None else str(ca_bundle),
        access_key=("test", "test"),
    )
    clients = Clients(access)
    outputs = stack_outputs_of(clients, stage, "data")
    roles = {
        name: credentials_of(clients, outputs[f"{name.capitalize()}RoleArn"], environ) if enforced else environ
        for name in ("producer", "reader", "operator")
    } | {"deployer": environ}
    if enforced and given is not None and "log_sources" in given.by_option:
        function = clients.lambda_.get_function(
            FunctionName=stack_outputs_of(clients, stage, "pipeline")["OnrampFunctionName"]
        )
        roles["onramp"] = credentials_of(clients, function["Configuration"]["Role"], environ)
    return Service(
        endpoint=endpoint,
        region=regions[-1],
        stage=stage,
        environ=environ,
        roles=roles,
        clients=clients,
        outputs=outputs,
        enforced=enforced,
    )


def stack_outputs_of(clients: Clients, stage: str, part: str) -> dict[str, str]:
    stacks = clients.cloudformation.describe_stacks(StackName=f"metering-{stage}-{part}")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def ran(
    arguments: Sequence[str], environ: Mapping[str, str], timeout_s: float = 400, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the command line without the tester's AWS and stage variables."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("metering")), *arguments],
        cwd=cwd,
        env={**plain_environment(), **environ},
        text=True,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )


def credentials_of(clients: Clients, role_arn: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Environment with temporary credentials of a role."""
    keys = clients.sts.assume_role(RoleArn=role_arn, RoleSessionName="e2e")["Credentials"]
    return {
        **environ,
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def wait_for(what: str, check: Any, *, limit_s: float = 60) -> Any:
    """Wait for the first true result of `check`, or fail the test."""
    end = time.monotonic() + limit_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < end, f"no {what} after {limit_s} s"
        time.sleep(0.5)


def usage_by_type(report: Any) -> dict[str, int]:
    return {row["usage_type"]: int(row["bytes"]) for row in report["rows"]}
