"""VPC flow logs as text and as Parquet: metered lines, and refused lines with their reasons."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.columns import fields
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.reading import FlowHop, ReadSettings
from metering.units import MIB
from tests.support.flow_logs import ACCOUNT, HOUR_S, KEY, START_S, V2, known_name, line, members, nameless, read, text

_INT64_MAX = 2**63 - 1


def test_the_default_format_is_read_line_for_line() -> None:
    found = read(gzip.compress(text(line(), line(), line(srcaddr="10.0.0.6", bytes="7"))))
    hop = FlowHop(account_id=ACCOUNT, interface_id="eni-0a", source="10.0.0.5", destination="192.0.2.7")
    hour_s = START_S - START_S % HOUR_S
    assert sorted(found.observations) == [
        (hop, hour_s, 2_000, 2, START_S, START_S + 60),
        (hop._replace(source="10.0.0.6"), hour_s, 7, 1, START_S, START_S + 60),
    ]
    assert (found.balance.lines, found.balance.header, found.balance.metered_bytes) == (4, 1, 2_007)


def test_every_known_field_finds_its_place_in_any_order() -> None:
    names = tuple(sorted(fields(), reverse=True))
    values = {"pkt_srcaddr": "2001:db8::1", "traffic_path": "8", "next_hop_az_id": "use1-az4", "resource_id": "nat-0a"}
    (only,) = read(text(line(names, **values), names=names)).observations
    assert only.subject == FlowHop(
        account_id=ACCOUNT, interface_id="eni-0a", resource_id="nat-0a", region="us-east-1", zone_id="use1-az2",
        flow_direction="egress", source="10.0.0.5", destination="192.0.2.7", packet_source="2001:db8::1", path="8",
        next_hop_zone_id="use1-az4",
    )  # fmt: skip


def test_fields_of_the_table_are_those_of_versions_2_to_11() -> None:
    assert {each.version for each in fields().values()} == {2, 3, 4, 5, 7, 8, 9, 10, 11}
    assert tuple(name for name, each in fields().items() if each.version == 2) == V2
    assert {each.attribute for each in fields().values()} == {"", *FlowHop._fields}
    # A field that AWS adds in the future is not a problem.
    names = ("new-field", *V2)
    assert read(text(line(names), names=names)).balance.metered == 1


@pytest.mark.parametrize("feed", ["\n", "\r\n"])
def test_headers_that_come_again_are_headers(feed: str) -> None:
    content = text(line(), " ".join(V2), line(), " ".join(V2)).decode().replace("\n", feed).encode()
    for stored in (content, gzip.compress(content), content.rstrip(), members(content, [200, 333])):
        found = read(stored)
        assert (found.balance.lines, found.balance.header, found.balance.metered) == (5, 3, 2)
        assert found.balance.refused == 0


def test_a_header_with_other_fields_changes_the_layout_from_there() -> None:
    other = ("bytes", "end", "start", "interface-id", "dstaddr")
    names = (line(other, bytes="5"), " ".join(V2), line(bytes="11"))
    found = read(text(line(), " ".join(other), *names))
    told = [(each.subject.source, each.bytes) for each in found.observations]
    assert told == [("10.0.0.5", 1_000), ("", 5), ("10.0.0.5", 11)]
    assert (found.balance.header, found.balance.metered) == (3, 3)


def test_text_without_a_header_needs_its_fields_by_name() -> None:
    content = f"{line()}\n".encode()
    with pytest.raises(LogFileRefusedError, match="no_header: the first line names no fields") as caught:
        read(content)
    assert "Give the fields" in caught.value.detail
    found = read(content, settings=ReadSettings(fields=V2))
    assert (found.balance.header, found.balance.metered) == (0, 1)
    again = read(text(line()), settings=ReadSettings(fields=V2))
    assert (again.balance.header, again.balance.metered) == (1, 1)


@pytest.mark.parametrize(("names", "said"), [
    (("account-id", "interface-id", "start", "end"), "no bytes"),
    (("account-id", "interface-id", "bytes", "end", "srcaddr"), "no start"),
    (("account-id", "bytes", "start", "end"), "no interface-id or resource-id or instance-id"),
    (("version", "srcaddr"), "no bytes; no start; no end"),
])  # fmt: skip
def test_a_log_without_a_field_that_metering_needs_is_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(LogFileRefusedError, match="missing_field") as caught:
        read(text(line(names), names=names))
    assert said in caught.value.detail


def test_a_header_that_names_a_field_twice_is_refused_and_that_of_a_transit_gateway_is_of_another_kind() -> None:
    with pytest.raises(LogFileRefusedError, match="wrong_format: the header names bytes twice"):
        read(text(line((*V2, "bytes")), names=(*V2, "bytes")))
    with pytest.raises(LogFileRefusedError, match="transit-gateway"):
        read(text("x", names=("version", "tgw-id", "bytes", "start", "end")))


def test_without_an_account_in_line_or_name_nothing_is_metered() -> None:
    names = ("interface-id", "bytes", "start", "end")
    (only,) = read(text(line(names), names=names)).observations
    assert only.subject.account_id == ACCOUNT
    with pytest.raises(LogFileRefusedError, match="account-id, which the file's name does not state"):
        read(text(line(names), names=names), nameless())


@pytest.mark.parametrize("stated", ["unknown", "-"])
def test_an_unknown_account_is_that_of_the_file_and_a_line_may_leave_its_owner_to_the_context(stated: str) -> None:
    (only,) = read(text(line(account_id=stated, interface_id="-"))).observations
    assert (only.subject.account_id, only.subject.interface_id, only.subject.resource_id) == (ACCOUNT, "", "")
    found = read(text(line(account_id=stated)), nameless())
    assert found.reasons == {"invalid_account": (1, 1_000)}


def test_what_is_not_traffic_is_counted_and_not_metered() -> None:
    absent = dict.fromkeys(("srcaddr", "dstaddr", "bytes", "packets", "action"), "-")
    silent = (line(log_status=status, **absent) for status in ("NODATA", "SKIPDATA"))
    # Traffic that VPC Block Public Access rejects has no bytes.
    found = read(text(line(action="REJECT", bytes="9"), line(action="REJECT", bytes="-"), *silent))
    balance = found.balance
    assert (balance.rejected, balance.rejected_bytes, balance.nodata, balance.skipdata) == (2, 9, 1, 1)
    assert (balance.metered, balance.refused, found.observations) == (0, 0, [])


def test_a_log_without_status_says_by_absent_bytes_that_there_was_no_traffic() -> None:
    names = V2[:-1]
    found = read(text(line(names, bytes="-"), line(names, bytes="x"), line(names), names=names))
    assert (found.balance.nodata, found.balance.metered, found.reasons) == (1, 1, {"invalid_number": (1, 0)})


@pytest.mark.parametrize("number", [str(_INT64_MAX), "0", "00000000000000000000000000000000001"])
def test_any_integer_of_63_bits_is_a_number_of_bytes(number: str) -> None:
    assert read(text(line(bytes=number))).balance.metered_bytes == int(number)


def test_sums_are_exact_beyond_64_bits() -> None:
    rejected = line(bytes=str(_INT64_MAX), action="REJECT")
    found = read(text(*[line(bytes=str(_INT64_MAX))] * 5, line(bytes="1"), rejected))
    assert [each.bytes for each in found.observations] == [5 * _INT64_MAX + 1]
    assert found.balance.stated_bytes == 6 * _INT64_MAX + 1


_REFUSALS = {
    "a negative number": ({"bytes": "-5"}, "invalid_number", 0),
    "twenty digits": ({"bytes": "9" * 20}, "invalid_number", 0),
    "2^63": ({"bytes": str(2**63)}, "invalid_number", 0),
    "no number": ({"bytes": "-"}, "invalid_number", 0),
    "hexadecimal": ({"bytes": "0x1F"}, "invalid_number", 0),
    "a fraction": ({"bytes": "1.5"}, "invalid_number", 0),
    "a plus": ({"bytes": "+5"}, "invalid_number", 0),
    "a tab": ({"bytes": "5\t"}, "invalid_number", 0),
    "REJECT with a text for a number": ({"action": "REJECT", "bytes": "x"}, "invalid_number", 0),
    "no start": ({"start": "-"}, "invalid_time", 1_000),
    "a start of text": ({"start": "2026-11-24T13:00:00Z"}, "invalid_time", 1_000),
    "microseconds": ({"start": f"{START_S}000000", "end": f"{START_S}000000"}, "invalid_time", 1_000),
    "time zero": ({"start": "0"}, "invalid_time", 1_000),
    "end before start": ({"end": str(START_S - 1)}, "invalid_time", 1_000),
    "over an hour": ({"end": str(START_S + 3_601)}, "spans_over_an_hour", 1_000),
    "eleven digits": ({"account_id": "12345678901"}, "invalid_account", 1_000),
    "an account of text": ({"account_id": "acme"}, "invalid_account", 1_000),
    "a bad address": ({"srcaddr": "10.0.0.256"}, "invalid_address", 1_000),
    "a bad IPv6 address": ({"dstaddr": "2001:db8::1::2"}, "invalid_address", 1_000),
    "a name for an address": ({"dstaddr": "example.org"}, "invalid_address", 1_000),
    "an unknown action": ({"action": "DROP"}, "invalid_value", 1_000),
    "no action": ({"action": "-"}, "invalid_value", 1_000),
    "an unknown status": ({"log_status": "FINE"}, "invalid_value", 1_000),
    "an empty field": ({"interface_id": ""}, "invalid_value", 1_000),
    "a control character": ({"interface_id": "eni\x07"}, "invalid_value", 1_000),
    "a long text": ({"interface_id": "e" * 513}, "invalid_value", 1_000),
    "one more field": ({"interface_id": "eni-0a eni-0b"}, "field_count", 0),
    "two blanks": ({"interface_id": "eni-0a "}, "field_count", 0),
    "a NUL": ({"interface_id": "eni\0"}, "not_text", 0),
    "a carriage return": ({"interface_id": "eni\r"}, "not_text", 0),
}


@pytest.mark.parametrize(("changed", "reason", "stated_bytes"), _REFUSALS.values(), ids=_REFUSALS.keys())
def test_a_line_that_cannot_be_metered_is_refused_alone(
    changed: dict[str, str], reason: str, stated_bytes: int
) -> None:
    wrong = line(**changed)
    found = read(text(line(bytes="3"), line(log_status="NODATA"), wrong, line(bytes="4")))
    assert found.reasons == {reason: (1, stated_bytes)}
    ((number, said, detail, shown, said_bytes),) = found.refused
    assert (number, said, said_bytes) == (4, reason, stated_bytes)
    assert detail
    assert shown == wrong
    assert (found.balance.metered, found.balance.metered_bytes) == (2, 7)


def test_empty_lines_and_a_line_that_is_no_utf8_are_refused_alone() -> None:
    wrong = line(interface_id="eni-X").encode().replace(b"X", b"\xff\xfe")
    found = read(text(line(interface_id="eni-é")) + wrong + b"\n\n\n" + line().encode())
    told = [(each.number, each.reason) for each in found.refused]
    assert told == [(3, "not_text"), (4, "field_count"), (5, "field_count")]
    assert "\ufffd" in found.refused[0].text
    assert found.balance.metered == 2


def test_milliseconds_are_milliseconds() -> None:
    found = read(text(line(start=f"{START_S}001", end=f"{START_S + 60}999"), line()))
    (only,) = found.observations
    assert (only.start_s, only.end_s, only.lines) == (START_S, START_S + 60, 2)


def test_an_observation_spans_an_hour_at_most() -> None:
    hour_s = START_S - START_S % HOUR_S
    late = line(start=str(hour_s + 3_500), end=str(hour_s + 3_700))
    (only,) = read(text(line(start=str(hour_s), end=str(hour_s + 60)), late)).observations
    assert (only.start_s, only.end_s, only.lines) == (hour_s, hour_s + 3_600, 2)
    later = str(START_S + HOUR_S)
    found = read(text(line(), line(start=later, end=later)))
    assert sorted(each.hour_s for each in found.observations) == [1_795_525_200, 1_795_528_800]


def test_long_lines_are_refused_and_cut() -> None:
    long = line(interface_id="x" * 70_000)
    found = read(text(line(), long, line(), long))
    told = [(each.number, each.reason, len(each.text)) for each in found.refused]
    assert told == [(number, "line_too_long", 4_096) for number in (3, 5)]
    assert found.balance.metered == 2
    tiny = ReadSettings(block_bytes=100)
    assert read(text(line(), long, line(), long), settings=tiny).refused == found.refused


def test_all_refused_lines_are_counted_and_some_are_kept() -> None:
    lines = [line(bytes="x"), line(start="x"), "few fields"] * 50
    found = read(text(*lines), settings=ReadSettings(kept_refusals=7, block_bytes=300))
    assert [each.number for each in found.refused] == [2, 3, 4, 5, 6, 7, 8]
    assert found.reasons == {"invalid_number": (50, 0), "invalid_time": (50, 50_000), "field_count": (50, 0)}


def test_the_digest_gets_all_of_the_content_in_order() -> None:
    content = text(*[line(bytes=str(number)) for number in range(2_000)])
    for stored in (content, gzip.compress(content), members(content, [7, 1_000, 50_000])):
        assert read(stored, settings=ReadSettings(block_bytes=1_000)).content == content
    empty = read(gzip.compress(b""))
    assert (empty.balance.lines, empty.observations, read(text()).balance.header) == (0, [], 1)


_NAME = known_name(KEY.replace(".log.gz", ".log.parquet"))
_ROW: dict[str, Any] = {
    "version": 5, "account_id": ACCOUNT, "interface_id": "eni-0a", "srcaddr": "10.0.0.5", "dstaddr": "192.0.2.7",
    "bytes": 1_000, "start": START_S, "end": START_S + 60, "action": "ACCEPT", "log_status": "OK",
    "pkt_src_aws_service": "-", "flow_direction": "egress", "traffic_path": 8,
}  # fmt: skip
_HOP = FlowHop(
    account_id=ACCOUNT, interface_id="eni-0a", source="10.0.0.5", destination="192.0.2.7", flow_direction="egress",
    path="8",
)  # fmt: skip


def stored(*rows: dict[str, Any], types: dict[str, pa.DataType] | None = None, **options: Any) -> bytes:
    """A Parquet file of these rows; fields that a row lacks get usual values."""
    types = types or {}
    columns = {}
    for name in _ROW:
        values, kind = [(_ROW | row)[name] for row in rows], types.get(name)
        if kind is None or pa.types.is_integer(kind):
            columns[name] = pa.array(values if kind is None else list(map(int, values)), kind)
        elif pa.types.is_timestamp(kind):
            columns[name] = pa.array(values, pa.timestamp("s")).cast(kind)
        else:
            columns[name] = pa.array(values).cast(kind)
    return written(pa.table(columns), **options)


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_rows_are_read_as_aws_writes_them() -> None:
    kinds = {"version": pa.int32(), "traffic_path": pa.int32()}
    content = stored({}, {"bytes": 7}, {"traffic_path": 0}, types=kinds, compression="gzip")
    found = read(content, _NAME)
    assert found.totals() == {
        (_HOP, START_S - START_S % 3_600): (1_007, 2),
        (_HOP._replace(path=""), START_S - START_S % 3_600): (1_000, 1),
    }
    assert found.content == content
    assert (found.balance.lines, found.blocks[-1].read_bytes) == (3, len(content))
    # Parquet is recognised by its content if the file's name does not say it.
    assert read(content, nameless()).balance.metered == 3


@pytest.mark.parametrize("types", [
    {name: pa.string() for name in ("bytes", "start", "end", "traffic_path", "version")},
    {"bytes": pa.int32(), "start": pa.int32(), "end": pa.uint32(), "traffic_path": pa.int8()},
    {"bytes": pa.uint64(), "account_id": pa.int64()},
    {"start": pa.timestamp("ms"), "end": pa.timestamp("us", "UTC")},
    {"interface_id": pa.dictionary(pa.int8(), pa.string()), "srcaddr": pa.large_string()},
], ids=["numbers as text", "small integers", "accounts as integers", "times", "folded texts"])  # fmt: skip
def test_types_of_other_writers_say_the_same(types: dict[str, pa.DataType]) -> None:
    for options in ({}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"row_group_size": 2}):
        found = read(stored(*[{}] * 5, types=types, **options), _NAME)
        assert found.totals() == {(_HOP, START_S - START_S % 3_600): (5_000, 5)}


@pytest.mark.parametrize("absent", ["None", "-", "", None])
def test_texts_for_absent_values_are_absent(absent: str | None) -> None:
    names = ("srcaddr", "flow_direction", "pkt_src_aws_service")
    found = read(stored(dict.fromkeys(names, absent), {}), _NAME)
    assert {subject for subject, _ in found.totals()} == {_HOP, _HOP._replace(source="", flow_direction="")}


def test_an_account_that_lost_its_zeros_is_filled_up_if_it_was_a_number_only() -> None:
    (only,) = read(stored({"account_id": int(ACCOUNT)}, types={"account_id": pa.int64()}), _NAME).observations
    assert only.subject.account_id == ACCOUNT
    found = read(stored({"account_id": ACCOUNT[1:]}), _NAME)
    assert found.reasons == {"invalid_account": (1, 1_000)}
    beyond = read(stored({"account_id": 10**12}, {"account_id": -1}, types={"account_id": pa.int64()}), _NAME)
    assert beyond.reasons == {"invalid_account": (2, 2_000)}


def test_absent_accounts_are_those_of_the_file() -> None:
    found = read(stored({"account_id": None}, {"account_id": "unknown"}, {"account_id": "None"}), _NAME)
    assert found.totals() == {(_HOP, START_S - START_S % 3_600): (3_000, 3)}
    found = read(stored({"account_id": None}), replace(nameless(), parquet=True))
    assert found.reasons == {"invalid_account": (1, 1_000)}


def test_rows_that_cannot_be_metered_are_refused_with_their_numbers() -> None:
    others: list[dict[str, Any]] = [{"srcaddr": "x"}, {"log_status": "NODATA"}, {"action": "REJECT"}]
    found = read(stored({"bytes": -1}, {}, {"bytes": None}, {"end": START_S - 1}, *others), _NAME)
    assert [(each.number, each.reason, each.bytes) for each in found.refused] == [
        (1, "invalid_number", 0), (3, "invalid_number", 0), (4, "invalid_time", 1_000), (5, "invalid_address", 1_000),
    ]  # fmt: skip
    assert '"bytes": -1' in found.refused[0].text
    assert (found.balance.metered, found.balance.nodata, found.balance.rejected_bytes) == (1, 1, 1_000)


def test_numbers_as_texts_are_refused_like_those_of_a_line() -> None:
    numbers = ["5", "-5", "x", "9" * 20, str(2**63 - 1), "None", "0x5"]
    found = read(stored(*[{"bytes": number} for number in numbers]), _NAME)
    assert found.balance.metered_bytes == 2**63 - 1 + 5
    assert found.reasons == {"invalid_number": (5, 0)}
    large = read(stored({"bytes": 2**63}, {"bytes": 2**63 - 1}, types={"bytes": pa.uint64()}), _NAME)
    assert (large.balance.metered_bytes, large.reasons) == (2**63 - 1, {"invalid_number": (1, 0)})


@pytest.mark.parametrize(("content", "reason"), [
    (b"PAR1", "truncated"),
    (stored({})[:-1], "truncated"),
    (stored({})[:200], "truncated"),
    (b"", "truncated"),
    (b"no parquet at all", "wrong_format"),
    (stored({})[:-9] + b"\xff" + stored({})[-8:], "wrong_format"),
    (stored({}, types={"bytes": pa.float64()}), "wrong_format"),
    (stored({"srcaddr": b"\xff"}), "wrong_format"),
], ids=["magic", "cut at the end", "cut", "empty", "no Parquet", "broken footer", "fraction", "no text"])  # fmt: skip
def test_damaged_files_are_refused_as_a_whole(content: bytes, reason: str) -> None:
    with pytest.raises(LogFileRefusedError) as caught:
        read(content, _NAME)
    assert caught.value.reason == reason


def test_a_file_without_a_needed_column_is_refused() -> None:
    with pytest.raises(LogFileRefusedError, match="missing_field: the log has no start; no end"):
        read(written(pa.table({"interface_id": ["eni-0a"], "bytes": [5]})), _NAME)


def test_rows_of_nothing_do_not_fill_the_memory() -> None:
    rows = 3_000_000
    table = pa.table({name: pa.array([value]).take(pa.array([0] * rows)) for name, value in _ROW.items()})
    with pytest.raises(LogFileRefusedError, match="expands_too_far"):
        read(written(table), _NAME)


@pytest.mark.long
def test_memory_is_that_of_a_batch() -> None:
    rows = [{"bytes": number, "srcaddr": f"10.0.{number % 256}.{number // 256 % 256}"} for number in range(200_000)]
    content = stored(*rows, row_group_size=50_000)
    arrow_bytes = pa.total_allocated_bytes()
    tracemalloc.start()
    total_bytes = 0
    for block in read_flow_log(io.BytesIO(content), _NAME, ReadSettings()):
        total_bytes += block.balance.metered_bytes
    assert total_bytes == sum(range(200_000))
    assert tracemalloc.get_traced_memory()[1] < 100 * MIB
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - arrow_bytes < 8 * MIB


def test_row_numbers_go_on_over_row_groups_and_the_limit_of_kept_rows_holds() -> None:
    rows = [{"bytes": -1 if number % 100 == 7 else number} for number in range(1_000)]
    found = read(stored(*rows, row_group_size=64), _NAME)
    assert [each.number for each in found.refused] == [100 * number + 8 for number in range(10)]
    found = read(stored(*[{"bytes": -1}] * 50), _NAME, ReadSettings(kept_refusals=3))
    assert ([each.number for each in found.refused], found.reasons) == ([1, 2, 3], {"invalid_number": (50, 0)})
