"""Examples in the contract and the README are correct."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from moto import mock_aws
from referencing import Registry, Resource

from load_tests.costs import SCENARIO_NAMES, TARGET_BATCHES_PER_DAY, measure
from metering.audit.verification import SentBatch, SentBatches, Verification
from metering.cli.commands.developer.demo import BATCHES, RECORDS_PER_BATCH, demo_traffic, show_proof
from metering.cli.commands.platform.deploy import standing_usd
from metering.fleet.stage import StageConfig
from metering.intake.batches import DecodedBatch, RefusedBatch
from metering.intake.reader import RecordBatchReader
from metering.operations.own_costs import break_even_batches, break_even_use
from metering.stores.queues import Delivery
from metering.usage.totals import Total
from tests import ROOT
from tests.support.memory.clock import UNHURRIED, ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.reading import BUCKET, SENT_AT_S, Desk, message, ndjson, pointer, reasons, record
from tests.support.stage import ADMISSION, LIMITS
from tests.support.with_each import with_each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.replay.synthesis import Shipment

# The contract's examples get the verdicts that it states, and its JSON Schemas agree with the reader.

CONTRACT = "".join(page.read_text() for page in sorted((ROOT / "docs" / "contract").glob("*.md")))
_EXAMPLE = re.compile(
    r"^```json\n(?P<body>[^`]+)^```\n(?:[^`]+^```ndjson\n(?P<object>[^`]+)^```\n)?\nVerdict: (?P<verdict>.+)\.$",
    re.MULTILINE,
)


class Outcome(NamedTuple):
    verdict: str
    metered: int
    refused: int
    reasons: frozenset[str]


def told(verdict: str) -> Outcome:
    counts = {name: int(number) for number, name in re.findall(r"(\d+) (metered|refused)", verdict)}
    named = re.findall(r"`([^`]+)`", verdict)
    return Outcome(named[0], counts.get("metered", 0), counts.get("refused", 0), frozenset(named[1:]))


def read(body: str, stored: str = "") -> Outcome:
    """The reader's result for a message; `stored` is the object that the message refers to."""
    said = json.loads(body)
    location = said.get("location") or {"bucket": BUCKET, "key": "ingest/none"}
    objects = MemoryObjectStore(ManualClock(SENT_AT_S * 1000))
    objects.put(location["key"], stored.encode(), if_absent=False)
    delivery = Delivery(message_id="m", body=body, sent_at_ms=SENT_AT_S * 1000, receive_count=1, sender_id="s")
    reader = RecordBatchReader(objects=objects, bucket=location["bucket"], limits=LIMITS, drop_identity="etag")
    [answer] = reader.read(delivery, admission=ADMISSION, allowance=UNHURRIED).batches
    if isinstance(answer, RefusedBatch):
        return Outcome("rejected", 0, 0, frozenset(reasons(answer)))
    assert isinstance(answer, DecodedBatch)
    why = frozenset(reason for each in answer.refused for reason, _ in each.reasons)
    return Outcome("accepted", len(answer.rows), len(answer.refused), why)


EXAMPLES = [(match["body"], match["object"] or "", match["verdict"]) for match in _EXAMPLE.finditer(CONTRACT)]


@pytest.mark.parametrize(("body", "stored", "verdict"), EXAMPLES)
def test_an_example_gets_the_verdict_that_the_page_says(body: str, stored: str, verdict: str) -> None:
    assert read(body, stored) == told(verdict)


def test_every_message_on_the_page_has_its_verdict() -> None:
    blocks = re.findall(r"^```json\n([^`]+)^```", CONTRACT, re.MULTILINE)
    messages = [block for block in blocks if "Statement" not in block]
    assert messages == [body for body, _, _ in EXAMPLES]
    assert {told(verdict).verdict for _, _, verdict in EXAMPLES} == {"accepted", "rejected"}


def test_a_wrong_verdict_is_noticed() -> None:
    body, stored, verdict = EXAMPLES[0]
    assert read(body.replace('"out"', '"up"'), stored) != told(verdict)


SCHEMAS = {
    name: json.loads((ROOT / "docs" / "contract" / f"{name}.schema.json").read_text()) for name in ("batch", "record")
}
_REGISTRY = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)  # fmt: skip
VALIDATOR = Draft202012Validator(SCHEMAS["batch"], registry=_REGISTRY)


def metered_whole(body: dict[str, Any]) -> bool:
    """Whether the reader accepts the message and each of its records."""
    desk = Desk()
    location = body.get("location")
    if isinstance(location, dict) and isinstance(location.get("key"), str):
        desk.put(location["key"], ndjson([record()]))
    answer = desk.read(body)
    return isinstance(answer, DecodedBatch) and not answer.refused


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("body", "stored", "verdict"), EXAMPLES)
def test_the_schema_takes_the_examples(body: str, stored: str, verdict: str) -> None:
    """The schema can check neither the number of records nor the content of an object."""
    said = json.loads(body)
    assert VALIDATOR.is_valid(said.get("data", said)), (stored, verdict)


