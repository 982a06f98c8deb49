"""CloudFront standard logs: both versions, all formats, and the billing area of the edge."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.cloudfront import LEGACY_FIELDS, airport_of, areas_by_airport
from metering.onramps.context.document import Context, Distribution
from metering.onramps.kinds import recognised
from tests.unit.onramps.readers import SETTINGS, Row, gzipped, log_of, measured, reasons, records

if TYPE_CHECKING:
    from metering.onramps.ingest.totals import Measured
    from metering.onramps.reading import ReadSettings

ACCOUNT = "123456789012"
DISTRIBUTION = "EMLARXS9EXAMPLE"
FILE = f"{DISTRIBUTION}.2026-11-24-12.a1b2c3d4.gz"
V2_KEY = f"AWSLogs/{ACCOUNT}/CloudFront/{FILE}"
LEGACY_KEY = f"logs/{FILE}"
HEADER = "#Version: 1.0\n#Fields: " + " ".join(LEGACY_FIELDS) + "\n"
VALUES = {
    "date": "2026-11-24", "time": "12:59:58", "x-edge-location": "LHR61-P2", "sc-bytes": "4000", "cs-bytes": "300",
    "cs-method": "GET",
}  # fmt: skip


def legacy_line(**changes: str) -> str:
    """A line of all 33 fields; names of keywords have underscores."""
    values = VALUES | {name.replace("_", "-"): value for name, value in changes.items()}
    return "\t".join(values.get(name, "-") for name in LEGACY_FIELDS)


def owned(content: bytes | str, *, settings: ReadSettings = SETTINGS, parquet: bool = False) -> Measured:
    """Measure a log file of a distribution whose owner is known."""
    found = log_of(V2_KEY)
    return measured(content, kind=found[0], name=replace(found[1], parquet=parquet), settings=settings)


USUAL = [
    Row(ACCOUNT, DISTRIBUTION, "in", "internet", "cloudfront", "EU-DataTransfer-In-Bytes", 300),
    Row(ACCOUNT, DISTRIBUTION, "out", "cloudfront", "internet", "EU-DataTransfer-Out-Bytes", 4000),
]


@pytest.mark.parametrize(("key", "account"), [
    (V2_KEY, ACCOUNT),
    (f"cdn/AWSLogs/{ACCOUNT}/CloudFront/{DISTRIBUTION}/2026/11/24/12/{FILE}", ACCOUNT),
    (f"AWSLogs/aws-account-id={ACCOUNT}/CloudFront/DistributionId={DISTRIBUTION}/year=2026/{FILE}", ACCOUNT),
    (LEGACY_KEY, ""),
    (FILE.removesuffix(".gz"), ""),
])  # fmt: skip
def test_the_name_says_distribution_and_hour_and_the_key_of_version_2_the_account(key: str, account: str) -> None:
    found = log_of(key)
    assert found[0].name == "cloudfront"
    assert (found[1].source, found[1].account_id, found[1].slot_s) == (DISTRIBUTION, account, 1795521600)
    assert found[1].identity == f"cf:{DISTRIBUTION}.2026-11-24-12.a1b2c3d4"
    for other in (f"{DISTRIBUTION}.2026-11-24-25.a1b2c3d4.gz", "x.gz", "e1.2026-11-24-12.a1b2c3d4.gz"):
        assert recognised(other) is None


def test_a_legacy_file_is_metered_by_the_area_of_its_edges() -> None:
    lines = [legacy_line(), legacy_line(x_edge_location="IAD89-C3", sc_bytes="7", cs_bytes="-")]
    result = owned(gzipped(HEADER + "\n".join(lines) + "\n"))
    assert records(result) == [*USUAL, USUAL[1]._replace(usage_type="US-DataTransfer-Out-Bytes", bytes=7)]
    assert (result.balance.lines, result.balance.header, result.balance.metered) == (4, 2, 2)
    assert {(total.start_s, total.end_s) for total in result.totals.values()} == {(1795525198, 1795525198)}


@pytest.mark.parametrize("delimiter", ["\t", ",", " ", "|", ";"])
def test_version_2_has_any_fields_in_any_order_with_any_delimiter(delimiter: str) -> None:
    names = ["cs-bytes", "x-edge-location", "sc-bytes", "time", "cs-method", "date"]
    row = delimiter.join(VALUES.get(name, "GET") for name in names)
    w3c = "#Version: 1.0\n#Fields: " + " ".join(names) + "\n" + row
    plain = delimiter.join(names) + "\n" + row + "\n" + row
    assert records(owned(w3c)) == USUAL
    assert owned(plain).balance.metered_bytes == 2 * 4300


def test_version_2_in_json_has_a_row_a_line() -> None:
    text = "\n".join([json.dumps(VALUES), json.dumps(VALUES | {"sc-bytes": 5, "cs-bytes": None}), "{", '{"date": 1}'])
    result = owned(text)
    assert records(result)[1].bytes == 4005
    assert reasons(result) == {"invalid_value": 1, "invalid_time": 1}


def _sent(line: str) -> list[tuple[str, str, str, int]]:
    """Metered records of a line, without the record of the edge's transfer to the viewer."""
    rows = records(owned(HEADER + line + "\n"))
    return [(row.usage_type, row.from_location, row.to_location, row.bytes) for row in rows if row.bytes != 4000]


