"""VPC flow logs as Parquet: types of any writer, absent values, and excessive files."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.reading import FlowHop, ReadSettings
from metering.units import MIB
from tests.support.flow_logs import ACCOUNT, KEY, START_S, known_name, nameless, read

_NAME = known_name(KEY.replace(".log.gz", ".log.parquet"))
_ROW: dict[str, Any] = {
    "version": 5,
    "account_id": ACCOUNT,
    "interface_id": "eni-0a",
    "srcaddr": "10.0.0.5",
    "dstaddr": "192.0.2.7",
    "bytes": 1_000,
    "start": START_S,
    "end": START_S + 60,
    "action": "ACCEPT",
    "log_status": "OK",
    "pkt_src_aws_service": "-",
    "flow_direction": "egress",
    "traffic_path": 8,
}
_HOP = FlowHop(
    account_id=ACCOUNT, interface_id="eni-0a", source="10.0.0.5", destination="192.0.2.7", flow_direction="egress",
    path="8",
)  # fmt: skip


def stored(*rows: dict[str, Any], types: dict[str, pa.DataType] | None = None, **options: Any) -> bytes:
    """Rows as a Parquet file; missing values are the usual ones."""
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
    table = pa.table(columns)
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


@pytest.mark.parametrize(
    "types",
    [
        {name: pa.string() for name in ("bytes", "start", "end", "traffic_path", "version")},
        {"bytes": pa.int32(), "start": pa.int32(), "end": pa.uint32(), "traffic_path": pa.int8()},
        {"bytes": pa.uint64(), "account_id": pa.int64()},
        {"start": pa.timestamp("ms"), "end": pa.timestamp("us", "UTC")},
        {"interface_id": pa.dictionary(pa.int8(), pa.string()), "srcaddr": pa.large_string()},
    ],
    ids=["numbers as text", "small integers", "accounts as integers", "times", "folded texts"],
)
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
    rows: list[dict[str, Any]] = [
        {"bytes": -1},
        {},
        {"bytes": None},
        {"end": START_S - 1},
        {"srcaddr": "x"},
        {"log_status": "NODATA"},
    ]
    found = read(stored(*rows, {"action": "REJECT"}), _NAME)
    assert [(each.number, each.reason, each.bytes) for each in found.refused] == [
        (1, "invalid_number", 0),
        (3, "invalid_number", 0),
        (4, "invalid_time", 1_000),
        (5, "invalid_address", 1_000),
    ]
    assert '"bytes": -1' in found.refused[0].text
    assert (found.balance.metered, found.balance.nodata, found.balance.rejected_bytes) == (1, 1, 1_000)


def test_numbers_as_texts_are_refused_like_those_of_a_line() -> None:
    numbers = ["5", "-5", "x", "9" * 20, str(2**63 - 1), "None", "0x5"]
    found = read(stored(*[{"bytes": number} for number in numbers]), _NAME)
    assert found.balance.metered_bytes == 2**63 - 1 + 5
    assert found.reasons == {"invalid_number": (5, 0)}
    large = read(stored({"bytes": 2**63}, {"bytes": 2**63 - 1}, types={"bytes": pa.uint64()}), _NAME)
    assert (large.balance.metered_bytes, large.reasons) == (2**63 - 1, {"invalid_number": (1, 0)})


def test_row_numbers_go_on_over_row_groups() -> None:
    rows = [{"bytes": -1 if number % 100 == 7 else number} for number in range(1_000)]
    found = read(stored(*rows, row_group_size=64), _NAME)
    assert [each.number for each in found.refused] == [100 * number + 8 for number in range(10)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PAR1", "truncated"),
        (stored({})[:-1], "truncated"),
        (stored({})[:200], "truncated"),
        (b"", "truncated"),
        (b"no parquet at all", "wrong_format"),
        (stored({})[:-9] + b"\xff" + stored({})[-8:], "wrong_format"),
        (stored({}, types={"bytes": pa.float64()}), "wrong_format"),
        (stored({"srcaddr": b"\xff"}), "wrong_format"),
    ],
    ids=["magic", "cut at the end", "cut", "empty", "no Parquet", "broken footer", "fraction", "no text"],
)
def test_damaged_files_are_refused_as_a_whole(content: bytes, reason: str) -> None:
    with pytest.raises(LogFileRefusedError) as caught:
        read(content, _NAME)
    assert caught.value.reason == reason


def test_a_file_without_a_needed_column_is_refused() -> None:
    table = pa.table({"interface_id": ["eni-0a"], "bytes": [5]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(LogFileRefusedError, match="missing_field: the log has no start; no end"):
        read(sink.getvalue(), _NAME)


def test_parquet_is_known_by_its_content_if_the_name_says_nothing() -> None:
    assert read(stored({}), nameless()).balance.metered == 1


def test_rows_of_nothing_do_not_fill_the_memory() -> None:
    rows = 3_000_000
    table = pa.table({name: pa.array([value]).take(pa.array([0] * rows)) for name, value in _ROW.items()})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(LogFileRefusedError, match="expands_too_far"):
        read(sink.getvalue(), _NAME)


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


def test_the_limit_of_kept_rows_holds() -> None:
    found = read(stored(*[{"bytes": -1}] * 50), _NAME, ReadSettings(kept_refusals=3))
    assert ([each.number for each in found.refused], found.reasons) == ([1, 2, 3], {"invalid_number": (50, 0)})
