"""The deployed service, as its users meet it: through its queue, its bucket and its command line.

By default MiniStack, started here with IAM and TLS enforced; with METERING_E2E_ENDPOINT any endpoint, such as
LocalStack or a MiniStack over plain http: it is asked what it is, and tests that only fit another are skipped, saying
why. Senders and readers work under roles of their own wherever IAM is enforced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.fleet.deployment import run_deployment
from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator
from tests.e2e.endpoints import kind_of, why_left_out
from tests.e2e.oncall import mapping, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REGION = "us-east-1"
ROOT = Path(__file__).resolve().parents[2]
_PORT = 4680
_LAST_POLL_S = 2.5
_ENDPOINT = "METERING_E2E_ENDPOINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A deployed region.

    Attributes:
        environ: Of the emulator's root: for set-up and for looking, never for what a role should do.
        roles: Environment with the credentials of `producer`, `reader` and `operator`, and of who deploys.
        enforced: IAM is enforced, so that what a role lacks is denied.
    """

    endpoint: str
    stage: str
    environ: Mapping[str, str]
    roles: Mapping[str, Mapping[str, str]]
    clients: Clients
    outputs: Mapping[str, str]
    enforced: bool

    def run(self, role: str, *arguments: str, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
        """The command line under a role."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("metering")), "--stage", self.stage, *arguments],
            cwd=ROOT,
            env={**_plain_environment(), **self.roles[role]},
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, role: str, *arguments: str, timeout_s: float = 150) -> Any:
        """What a command answers as JSON; fails the test with its messages if it fails."""
        done = self.run(role, *arguments, "--format", "json", timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def client(self, role: str, service: str) -> Any:
        """A plain boto3 client with a role's credentials."""
        import boto3

        keys = self.roles[role]
        return boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys.get("AWS_SESSION_TOKEN"),
            verify=keys.get("AWS_CA_BUNDLE", True),
        )

    def wait_for_rest(self, limit_s: float = 90) -> None:
        """Until nothing is in the ingest queue, or the test fails."""
        end = time.monotonic() + limit_s
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        while True:
            answer = self.clients.sqs.get_queue_attributes(
                QueueUrl=self.outputs["IngestQueueUrl"],
                AttributeNames=names,  # type: ignore[arg-type]  # the stubs want literals
            )
            if not any(int(answer["Attributes"][name]) for name in names):  # type: ignore[index]  # the same
                return
            assert time.monotonic() < end, f"still in the queue after {limit_s} s: {answer['Attributes']}"
            time.sleep(0.3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what does not fit the endpoint, and run last what the other tests would miss something after."""
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


def _plain_environment() -> dict[str, str]:
    """This process's environment without anything that names an AWS or a stage."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "METERING_", "LOCALST"))}


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service, deployed; stopped at the end if it was started here."""
    endpoint = os.environ.get(_ENDPOINT)
    if endpoint:
        yield _deployed(endpoint, None, enforced=False)
        return
    running = emulator.start(emulator.free_port(_PORT), region=REGION, auth=True, tls=True)
    try:
        yield _deployed(running.endpoint, running.ca_bundle, enforced=True)
    finally:
        emulator.stop(running.pid)


@pytest.fixture
def pager(service: Service) -> Iterator[str]:
    """URL of a queue that is subscribed to the page topic: the person on call."""
    clients = service.clients
    url = clients.sqs.create_queue(QueueName=f"pager-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = service.outputs["PageTopicArn"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }
    clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    subscription = clients.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )["SubscriptionArn"]
    yield url
    clients.sns.unsubscribe(SubscriptionArn=subscription)
    clients.sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def stopped_aggregator(service: Service) -> Iterator[None]:
    """Nobody takes batches, so that the test can let one die."""
    intake = mapping(service)
    service.clients.lambda_.update_event_source_mapping(UUID=intake, Enabled=False)
    until(lambda: service.clients.lambda_.get_event_source_mapping(UUID=intake)["State"] == "Disabled", 60)
    # LocalStack says so while its poller still waits for messages, for as long as the mapping's window is.
    time.sleep(_LAST_POLL_S)
    yield
    service.clients.lambda_.update_event_source_mapping(UUID=intake, Enabled=True)


def _deployed(endpoint: str, ca_bundle: Path | None, *, enforced: bool) -> Service:
    environ = emulator.client_environment(endpoint, ca_bundle, region=REGION)
    events: list[Mapping[str, object]] = []
    run_deployment(
        stage="local", region=REGION, endpoint=endpoint, environ={**os.environ, **environ}, progress=events.append
    )
    access = Access(
        region=REGION,
        endpoint_url=endpoint,
        ca_bundle=None if ca_bundle is None else str(ca_bundle),
        access_key=("test", "test"),
    )
    clients = Clients(access)
    outputs = _outputs(clients)
    roles = {
        name: _credentials(clients, outputs[f"{name.capitalize()}RoleArn"], environ) if enforced else environ
        for name in ("producer", "reader", "operator")
    } | {"deployer": environ}
    return Service(
        endpoint=endpoint,
        stage="local",
        environ=environ,
        roles=roles,
        clients=clients,
        outputs=outputs,
        enforced=enforced,
    )


def _outputs(clients: Clients) -> dict[str, str]:
    stacks = clients.cloudformation.describe_stacks(StackName="metering-local-data")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def _credentials(clients: Clients, role_arn: str, environ: Mapping[str, str]) -> dict[str, str]:
    keys = clients.sts.assume_role(RoleArn=role_arn, RoleSessionName="e2e")["Credentials"]
    return {
        **environ,
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def wait_for(what: str, check: Any, *, limit_s: float = 60) -> Any:
    """The first true answer of `check`, or the test fails."""
    end = time.monotonic() + limit_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < end, f"no {what} after {limit_s} s"
        time.sleep(0.5)


def usage_by_type(report: Any) -> dict[str, int]:
    return {row["usage_type"]: int(row["bytes"]) for row in report["rows"]}
