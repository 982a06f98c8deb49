"""The messages of a replay are repeatable, its manifest follows the contract, and every message is sent."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import time
from collections import Counter
from functools import cache
from random import Random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.audit.verification import (
    ManifestError,
    ManifestHeader,
    SentBatch,
    body_digest,
    header_line,
    read_header,
    read_sent,
    sent_line,
)
from metering.billing.budgets.evaluation import is_unusual
from metering.errors import UnavailableError
from metering.intake.batches import DecodedBatch
from metering.onramps.context.holders import Workloads
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Who, measure
from metering.onramps.kinds import recognised
from metering.replay import sender as sender_module
from metering.replay.given import SAMPLE, InputError, given_traffic, read_records
from metering.replay.network import LogFile, SmallNetwork, replica
from metering.replay.records import FLOWS, RecordGenerator, expected_totals, expected_usage_type
from metering.replay.scenarios import SCENARIOS, Form
from metering.replay.sender import Sender, SendingFailedError
from metering.replay.synthesis import Shipment, Synthesis, Upload, account_id, replay_name
from metering.units import HOUR_S
from tests.support.lake_world import record, record_dicts
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import merge
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.reading import Desk
from tests.support.stage import ADMISSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from metering.usage.totals import Total, UsageKey
    from metering.version import DropIdentity

BASE_S = 1_795_525_200


@cache
def shipments(scenario: str, batches: int, seed: int = 7) -> list[Shipment]:
    name = replay_name(scenario, seed, BASE_S)
    synthesis = Synthesis(
        name=name, scenario=SCENARIOS[scenario], seed=seed, base_hour_s=BASE_S, bucket="metering-data"
    )
    return list(synthesis.shipments(batches))


def inline_records(shipment: Shipment) -> list[dict[str, object]]:
    message = json.loads(shipment.body)
    records: list[dict[str, object]] = message.get("data", message)["records"]
    return records


def test_the_same_seed_in_the_same_hour_sends_the_same_messages() -> None:
    assert shipments("mixed", 300) == shipments.__wrapped__("mixed", 300)
    assert shipments("mixed", 300) != shipments("mixed", 300, seed=8)


def test_a_mixed_replay_has_every_expectation_and_every_form() -> None:
    sent = shipments("mixed", 1_500)
    counts = Counter(each.sent.expect for each in sent)
    assert set(counts) == {"accepted", "partly", "duplicate", "conflict", "rejected"}
    suffixes = {each.upload.key.split("/")[0] + each.upload.key.partition(".")[2] for each in sent if each.upload}
    assert len(suffixes) == len([form for form in Form if form not in (Form.INLINE, Form.CLOUD_EVENT)])


def test_totals_in_the_manifest_equal_those_of_the_records_as_sent() -> None:
    for each in shipments("clean", 50):
        assert each.sent.totals == expected_totals(inline_records(each))


def test_records_as_json_and_as_columns_are_the_same() -> None:
    generator = RecordGenerator(["912345678901"], accounts_per_batch=1, keys_per_batch=16, mean_bits=28)
    records = generator.draw(Random(1), 64, [BASE_S])
    assert expected_totals(map(json.loads, records.texts)) == expected_totals(record_dicts(records)) == records.totals()


def test_other_content_under_an_id_has_other_totals() -> None:
    mixed = [each.sent for each in shipments("mixed", 1_500)]
    first = {sent.batch_id: sent for sent in mixed if sent.content == 0 and sent.expect == "accepted"}
    others = [sent for sent in mixed if sent.expect == "conflict"]
    assert others
    assert all(sent.totals != first[sent.batch_id].totals for sent in others)


def test_a_message_that_is_refused_as_a_whole_has_an_id_or_a_digest_of_its_own() -> None:
    rejected = [each for each in shipments("mixed", 1_500) if each.sent.expect == "rejected"]
    names = [each.sent.batch_id or each.sent.body_sha256 for each in rejected]
    assert all(names)
    assert len(set(names)) == len(names)


def test_a_sequence_has_no_holes_in_what_gets_a_marker() -> None:
    seen: dict[str, set[int]] = {}
    for each in shipments("mixed", 2_000):
        if each.body.startswith("{") and '"sequence":' in each.body and each.sent.batch_id:
            message = json.loads(each.body)
            message = message.get("data", message)
            seen.setdefault(message["source_id"], set()).add(message["sequence"])
    assert len(seen) == 8
    assert all(numbers == set(range(len(numbers))) for numbers in seen.values())


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.usage_type)
def test_written_usage_types_equal_the_computed_ones(flow: object) -> None:
    assert isinstance(flow, tuple)
    _, direction, from_location, to_location, usage_type, own = flow
    sent = {"direction": direction, "from": from_location, "to": to_location}
    assert expected_usage_type(sent | ({"usage_type": usage_type} if own else {})) == usage_type


def test_real_bill_lines_have_the_usage_types_and_bytes_that_aws_billed() -> None:
    given = read_records([SAMPLE])
    billed: dict[UsageKey, Total] = {}
    lines = list(csv.DictReader((SAMPLE.parent / "expected_lines.csv").read_text().splitlines()))
    for line, sent in zip(lines, given.records, strict=True):
        assert expected_usage_type(sent) == line["usage_type"]
        billed = merge([billed, expected_totals([sent])])
        assert int(line["bytes"]) == sent["bytes"]
    assert expected_totals(given.records) == billed


def test_shifting_to_now_keeps_the_distance_of_hours_and_admits_every_record() -> None:
    given = read_records([SAMPLE])
    now_s = BASE_S + 1_234
    moved = given.shifted_to(now_s, window_s=ADMISSION.window_s)
    before, after = expected_totals(given.records), expected_totals(moved.records)
    shift_s = max(key.hour_s for key in after) - max(key.hour_s for key in before)
    assert {key._replace(hour_s=key.hour_s + shift_s): total for key, total in before.items()} == after
    hours = [key.hour_s for key in after]
    assert now_s - 35 * 86_400 < min(hours) < max(hours) <= now_s
    assert shift_s % 3_600 == 0


def test_records_that_span_more_than_the_window_are_refused_with_advice(tmp_path: Path) -> None:
    record = read_records([SAMPLE]).records[0]
    path = tmp_path / "long.ndjson"
    old = record | {"start": "2024-01-01T00:00:00Z", "end": "2024-01-01T00:05:00Z"}
    path.write_text(f"{json.dumps(record)}\n{json.dumps(old)}\n")
    with pytest.raises(InputError, match="split the file"):
        read_records([path]).shifted_to(BASE_S, window_s=ADMISSION.window_s)


@pytest.mark.parametrize("text", ["", "not json\n", "[]\n"])
def test_a_file_without_records_is_named_as_such(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.ndjson"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.ndjson"):
        read_records([path])


def test_a_manifest_reads_back_as_it_was_written() -> None:
    sent = [each.sent for each in shipments("mixed", 500)]
    header = ManifestHeader(name="mixed", region="us-east-1", seed=7, began_at_ms=BASE_S * 1000)
    assert read_header(header_line(header)) == header
    assert list(read_sent(map(sent_line, sent))) == sent


def test_a_manifest_that_is_cut_short_says_where() -> None:
    line = sent_line(shipments("clean", 1)[0].sent)
    with pytest.raises(ManifestError, match="line 2"):
        list(read_sent([line[:-20]]))
    with pytest.raises(ManifestError, match="line 1"):
        read_header(line)


def test_the_digest_of_a_body_does_not_depend_on_how_json_is_written() -> None:
    assert body_digest('{"b": 1,"a":2}') == body_digest('{"a":2, "b":1}') != body_digest('{"a":2')


def test_a_body_nested_deeper_than_python_reads_has_a_digest() -> None:
    assert len(body_digest("[" * 100_000)) == 64


@pytest.mark.parametrize(("seed", "batches"), [(1, 419), (2, 419), (3, 250), (4, 900)])
def test_a_month_is_steady_but_for_one_day_of_one_account(seed: int, batches: int) -> None:
    """The rule of `metering anomalies` finds that day, and no other in the last week, whatever the seed."""
    days: dict[tuple[str, str], Counter[int]] = {}
    hours = set()
    for each in shipments("month", batches, seed):
        for key, total in each.sent.totals.items():
            days.setdefault((key.account_id, key.usage_type), Counter())[key.hour_s // 86_400] += total.bytes
            hours.add(key.hour_s)
    assert BASE_S - 35 * 86_400 + 2 * 3_600 < min(hours) < BASE_S - 34 * 86_400
    assert max(hours) == BASE_S
    today = BASE_S // 86_400
    unusual = [
        (series, today - day)
        for series, sums in days.items()
        for day in range(today - 7, today)
        if is_unusual(sums[day], [sums[day - 7 * week] for week in range(1, 5)])
    ]
    assert unusual == [((account_id(seed, 1), "DataTransfer-Out-Bytes"), 3)]


def test_a_week_has_busy_days_and_quiet_nights_and_every_hour_can_be_admitted() -> None:
    hours: Counter[int] = Counter()
    for each in shipments("week", 400):
        for key, total in each.sent.totals.items():
            hours[key.hour_s] += total.records
    assert BASE_S - 7 * 86_400 < min(hours) < BASE_S - 6 * 86_400
    assert max(hours) <= BASE_S
    by_day = Counter(hour_s // 86_400 for hour_s in hours)
    assert len(by_day) >= 7
    of_day: Counter[int] = Counter()
    for hour_s, records in hours.items():
        of_day[hour_s % 86_400 // 3_600] += records
    assert of_day[20] > 4 * of_day[4]


# Records in files: a wrong record is reported with its place, sent unchanged, and refused as the manifest says.

NOW_S = 1_800_000_000


def now(size: int) -> dict[str, str | int]:
    """A record from an hour ago."""
    return record(size, start_s=NOW_S - 3_600)


@pytest.mark.parametrize(("wrong", "told"), [
    ('{"account_id": "1"', "not JSON: "),
    ("[]", "not a JSON object"),
    ("7", "not a JSON object"),
    ("NaN", "not JSON: NaN is no number of JSON"),
    (json.dumps(now(1) | {"bytes": 12.5}), "bytes: 12.5 is no whole number"),
    (json.dumps(now(1) | {"bytes": "many"}), "bytes: many is no whole number"),
    (json.dumps(now(1) | {"bytes": -1}), "bytes: -1 is below 0"),
    (json.dumps(now(1) | {"bytes": None}), "bytes is missing"),
    (json.dumps(now(1) | {"start": "noon"}), "start: noon is no time"),
    (json.dumps(now(1) | {"start": "0127-07-08T00:00:00Z"}), ""),
    (json.dumps(now(1) | {"account_id": 5}), "account_id: 5 is no text"),
    (json.dumps(now(1) | {"direction": "up"}), "direction: neither in nor out: 'up'"),
    (json.dumps(now(1) | {"from": "moon"}), "from: "),
    (json.dumps({k: v for k, v in now(1).items() if k != "end"}), "end is missing"),
    (json.dumps(now(1) | {"end": "2090-01-01T00:00:00Z"}), "end: 2090-01-01T00:00:00Z is more than an hour after"),
    (json.dumps(now(1) | {"start": "2090-01-01T00:00:00Z", "end": "2090-01-01T00:00:00Z"}), "start: "),
    ("[" * 100_000, "not JSON: "),
])  # fmt: skip
def test_a_bad_record_is_told_by_its_line_and_the_service_refuses_what_the_manifest_says(
    tmp_path: Path, wrong: str, told: str
) -> None:
    path = tmp_path / "mine.ndjson"
    path.write_text("\n".join([json.dumps(now(1)), wrong, json.dumps(now(2)), "", wrong]) + "\n")
    traffic = given_traffic(read_records([path]), 3, NOW_S, admission=ADMISSION, shifted=False)
    complaints = [each for each in traffic.complaints if each.startswith(f"{path}:2: ")]
    assert complaints[0].startswith(f"{path}:2: {told}")
    assert any(each.startswith(f"{path}:5: {told}") for each in traffic.complaints)

    desk = Desk()
    desk.sent_at_ms = NOW_S * 1000
    first, second = traffic.shipments
    for shipment, verdict, metered in ((first, "partly", 2), (second, "rejected", 0)):
        batch = desk.read(shipment.body)
        assert (shipment.sent.expect, shipment.sent.metered) == (verdict, metered)
        if verdict == "partly":
            assert isinstance(batch, DecodedBatch)
            assert (len(batch.rows), len(batch.refused)) == (metered, shipment.sent.records - metered)
            assert batch.usage == shipment.sent.totals
        else:
            assert not isinstance(batch, DecodedBatch)


@pytest.mark.parametrize("text", ["account_id,bytes\n123456789012,5\n", '[{"a": 1},\n{"b": 2}]\n'])
def test_a_file_of_another_format_is_refused_with_the_formats_that_there_are(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"There are no records in .*mine.csv: not JSON: .* \(line 1\)") as error:
        read_records([path])
    assert "NDJSON" in error.value.advice
    assert "Convert CSV" in error.value.advice


def test_values_of_parquet_that_json_has_no_form_for_are_told_as_wrong(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    rows = [now(1) | {"bytes": float("nan")}, now(2) | {"bytes": 2.0}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    traffic = given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION, shifted=False)
    assert traffic.complaints == [f"{path}:1: bytes: nan is no whole number"]
    [shipment] = traffic.shipments
    assert [(total.bytes, total.records) for total in shipment.sent.totals.values()] == [(2, 1)]


def test_old_records_are_told_unless_they_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "old.ndjson"
    path.write_text(json.dumps(record(1, start_s=NOW_S - 90 * 86_400)) + "\n")
    [told] = given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION, shifted=False).complaints
    assert told.endswith("Z is too old to be admitted")
    assert given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION).complaints == []


def test_the_same_file_gives_the_same_ids_with_bad_records_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.ndjson"
    path.write_text(json.dumps(now(1)) + "\nno JSON\n")
    first, again = (
        list(given_traffic(read_records([path]), 10, NOW_S, admission=ADMISSION).shipments) for _ in range(2)
    )
    assert first == again


# The sender puts objects first, resends every message after an error, and writes the manifest in order.


def shipment(name: str, size: int = 10) -> Shipment:
    return Shipment(sent=SentBatch(batch_id=name, records=1, metered=1), body=name.ljust(size, "."))


class World:
    def __init__(self) -> None:
        clock = ManualClock(0)
        self.troubles: list[str] = []
        self.queue = MemoryQueue(clock, on_call=self._on_call)
        self.objects = MemoryObjectStore(clock, on_call=self._on_call)
        self.lines: list[SentBatch] = []

    def send(
        self, shipments: Sequence[Shipment], rate_per_s: float | None = None, drop_identity: DropIdentity = "etag"
    ) -> int:
        sender = Sender(
            queue=self.queue,
            objects=self.objects,
            bucket="b",
            threads=2,
            rate_per_s=rate_per_s,
            drop_identity=drop_identity,
        )
        return sender.send(shipments, self.lines.extend)

    def _on_call(self, name: str) -> None:
        if name in self.troubles:
            self.troubles.remove(name)
            raise UnavailableError(name, "try again")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "_BACKOFF_S", 0)


def test_everything_is_sent_and_told_in_order(world: World) -> None:
    assert world.send([shipment(f"b{n}") for n in range(95)]) == 95
    assert [line.batch_id for line in world.lines] == [f"b{n}" for n in range(95)]
    assert world.queue.depth().total == 95


def test_messages_that_are_large_together_go_in_requests_of_their_own(world: World) -> None:
    world.send([shipment(f"b{n}", 600_000) for n in range(5)])
    assert world.queue.depth().total == 5


def test_what_was_not_taken_is_sent_again(world: World) -> None:
    world.troubles = ["queue.send_many", "objects.put", "queue.send_many"]
    pointer = Shipment(
        sent=SentBatch(batch_id="p", records=1, metered=1), body="p", upload=Upload(key="ingest/p", body=b"x")
    )
    world.send([pointer])
    assert world.queue.depth().total == 1
    assert world.objects.get("ingest/p") == b"x"


def test_a_queue_that_never_answers_ends_the_replay(world: World) -> None:
    world.troubles = ["queue.send_many"] * 10
    with pytest.raises(SendingFailedError, match="not known whether these were sent") as error:
        world.send([shipment("b")])
    assert (error.value.batch_ids, world.lines) == (("b",), [])
    assert isinstance(error.value.__cause__, UnavailableError), "what tells of a dead emulator looks there"


def test_after_a_failure_all_that_was_sent_is_told_and_nothing_more_is_begun(world: World) -> None:
    world.troubles = ["queue.send_many"] * 12
    with pytest.raises(SendingFailedError) as error:
        world.send([shipment(f"b{n:04}") for n in range(2_000)])
    told = [line.batch_id for line in world.lines]
    received = {message.delivery.body.rstrip(".") for message in world.queue.receive(10_000)}
    assert received <= {*told, *error.value.batch_ids}
    assert set(told) <= received
    assert len(told) < 2_000


def test_a_dropped_object_is_known_by_bucket_key_and_etag(world: World) -> None:
    world.send([Shipment(sent=SentBatch(batch_id="", records=1, metered=1), upload=Upload(key="drop/a", body=b"x"))])
    info = world.objects.head("drop/a")
    assert info is not None
    identity = hashlib.sha256(f"b\ndrop/a\n{info.etag}".replace('"', "").encode()).hexdigest()
    assert [line.batch_id for line in world.lines] == [f"s3:{identity}"]
    assert world.queue.depth().total == 0


def test_a_dropped_object_of_a_stage_with_checksums_is_known_by_size_and_checksum(world: World) -> None:
    upload = Upload(key="drop/a", body=b"123456789")
    world.send([Shipment(sent=SentBatch(batch_id="", records=1, metered=1), upload=upload)], drop_identity="checksum")
    # The check value of CRC-64/NVME, by the specification of NVM Express.
    checksum = base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()
    identity = hashlib.sha256(f"b\ndrop/a\n9\n{checksum}".encode()).hexdigest()
    assert [line.batch_id for line in world.lines] == [f"s3c:{identity}"]


def test_a_rate_is_kept() -> None:
    began = time.monotonic()
    World().send([shipment(f"b{n}") for n in range(30)], rate_per_s=100.0)
    assert time.monotonic() - began >= 0.2


# The small network's file and its own count agree, although they are computed in different ways.

FIRST_S = 1_795_617_000


def made(seed: int = 1) -> LogFile:
    return SmallNetwork(seed, FIRST_S).file(2_000)


def test_a_seed_gives_the_same_file_every_time() -> None:
    assert made() == made()
    assert made(seed=2).body != made().body


def test_the_count_is_what_accepted_lines_add_up_to() -> None:
    header, *lines = gzip.decompress(made().body).decode().splitlines()
    rows = [dict(zip(header.split(" "), line.split(" "), strict=True)) for line in lines]
    assert sum(int(row["bytes"]) for row in rows if row["action"] == "ACCEPT") == made().metered_bytes
    assert {row["log-status"] for row in rows} >= {"OK", "NODATA"}
    assert {row["action"] for row in rows} == {"ACCEPT", "REJECT", "-"}


def test_the_causes_of_its_nat_gateways_are_those_that_it_counted() -> None:
    network = SmallNetwork(1, FIRST_S)
    file = network.file(2_000)
    hour_s = FIRST_S - FIRST_S % HOUR_S
    context = context_of(network.description(FIRST_S), hour_s)
    timeline, workloads = Timeline(((hour_s, context),)), Workloads(context)
    kind, name = recognised(file.key) or pytest.fail(file.key)
    found: Counter[tuple[str, str]] = Counter()
    for key, causes in measure(io.BytesIO(file.body), kind, name, timeline, who=Who.PINNED).causes.items():
        if key.usage_type.endswith("NatGateway-Bytes"):
            for cause, size in causes.items():
                found[workloads.of(cause.cause).workload, cause.destination] += size.bytes
    assert found == file.nat_bytes
    assert {destination for _, destination in found} == {"internet", "EC2.eu-west-1"}


def test_a_copy_has_the_same_text_in_other_bytes() -> None:
    file, copy = made(), replica(made())
    assert copy.body != file.body
    assert gzip.decompress(copy.body) == gzip.decompress(file.body)
    assert (copy.bucket, copy.key) != (file.bucket, file.key)
