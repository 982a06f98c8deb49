"""What the README shows is what happens."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING

import boto3
import pytest
from moto import mock_aws

from load_tests.costs import SCENARIO_NAMES, TARGET_BATCHES_PER_DAY, measure
from metering.audit.verification import SentBatch, SentBatches, Verification
from metering.cli.commands.developer.demo import BATCHES, RECORDS_PER_BATCH, demo_traffic, show_proof
from metering.intake.batches import DecodedBatch
from metering.usage.totals import Total
from tests.support.reading import Desk
from tests.support.stage import ADMISSION
from tests.unit.house.command_lines import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.replay.synthesis import Shipment

README = (ROOT / "README.md").read_text()
REGION = "us-east-1"


def proof_of_the_readme() -> str:
    found = re.search(r"^(Proof: .+?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def manifest_line(shipment: Shipment) -> SentBatch:
    """With an id for a dropped object, which gets it when it is put."""
    if shipment.sent.batch_id or shipment.body or shipment.upload is None:
        return shipment.sent
    name = sha256(shipment.upload.key.encode() + shipment.upload.body).hexdigest()
    return replace(shipment.sent, batch_id=f"s3:{name}")


def sent_by_the_demo(now_s: int) -> list[list[SentBatch]]:
    return [
        [manifest_line(shipment) for shipment in traffic.shipments]
        for traffic in demo_traffic(BATCHES, RECORDS_PER_BATCH, 1, now_s, "bucket", ADMISSION)
    ]


def batches_of(manifests: list[list[SentBatch]]) -> SentBatches:
    sent = SentBatches()
    for lines in manifests:
        sent.add(SentBatches.collect(lines))
    return sent


def proof(manifests: list[list[SentBatch]]) -> Verification:
    """What verification finds: of the contents of each id the first is metered, because conflicts are sent last."""
    sent = batches_of(manifests)
    first = (line for lines in manifests for line in lines if line.batch_id and line.content == 0)
    metered = [contents[0] for contents in sent.contents.values() if not contents[0].rejected]
    total = Total(sum(each.bytes for each in metered), sum(each.metered for each in metered))
    expected = sent.expected
    return Verification(
        stable=True,
        sent=sent.distinct,
        accepted=expected["accepted"],
        duplicate=expected["duplicate"],
        conflict=expected["conflict"],
        rejected=expected["rejected"],
        keys=len({key for line in first if line.expect in ("accepted", "partly") for key in line.totals}),
        promised=total,
        proven=total,
    )


@pytest.mark.parametrize("now_s", [1_795_600_000, 1_830_387_599])
def test_the_proof_in_the_readme_is_what_the_demo_prints(
    now_s: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    manifests = sent_by_the_demo(now_s)
    sent = batches_of(manifests)
    show_proof(proof(manifests), sent.expected)
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.strip().splitlines())
    shown = proof_of_the_readme()

    assert shown == printed
    assert f"Each of the {sent.expected['conflict']} conflicts" in README
    assert f"{BATCHES:,} made-up" in README


@pytest.fixture
def queue_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield boto3.client("sqs").create_queue(QueueName="ingest")["QueueUrl"]


def test_what_the_readme_tells_a_producer_to_send_is_metered(queue_url: str) -> None:
    [code] = re.findall(r"^```python\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    exec(code, {"queue_url": queue_url})  # noqa: S102  # the README's own lines

    [message] = boto3.client("sqs").receive_message(QueueUrl=queue_url)["Messages"]
    desk = Desk()
    desk.sent_at_ms = int(time.time() * 1000)
    batch = desk.decoded(message["Body"])
    assert isinstance(batch, DecodedBatch)
    assert (batch.batch_id, len(batch.rows), batch.refused) == ("edge-7f3a-000184", 1, ())
    assert [(key.usage_type, total.bytes) for key, total in batch.usage.items()] == [
        ("DataTransfer-Out-Bytes", 41_943_040)
    ]


@pytest.mark.parametrize(("row", "scenario"), list(enumerate(SCENARIO_NAMES)))
def test_costs_in_the_readme_are_those_that_are_measured(row: int, scenario: str) -> None:
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (\d+) \|$", README, re.MULTILINE)
    assert len(rows) == len(SCENARIO_NAMES)
    keys, usd_million, usd_day = (Decimal(text) for text in rows[row])
    cost = measure(scenario)
    assert round(cost.keys) == keys
    # The processor's time is a part of it, but a small one.
    assert abs(cost.usd * 1_000_000 / usd_million - 1) < Decimal("0.05")
    assert abs(usd_million * TARGET_BATCHES_PER_DAY / 1_000_000 / usd_day - 1) < Decimal("0.02")


def a_day_by_line() -> dict[str, list[Decimal]]:
    section = (ROOT / "docs/scale.md").read_text().split("\n## What a day costs\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    return {name: [Decimal(cell) for cell in cells] for name, *cells in rows}


def test_a_day_in_all_is_the_sum_of_its_lines_and_what_readme_and_guide_say() -> None:
    lines = a_day_by_line()
    whole = lines.pop("all")
    del lines["write units a batch, counted"]
    assert len(lines) == 6
    for place, total in enumerate(whole):
        # Each line is rounded to cents.
        assert abs(sum(usd[place] for usd in lines.values()) - total) <= Decimal("0.02")
    said = round(whole[2])
    assert f"about [{said} USD a day](docs/scale.md#what-a-day-costs) in all" in README
    assert f"about {said} with storage and all jobs" in (ROOT / "docs/operator-guide.md").read_text()
