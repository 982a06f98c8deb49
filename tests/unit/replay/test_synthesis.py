"""A replay's messages are repeatable, and its manifest follows the contract, computed independently."""

import csv
import json
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from metering.audit.verification import (
    ManifestError,
    ManifestHeader,
    body_digest,
    header_line,
    read_header,
    read_sent,
    sent_line,
)
from metering.replay.given import SAMPLE, InputError, read_records
from metering.replay.records import FLOWS, RecordGenerator, expected_totals, expected_usage_type
from metering.replay.scenarios import SCENARIOS, Form
from metering.replay.synthesis import Shipment, Synthesis, replay_name
from tests.support.lake_world import record_dicts
from tests.support.memory.frozen import merge
from tests.support.stage import ADMISSION

if TYPE_CHECKING:
    from metering.usage.totals import Total, UsageKey

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
    record = {"direction": direction, "from": from_location, "to": to_location}
    assert expected_usage_type(record | ({"usage_type": usage_type} if own else {})) == usage_type


def test_real_bill_lines_have_the_usage_types_and_bytes_that_aws_billed() -> None:
    given = read_records([SAMPLE])
    billed: dict[UsageKey, Total] = {}
    lines = list(csv.DictReader((SAMPLE.parent / "expected_lines.csv").read_text().splitlines()))
    for line, record in zip(lines, given.records, strict=True):
        assert expected_usage_type(record) == line["usage_type"]
        billed = merge([billed, expected_totals([record])])
        assert int(line["bytes"]) == record["bytes"]
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