AT_THE_EDGE = ("EU-DataTransfer-In-Bytes", "internet", "cloudfront", 300)
SOMEWHERE = ("Unclassified-In-Bytes", "internet", "cloudfront", 300)
TO_ORIGIN = ("EU-DataTransfer-Out-OBytes", "cloudfront", "unknown", 300)


@pytest.mark.parametrize(("method", "result", "sent", "reason"), [
    *((method, "Miss", TO_ORIGIN, "") for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
    ("GET", "Miss", AT_THE_EDGE, ""), ("HEAD", "Error", AT_THE_EDGE, ""), ("POST", "Redirect", AT_THE_EDGE, ""),
    ("PUT", "LimitExceeded", AT_THE_EDGE, ""), ("OPTIONS", "Hit", AT_THE_EDGE, ""),
    ("-", "Miss", SOMEWHERE, "method_not_logged"),
    ("POST", "Error", SOMEWHERE, "origin_unknown"), ("PUT", "-", SOMEWHERE, "origin_unknown"),
])  # fmt: skip
def test_an_upload_is_transfer_to_the_origin_free_at_the_edge_or_unclassified(
    method: str, result: str, sent: tuple[str, str, str, int], reason: str
) -> None:
    line = legacy_line(cs_method=method, x_edge_result_type=result)
    assert _sent(line) == [sent]
    assert reason in {share.reason for share in owned(HEADER + line + "\n").shares}


def test_raw_files_without_names_need_them_given() -> None:
    row = "\t".join(VALUES[name] for name in ("date", "time", "x-edge-location", "sc-bytes"))
    with pytest.raises(LogFileRefusedError, match=r"no_header: .*--fields"):
        owned(row)
    given = replace(SETTINGS, fields=("date", "time", "x-edge-location", "sc-bytes"))
    assert records(owned(row, settings=given)) == USUAL[1:]


@pytest.mark.parametrize("separator", ["-", "_"])
@pytest.mark.parametrize("number", [str, int])
def test_version_2_in_parquet_has_numbers_as_numbers_or_as_texts(separator: str, number: type[str] | type[int]) -> None:
    texts = ("date", "time", "x-edge-location", "cs-method")
    columns: dict[str, list[object]] = {name: [VALUES[name], None] for name in texts}
    columns |= {name: [number(VALUES[name]), number("1")] for name in ("sc-bytes", "cs-bytes")}
    columns = {name.replace("-", separator): values for name, values in columns.items()}
    columns["c_ip"] = ["1.2.3.4", "1.2.3.4"]
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    result = owned(file.getvalue(), parquet=True)
    assert records(result) == USUAL
    assert reasons(result) == {"invalid_time": 1}


def test_times_may_be_epoch_seconds_or_milliseconds() -> None:
    for text in ("timestamp sc-bytes\n1795525198.999 10", "timestamp(ms)\tsc-bytes\n1795525198999\t10"):
        assert [total.start_s for total in owned(text).totals.values()] == [1795525198]


@pytest.mark.parametrize(("text", "reason"), [
    (HEADER + legacy_line(x_edge_location="XXX1-P1"), "edge_unknown"),
    (HEADER + legacy_line(x_edge_location="-"), "edge_unknown"),
    (HEADER + legacy_line(x_edge_location="PEK50-C1"), "edge_unknown"),
    ("date time sc-bytes\n2026-11-24 12:59:58 4000", "edge_not_logged"),
])  # fmt: skip
def test_without_a_known_edge_the_area_is_unclassified_with_the_reason(text: str, reason: str) -> None:
    [share] = [share for share in owned(text).shares if "Out" in share.usage_type]
    assert (share.usage_type, share.reason, share.bytes) == ("Unclassified-Out-Bytes", reason, 4000)


@pytest.mark.parametrize("fields", ["date time x-edge-location", "sc-bytes x-edge-location date"])
def test_without_size_or_time_the_file_is_refused_with_what_it_lacks(fields: str) -> None:
    with pytest.raises(LogFileRefusedError, match="missing_field: the log lacks"):
        owned(f"#Fields: {fields}\n1 2 3")


def test_a_line_that_is_no_object_is_refused_and_the_others_of_the_json_file_are_metered() -> None:
    row = json.dumps(VALUES)
    result = owned(f"{row}\n[1]\nnull\n{row}\n")
    assert (result.balance.metered, result.balance.metered_bytes) == (2, 8600)
    assert reasons(result) == {"invalid_value": 2}


@pytest.mark.parametrize(("log", "metered_bytes"), [("", 4300), ("legacy", 4300), ("v2", 0)])
def test_of_two_logs_of_one_distribution_the_one_is_metered_that_the_context_says(log: str, metered_bytes: int) -> None:
    known = {DISTRIBUTION: Distribution(DISTRIBUTION, ACCOUNT, log)}
    context = Context(sha256="0" * 64, effective_s=0, distributions=known)
    result = measured(HEADER + legacy_line(), LEGACY_KEY, context=context)
    assert (result.balance.metered_bytes, result.balance.shadowed_bytes) == (metered_bytes, 4300 - metered_bytes)
    assert [by for by, _, _ in result.shadowed] == ([f"{DISTRIBUTION} v2"] if log == "v2" else [])
    # The owner of the distribution must be known.
    result = measured(HEADER + legacy_line(), LEGACY_KEY)
    assert (reasons(result), result.balance.refused_bytes) == ({"invalid_account": 1}, 4300)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"sc_bytes": "12x"}, "invalid_number"),
    ({"sc_bytes": "-12"}, "invalid_number"),
    ({"cs_bytes": "99999999999999999999"}, "invalid_number"),
    ({"date": "2026-02-30"}, "invalid_time"),
    ({"time": "-"}, "invalid_time"),
])  # fmt: skip
def test_a_line_that_cannot_be_read_is_refused_with_the_reason(changes: dict[str, str], reason: str) -> None:
    assert reasons(owned(HEADER + legacy_line(**changes))) == {reason: 1}


