""""""

import json
from typing import Any

import pytest

from metering.intake.admission import MAX_EPOCH_S, MIN_EPOCH_S, Admission, epoch_us, rfc3339_us
from metering.intake.records import decode_record, record_problems
from metering.intake.work import Reason
from tests.support.reading import SENT_AT_S, Desk, message, record
from tests.support.stage import ADMISSION
from tests.support.stage import admission as changed_admission


def problems(text: str | bytes, admission: Admission | None = None) -> list[str]:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    found = record_problems(decode_record(raw), admission=admission or ADMISSION, sent_at_ms=SENT_AT_S * 1000)
    assert all(detail.isascii() and len(detail) <= 120 for _, detail in found)
    return [reason for reason, _ in found]


def any_of(*values: object) -> tuple[object, ...]:
    return values


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"account_id": value}, "invalid_account_id")
        for value in any_of(
            "", "12345678901", "1234567890123", "12345678901x", 123456789012, True, [], {}, "\uff11" * 12
        )
    ]
    + [({"service": value}, "invalid_service") for value in ("", "A" * 65, "Amazon EC2", "é", 1)]
    + [({"resource_id": value}, "invalid_resource_id") for value in ("", "x" * 513, "a\n", "\x7f", "\x9f", "\ud800", 5)]
    + [({"direction": value}, "invalid_direction") for value in ("OUT", "", 1, ["in"])]
    + [({"from": value}, "invalid_from") for value in ("us-east-1a", "us-east-1/us-east-1a", "moon", 1)]
    + [({"to": value}, "invalid_to") for value in ("us-east-1a", "us-east-1/us-east-1a", "moon", 1)]
    + [
        ({"bytes": value}, "invalid_bytes")
        for value in any_of(-1, 2**63, 1.5, 1e400, "1", True, [], float("nan"), 10**4000)
    ]
    + [({"start": value}, "invalid_start") for value in any_of("yesterday", "", 1.5, True, 10**30, 253402300800, [])]
    + [({"end": value}, "invalid_end") for value in any_of("tomorrow", 1.5, None.__class__.__name__, {})]
    + [({"usage_type": value}, "invalid_usage_type") for value in ("", "-x", "a b", "u" * 129, 7)]
    + [({"direction": "in"}, "metered_side_not_a_region"), ({"from": "cloudfront"}, "metered_side_not_a_region")]
    + [({"from": "unknown"}, "metered_side_not_a_region")]
    + [({"from": "internet", "service": "AmazonCloudFront", "usage_type": "X"}, "metered_side_not_a_region")]
    + [({"from": "cloudfront", "usage_type": "EU-DataTransfer-Out-Bytes"}, "metered_side_not_a_region")]
    + [({"from": "cloudfront", "service": "AmazonCloudFront"}, "missing_field")]
    + [({"end": "2026-11-24T12:59:59Z"}, "end_before_start"), ({"end": "2026-11-24T14:00:01Z"}, "spans_over_an_hour")]
    + [({"start": SENT_AT_S - 35 * 86400 - 1, "end": SENT_AT_S - 35 * 86400}, "too_late")]
    + [({"start": SENT_AT_S + 301, "end": SENT_AT_S + 302}, "in_the_future")]
    + [({name: None}, "missing_field") for name in record()]
    + [({name: ...}, "missing_field") for name in record()],
)
def test_a_bad_field_is_refused_by_its_reason(changes: dict[str, Any], reason: str) -> None:

    text = json.dumps(record() | changes) if ... not in changes.values() else json.dumps(record(**changes))
    assert problems(text) == [reason]
    assert Desk().refused(message([json.loads(text)])).reason == reason


@pytest.mark.parametrize("changes", [
    {"bytes": 0},
    {"bytes": 2**63 - 1},
    {"bytes": 1e3},
    {"resource_id": "r" * 512},
    {"resource_id": "\U0001f600" * 512},
    {"usage_type": "USW2-NatGateway-Bytes"},
    {"usage_type": None},
    {"start": SENT_AT_S - 35 * 86400, "end": SENT_AT_S - 35 * 86400 + 3600},
    {"start": SENT_AT_S + 300, "end": SENT_AT_S + 300},
    {"to": "ap-southeast-9/apse9-az1"},
    {"to": "unknown"},
    {"from": "cloudfront", "service": "AmazonCloudFront", "usage_type": "EU-DataTransfer-Out-Bytes"},
    {"unknown": {"deep": [1]}},
])  # fmt: skip
def test_the_edges_of_what_is_allowed_are_metered(changes: dict[str, Any]) -> None:
    assert len(Desk().decoded(message([record() | changes])).rows) == 1