NOTHING: tuple[object, ...] = (..., None)
TEXTS = ("", "x", "a b", "a\n", "a\x1b", "é", "x" * 65, "x" * 129, "x" * 513)
NO_RECORDS: tuple[object, ...] = ([], {}, None, "x", [5], [None])
NO_TEXTS: tuple[object, ...] = (..., None, 5, [])
OTHERS: tuple[object, ...] = (5, 1.5, True, [], {}, -1)
LOCATIONS = (
    "internet", "cloudfront", "us-east-1", "us-east-1/use1-az2", "us-east-1/us-east-1a", "us-east-1a", "us-east-1/",
    "us-east-1\n", "us-east-1/use1-az2\n", "xx-new-thing-12", "mars", "US-EAST-1", "a" * 60 + "-bb-1",
    "aa-" + "b" * 59 + "-1", "aa-" + "b" * 60 + "-1", "us-east-1/" + "z" * 32, "us-east-1/" + "z" * 33,
    "us-gov-west-1", "us-east-1/a/b", "unknown",
)  # fmt: skip
TIMES = (
    "2026-11-24T13:00:00Z", "2026-11-24t13:00:00.123456z", "2026-11-24 14:05:00+01:00", "2026-11-24T13:00:00",
    "2026-11-24", "2026-13-24T13:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T13:00:60Z", "2026-11-24T13:00:00+00:60",
    "2026-11-24T13:00:00Z\n", "now", 1_795_525_200, 1_795_525_200.0, 1_795_525_200.5, 2**62, -(2**40),
    "2026-11-24T13:00:00." + "0" * 64 + "Z",
)  # fmt: skip
RECORD_CHANGES = [
    *[("account_id", value) for value in ("12345678901", "1234567890123", "12345678901x", "12345678901\n", "٣" * 12)],
    *[("service", value) for value in ("AmazonS3", "AmazonCloudFront", "s" * 64, "s" * 65, "Amazon S3", "S3\n")],
    *[("resource_id", value) for value in ("x" * 512, "x" * 513, "arn:aws:s3:::b", "a\x85", "a\n", "é")],
    *[("direction", value) for value in ("in", "up", "OUT")],
    *[(side, value) for side in ("from", "to") for value in LOCATIONS],
    *[("bytes", value) for value in (0, 2**63 - 1, 2**63, 1e3, 1.5, "5", True, -1, 10**30)],
    *[("start", value) for value in TIMES],
    *[("end", value) for value in TIMES],
    *[("usage_type", value) for value in ("X-1", "a:b._-", "-x", "x" * 128, "x" * 129, "a b", "a\n", 5)],
    *[(field, value) for field in record() for value in (*NOTHING, *TEXTS, *OTHERS)],
    ("usage_type", None),
    ("unknown", {"a": 1}),
]
# Rules that a schema cannot express: order, distance and age of times, and times that no calendar has.
_BEYOND = frozenset(("end_before_start", "spans_over_an_hour", "too_late", "in_the_future"))


def beyond_a_schema(body: dict[str, Any]) -> bool:
    answer = Desk().read(body)
    assert isinstance(answer, DecodedBatch | RefusedBatch)
    found = answer.problems if isinstance(answer, RefusedBatch) else answer.refused[0].reasons if answer.refused else ()
    return any(reason in _BEYOND for reason, _ in found)


def changed(field: str, value: object) -> dict[str, Any]:
    made = {**record(), field: value}
    return {name: each for name, each in made.items() if each is not ...}


@with_each(RECORD_CHANGES)
def test_schema_and_reader_agree_on_a_record(change: tuple[str, object]) -> None:
    body = message([changed(*change)])
    if beyond_a_schema(body):
        assert not metered_whole(body)
    else:
        assert VALIDATOR.is_valid(body) == metered_whole(body)


MESSAGE_CHANGES: list[tuple[str, object]] = [
    *[("schema", value) for value in ("metering.batch/2", "metering.batch/1 ")],
    *[("batch_id", value) for value in ("A.z_9:/-", "x" * 128, "a#b")],
    *[("source_id", value) for value in ("x" * 128, "a b é")],
    *[("sequence", value) for value in (0, 2**63 - 1, 2**63, 1.0, "1")],
    *[("record_count", value) for value in (0, 50_001, 1.0, "1")],
    *[("retry_of", value) for value in ("edge-0", "edge-1", "a b", None)],
    *[("sha256", value) for value in ("xyz", None)],
    *[("records", value) for value in NO_RECORDS],
    *[
        (field, value)
        for field in ("schema", "batch_id", "source_id", "sequence", "record_count", "retry_of")
        for value in (*NOTHING, *TEXTS, 1.5, True, [], {}, -1)
    ],
    ("location", {}),
    ("location", None),
    ("unknown", {"a": 1}),
]