def test_a_line_with_other_fields_is_refused_and_its_neighbours_are_metered() -> None:
    wrong = (legacy_line() + "\textra", "2026-11-24\t12:00:00")
    result = owned("\n".join([HEADER + legacy_line(), *wrong, legacy_line()]))
    assert (reasons(result), result.balance.metered) == ({"field_count": 2}, 2)


def test_a_request_that_moved_nothing_has_no_data_and_values_that_look_like_names_are_no_header() -> None:
    assert owned(HEADER + legacy_line(sc_bytes="0", cs_bytes="0")).balance.nodata == 1
    assert owned(HEADER + legacy_line(cs_uri_query="sc-bytes,date,time")).balance.metered == 1


def test_every_area_is_one_of_the_ten_of_the_bill_and_every_code_stands_in_one() -> None:
    areas = areas_by_airport()
    assert set(areas.values()) == {"US", "CA", "EU", "AP", "AU", "IN", "JP", "ME", "SA", "ZA"}
    assert len(areas) > 150
    assert all(re.fullmatch("[A-Z]{3}", code) for code in areas)
    found = [areas[code] for code in ["IAD", "YTO", "TLV", "HKG", "AKL", "BOM", "KIX", "DXB", "GRU", "NBO"]]
    assert found == ["US", "CA", "EU", "AP", "AU", "IN", "JP", "ME", "SA", "ZA"]
    # The airport of an edge is the first three letters of the edge's name.
    assert [airport_of(edge) for edge in ("LHR61-P2", "IAD53", "NRT")] == ["LHR", "IAD", "NRT"]
    assert not any(map(airport_of, ("lhr61", "-", "", "LHRX")))


def test_hours_of_cloudfront_settle_after_a_day() -> None:
    kind, _ = log_of(V2_KEY)
    assert (kind.settles_after_s, kind.needs_context) == (86_400, False)
