"""Commands use the same settings as the deployed functions, or refuse to work."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.deployment import run_deployment
from metering.adapters.aws.session import Access, Clients
from metering.hours import hour_of, month_of, rfc3339
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.settings import GivenSettings
from metering.units import DAY_S, HOUR_S
from tests.e2e.test_lake import EVEN_SO
from tests.e2e.test_main_job import account, message, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.e2e.conftest import Service

ELSEWHERE = "eu-west-3"
NOW_S = int(time.time())
# The beginning of a day that is older than the 35 days of a stage's default admission window.
OLD_S = (NOW_S // DAY_S - 50) * DAY_S
EVERYTHING = ("--from", rfc3339(OLD_S), "--to", rfc3339(hour_of(NOW_S) + DAY_S))
WIDE = {"admission_window_s": 60 * DAY_S, "marker_life_s": 75 * DAY_S, "incoming_retention_days": 90}


@pytest.fixture
def parameter(service: Service) -> Iterator[str]:
    """Name of the published settings' parameter; restored at the end."""
    ssm, name = service.clients.ssm, service.outputs["SettingsParameterName"]
    value = ssm.get_parameter(Name=name)["Parameter"].get("Value", "")
    yield name
    ssm.put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


def expect_refusal(service: Service, word: str) -> None:
    for command in (("report", "usage"), ("reconcile",), ("period", "close", month_of(OLD_S)), ("dlq", "list")):
        done = service.run("operator", *command)
        assert (done.returncode, done.stdout) == (1, ""), command
        sentence, advice = done.stderr.splitlines()
        assert sentence.startswith("Error: The settings of stage local in us-east-1 cannot be read (")
        assert word in sentence
        assert "metering region add us-east-1 --stage local --redeploy" in advice


def test_without_the_settings_of_the_functions_a_command_says_so_and_ends(service: Service, parameter: str) -> None:
    ssm = service.clients.ssm
    other = json.loads(ssm.get_parameter(Name=parameter)["Parameter"].get("Value", ""))
    other["policy"]["shards"] = 9
    ssm.put_parameter(Name=parameter, Value=json.dumps(other), Type="String", Overwrite=True)
    expect_refusal(service, "hash differs")

    ssm.delete_parameter(Name=parameter)
    expect_refusal(service, "is gone")


# Roles of emulated regions have the same names: a deployment to another region replaces the first region's grants.
@pytest.mark.last
@pytest.mark.drill
def test_a_stage_of_other_settings_is_counted_compacted_closed_and_reported_as_its_functions_do(
    service: Service, tmp_path: Path
) -> None:
    region = Elsewhere(service)
    region.deploy(shards=4)
    assert region.total() == 0
    manifest = tmp_path / "sent.ndjson"
    # No records are deliberately late, because the generator assumes a window of 35 days.
    plain = ("--late", "0", "--malformed", "0", "--manifest", str(manifest))
    region.ask("replay", "--scenario", "mixed", "--batches", "150", "--records-per-batch", "10", *plain)
    who = account()
    for number in range(8):
        region.send(who, 1_000 + number, OLD_S + number * HOUR_S)
    assert region.ask("verify", "--wait", "3m", "--manifest", str(manifest), timeout_s=300)["passed"]
    assert len(region.partitions("P#")) > 1

    metered = region.total(*EVERYTHING)
    assert region.total(*EVERYTHING, "--account", who) == sum(range(1_000, 1_008))
    region.ask("compact")
    assert region.partitions("P#") == set()
    assert region.ask("reconcile", "--deep", timeout_s=300)["different"] == 0
    [row] = region.ask("query", "SELECT sum(bytes) AS bytes FROM transfers")["rows"]
    assert int(row["bytes"]) == region.total(*EVERYTHING) == metered

    # The number of shards is reduced while the old shards still hold rows that are not compacted.
    for number in range(8):
        region.send(who, 2_000 + number, OLD_S + number * HOUR_S)
    region.ask("verify", "--wait", "3m", timeout_s=300)
    waiting = region.partitions("P#")
    assert waiting - {"P#0"}
    region.deploy(shards=1)
    month = month_of(OLD_S)
    before = region.total("--from", month, "--account", who)
    assert before == sum(range(1_000, 1_008)) + sum(range(2_000, 2_008))
    region.ask("period", "close", month, *EVEN_SO, timeout_s=300)
    assert region.total("--from", month, "--account", who) == before
    assert region.ask("period", "verify", month)["rows"] == []
    region.ask("compact")
    assert region.partitions("P#") == set()
    assert region.ask("verify", timeout_s=300)["passed"]


class Elsewhere:
    """The stage in another region of the same emulator, with its own settings."""

    def __init__(self, service: Service) -> None:
        self._service = service
        bundle = service.environ.get("AWS_CA_BUNDLE")
        self._clients = Clients(
            Access(region=ELSEWHERE, endpoint_url=service.endpoint, ca_bundle=bundle, access_key=("test", "test"))
        )
        self._outputs: Mapping[str, str] = {}

    def deploy(self, *, shards: int) -> None:
        tunables = {"shards": shards, "rollup_commits": 500, "source_life_s": 90 * DAY_S}
        values = {**WIDE, **{f"tunables.{name}": value for name, value in tunables.items()}}
        run_deployment(
            stage=self._service.stage,
            region=ELSEWHERE,
            endpoint=self._service.endpoint,
            environ={**os.environ, **self._service.environ},
            given=GivenSettings(like=self._service.stage, by_option=dict(values)),
            progress=lambda _event: None,
        )
        [stack] = self._clients.cloudformation.describe_stacks(StackName="metering-local-data")["Stacks"]
        self._outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}

    def ask(self, *arguments: str, timeout_s: float = 150) -> Any:
        return self._service.ask("deployer", *arguments, "--region", ELSEWHERE, timeout_s=timeout_s)

    def send(self, account_id: str, size: int, start_s: int) -> None:
        start = rfc3339(start_s)
        body = message(f"{account_id}-{size}", [record(account_id, size=size, start=start, end=start)])
        self._clients.sqs.send_message(QueueUrl=self._outputs["IngestQueueUrl"], MessageBody=body)

    def total(self, *options: str) -> int:
        """Bytes in a report, without those of the canary."""
        rows = self.ask("report", "usage", "--group-by", "account_id", *options)["rows"]
        return sum(int(row["bytes"]) for row in rows if row["account_id"] != CANARY_ACCOUNT_ID)

    def partitions(self, prefix: str) -> set[str]:
        """Partition keys of the ledger that begin with this prefix."""
        pages = self._clients.dynamodb.get_paginator("scan").paginate(
            TableName=self._outputs["LedgerTableName"], ConsistentRead=True
        )
        keys = {str(item["pk"]["S"]) for page in pages for item in page["Items"]}
        return {key for key in keys if key.startswith(prefix)}