def test_every_problem_is_reported_at_once_in_a_fixed_order() -> None:
    bad = {"account_id": 1, "service": "", "direction": "up", "from": "x", "to": 2, "bytes": -1, "start": "x", "end": 5}
    assert problems(json.dumps(bad)) == [
        "missing_field", "invalid_account_id", "invalid_service", "invalid_direction", "invalid_from", "invalid_to",
        "invalid_bytes", "invalid_start",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), [
    (b"{", Reason.RECORD_NOT_JSON),
    (b"\xff\xfe", Reason.RECORD_NOT_JSON),
    (b"", Reason.RECORD_NOT_JSON),
    (b"7", Reason.RECORD_NOT_AN_OBJECT),
    (b"null", Reason.RECORD_NOT_AN_OBJECT),
    (b"[" * 10_000, Reason.TOO_DEEPLY_NESTED),
])  # fmt: skip
def test_what_is_no_record_at_all_is_refused(text: bytes, reason: Reason) -> None:
    assert problems(text) == [reason]


def test_the_floor_keeps_older_records_late_whatever_the_window() -> None:
    admission = changed_admission(window_s=10**9, floor_s=SENT_AT_S)
    answer = Desk().read(message([record()]), admission=admission)
    assert answer.reason == "too_late"
    assert problems(b'{"start": 0}', admission)[-1] == "too_late"


def test_an_explicit_usage_type_is_taken_as_it_is() -> None:
    answer = Desk().decoded(message([record(usage_type="USW2-NatGateway-Bytes", to="ap-southeast-9")]))
    assert [key.usage_type for key in answer.usage] == ["USW2-NatGateway-Bytes"]
    assert answer.unknown_regions == frozenset()


def test_unknown_regions_of_metered_records_are_named() -> None:
    records = [record(to="ap-southeast-9"), record(to="xx-other-1", bytes=-1)]
    assert Desk().decoded(message(records)).unknown_regions == {"ap-southeast-9"}


_ONE_US = 1_795_525_200_000_000


@pytest.mark.parametrize("text", [
    "2026-11-24T13:00:00Z", "2026-11-24t13:00:00z", "2026-11-24 13:00:00+00:00", "2026-11-24T15:30:00+02:30",
    "2026-11-24T13:00:00.000000999Z", "2026-11-24T08:00:00.0-05:00",
])  # fmt: skip
def test_one_instant_can_be_written_in_many_ways(text: str) -> None:
    assert rfc3339_us(text) == _ONE_US


def test_times_are_kept_to_the_microsecond() -> None:
    assert rfc3339_us("2026-11-24T13:00:00.1234567Z") == _ONE_US + 123_456
    assert rfc3339_us("1969-12-31T23:59:59.5Z") == -500_000


@pytest.mark.parametrize("text", [
    "",
    "2026-11-24",
    "2026-11-24T13:00Z",
    "2026-11-24T13:00:00",
    "2026-02-30T00:00:00Z",
    "2026-11-24T24:00:00Z",
    "2026-11-24T13:00:60Z",
    "2026-11-24T13:00:00+0000",
    "2026-11-24T13:00:00+25:00",
    "2026-11-24T13:00:00+24:00",
    "2026-11-24T13:00:00+00:60",
    "2026-11-24T13:00:00-01:99",
    "2026-11-24T13:00:00-00:75",
    "2026-11-24T24:00:00+00:00",
    "2026-11-24T24:00:00.0Z",
    "2026-11-24T29:00:00Z",
    "2026-11-24T13:60:00Z",
    "2026-11-24T13:00:99Z",
    "20261124T130000Z",
    "2026-11-24T13:00:00.Z",
    "2026-11-24T13:00:00Z\n",
    "٢٠٢٦-11-24T13:00:00Z",
    "2026-11-24T13:00:00." + "1" * 99 + "Z",
    "0001-01-01T00:00:00+01:00",
])  # fmt: skip
def test_what_is_no_rfc_3339_time_is_none(text: str) -> None:
    assert rfc3339_us(text) is None


def test_epoch_seconds_reach_over_the_years_that_can_be_written() -> None:
    assert epoch_us(MIN_EPOCH_S) == rfc3339_us("0001-01-01T00:00:00Z")
    assert epoch_us(MAX_EPOCH_S) == rfc3339_us("9999-12-31T23:59:59Z")
    assert epoch_us(MIN_EPOCH_S - 1) is None
    assert epoch_us(MAX_EPOCH_S + 1) is None