@with_each(MESSAGE_CHANGES)
def test_schema_and_reader_agree_on_a_message_with_records(change: tuple[str, object]) -> None:
    body = message([record()]) | dict([change])
    body = {name: each for name, each in body.items() if each is not ...}
    assert VALIDATOR.is_valid(body) == metered_whole(body)


LOCATION_CHANGES: list[tuple[str, object]] = [
    *[("key", value) for value in ("ingest/", "lake/a", "ingest/../lake/a", "ingest/..", "ingest/a..b", "ingest/a\nb")],
    *[("key", value) for value in ("ingest/" + "k" * 1_017, "ingest/" + "k" * 1_018, "drop/a", "ingest/é")],
    *[("format", value) for value in ("csv", "NDJSON")],
    *[("compression", value) for value in ("bzip2", "")],
    *[("sha256", value) for value in ("0" * 63, "g" * 64)],
    *[(field, value) for field in ("bucket", "key", "format", "compression") for value in NO_TEXTS],
    ("unknown", 1),
]


@with_each(LOCATION_CHANGES)
def test_schema_and_reader_agree_on_a_message_that_points_to_an_object(change: tuple[str, object]) -> None:
    body = pointer("ingest/a.ndjson", "ndjson")
    location = body["location"] | dict([change])
    body["location"] = {name: each for name, each in location.items() if each is not ...}
    assert VALIDATOR.is_valid(body) == metered_whole(body)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(RECORD_CHANGES), max_size=3), st.lists(st.sampled_from(MESSAGE_CHANGES), max_size=2))
def test_schema_and_reader_agree_on_several_changes(
    of_record: list[tuple[str, object]], of_message: list[tuple[str, object]]
) -> None:
    made: dict[str, Any] = record()
    for field, value in of_record:
        made[field] = value
    body = message([{name: each for name, each in made.items() if each is not ...}])
    for field, value in of_message:
        body[field] = value
    body = {name: each for name, each in body.items() if each is not ...}
    if VALIDATOR.is_valid(body):
        assert metered_whole(body) or beyond_a_schema(body)
    else:
        assert not metered_whole(body)


# The output in the README is real.

README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs/operator-guide.md").read_text()
REGION = "us-east-1"


def proof_of_the_readme() -> str:
    found = re.search(r"^(Proof: .+?)\n```$", README, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def manifest_line(shipment: Shipment) -> SentBatch:
    """Manifest line of a shipment; the batch id of a dropped object is known only when the object is put."""
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
    """Result of a verification in which the first content of each id is metered, because conflicts are sent last."""
    sent = batches_of(manifests)
    first = (line for lines in manifests for line in lines if line.batch_id and line.content == 0)
    metered = [contents[0] for contents in sent.contents.values() if not contents[0].rejected]
    total = Total(sum(each.bytes for each in metered), sum(each.metered for each in metered))
    expected = sent.expected
    return Verification(
        stable=True, sent=sent.distinct, accepted=expected["accepted"], duplicate=expected["duplicate"],
        conflict=expected["conflict"], rejected=expected["rejected"],
        keys=len({key for line in first if line.expect in ("accepted", "partly") for key in line.totals}),
        promised=total, proven=total,
    )  # fmt: skip


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
    [(key, total)] = batch.usage.items()
    assert (key.usage_type, total.bytes) == ("DataTransfer-Out-Bytes", 41_943_040)


@pytest.mark.parametrize(("row", "scenario"), list(enumerate(SCENARIO_NAMES)))
def test_costs_in_the_readme_are_those_that_are_measured(row: int, scenario: str) -> None:
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (\d+) \|$", README, re.MULTILINE)
    assert len(rows) == len(SCENARIO_NAMES)
    keys, usd_million, usd_day = (Decimal(text) for text in rows[row])
    cost = measure(scenario)
    assert round(cost.keys) == keys
    # The CPU time is a small part of the cost.
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
        # The cost of each line is rounded to cents.
        assert abs(sum(usd[place] for usd in lines.values()) - total) <= Decimal("0.02")
    said = round(whole[2])
    assert f"about [{said} USD a day](docs/scale.md#what-a-day-costs) in all" in README
    assert f"about {said} with storage and all jobs" in GUIDE


def test_what_an_idle_region_costs_is_what_the_plan_of_a_deployment_computes() -> None:
    alone, with_api = (Decimal(standing_usd(StageConfig.load("prod", {"api": api}))) for api in (False, True))
    assert f"An idle region costs about USD {alone} a month" in GUIDE
    assert f"An HTTP API costs USD {with_api - alone} more." in GUIDE


def test_the_break_even_of_provisioned_billing_is_that_of_the_least_capacity() -> None:
    config = StageConfig.load("prod")
    least = (config.ledger_min_reads_per_s, config.ledger_min_writes_per_s)
    assert f"From about {break_even_batches(*least) / 1e6:.1f} million batches a day" in GUIDE
    assert f"costs {1 / break_even_use():.1f} times less than\non demand" in GUIDE
