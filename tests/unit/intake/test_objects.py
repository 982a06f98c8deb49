"""Every kind of invalid object is refused with a reason, in bounded time and memory."""

import gzip
import io
import json
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Mapping
from typing import BinaryIO, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from metering.errors import ObjectChangedError, UnavailableError
from metering.intake.messages import FORMATS, SUFFIXES, Compression, Format
from metering.intake.reader import RecordBatchReader
from metering.intake.work import ReadLimits
from metering.stores.queues import Delivery
from metering.units import MIB
from tests.support.memory.clock import UNHURRIED
from tests.support.reading import BUCKET, PACK, SENT_AT_S, Desk, message, ndjson, parquet, pointer, reasons, record
from tests.support.stage import ADMISSION, LIMITS

_LIMITS = ReadLimits(object_bytes=4 * MIB)


def read(body: bytes, object_format: str, compression: str = "none", *, count: int = 1) -> list[str]:
    desk = Desk(_LIMITS).put("ingest/x", body)
    answer = desk.refused(pointer("ingest/x", object_format, compression, count=count))
    return reasons(answer)


@pytest.mark.parametrize("object_format", ["ndjson", "parquet"])
@pytest.mark.parametrize("compression", PACK)
def test_an_empty_object_is_refused(object_format: str, compression: str) -> None:
    assert read(b"", object_format, compression) == ["object_empty"]


@pytest.mark.parametrize("compression", PACK)
def test_an_object_of_nothing_but_line_ends_has_no_records(compression: str) -> None:
    assert read(PACK[compression](b"\n \n\r\n"), "ndjson", compression) == ["no_records", "record_count_mismatch"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("object_format", ["ndjson", "parquet"])
def test_a_packed_object_that_breaks_off_is_truncated(compression: str, object_format: str) -> None:
    body = PACK[compression](ndjson([record(resource_id=f"i-{n}") for n in range(500)]))
    for cut in (len(body) - 1, len(body) // 2, 15):
        assert read(body[:cut], object_format, compression) == ["object_truncated"]


@pytest.mark.parametrize(
    ("stored", "said"),
    [("gzip", "none"), ("zstd", "none"), ("none", "gzip"), ("none", "zstd"), ("gzip", "zstd"), ("zstd", "gzip")],
)
def test_the_compression_must_be_the_one_that_the_message_says(stored: str, said: str) -> None:
    assert read(PACK[stored](ndjson([record()])), "ndjson", said) == ["wrong_compression"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_garbage_behind_a_packed_stream_is_refused(compression: str) -> None:
    assert read(PACK[compression](ndjson([record()])) + b"garbage", "ndjson", compression) == ["wrong_compression"]
    spoiled = bytearray(PACK[compression](ndjson([record(resource_id=f"i-{n}") for n in range(500)])))
    spoiled[len(spoiled) // 2] ^= 0xFF
    assert read(bytes(spoiled), "ndjson", compression)[0] in {"wrong_compression", "object_truncated"}


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_several_members_make_one_object(compression: str) -> None:
    one = PACK[compression](ndjson([record()]))
    desk = Desk().put("ingest/x", one + one + (b"\0" * 512 if compression == "gzip" else b""))
    assert desk.decoded(pointer("ingest/x", "ndjson", compression, count=2)).records == 2


@pytest.mark.parametrize("zeros", [512, 64 * 1024, 3 * 1024 * 1024])
def test_zeros_behind_a_gzip_stream_fill_up_a_block_of_any_size(zeros: int) -> None:
    packed = PACK["gzip"](ndjson([record()]))
    # The stream ends just before the end of one of the reader's steps, so that the zeros continue after the step.
    comment = b"\x1f\x8b\x08\x10" + bytes(6) + b"c" * (64 * 1024 - len(packed) - 32) + b"\0"
    desk = Desk(_LIMITS).put("ingest/x", comment + packed[10:] + bytes(zeros))
    assert desk.decoded(pointer("ingest/x", "ndjson", "gzip")).records == 1


def gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"\n" * MIB) for _ in range(size // MIB)) + packer.flush()


def zstd_bomb(size: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    return b"".join(packer.compress(b" " * MIB) for _ in range(size // MIB)) + packer.flush()


@pytest.mark.parametrize("object_format", ["ndjson", "parquet"])
@pytest.mark.parametrize(("compression", "bomb"), [("gzip", gzip_bomb), ("zstd", zstd_bomb)])
def test_a_decompression_bomb_is_stopped_at_the_limit_in_bounded_memory(
    object_format: str, compression: str, bomb: Callable[[int], bytes]
) -> None:
    body = bomb(256 * MIB)
    assert len(body) < MIB
    tracemalloc.start()
    try:
        assert read(body, object_format, compression)[0] in {"object_too_large", "line_too_long"}
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()


def test_a_plain_object_over_the_limit_is_too_large() -> None:
    assert read(ndjson([record(resource_id="x" * 60_000)] * 100), "ndjson", count=100) == ["object_too_large"]


def test_a_line_longer_than_any_record_is_refused() -> None:
    assert read(b'{"x": "' + b"y" * (MIB + MIB // 2) + b'"}\n', "ndjson") == ["line_too_long"]
    assert read(b"[" * 3 * MIB, "ndjson") == ["line_too_long"]


def test_50_001_lines_are_too_many() -> None:
    assert read(b"{}\n" * 50_001, "ndjson", count=50_000) == ["too_many_records"]


def test_a_line_that_is_no_record_costs_that_record() -> None:
    bad = [b"", b"  \r", b"{", b"\xff\xfe", b"NaN", b"[" * 5_000, b"[[],[" + b"[" * 200 + b"]" * 200 + b"]]"]
    good = json.dumps(record()).encode()
    desk = Desk().put("ingest/x", b"\n".join([good, *bad, good + b"\r", good + good, good]))
    answer = desk.decoded(pointer("ingest/x", "ndjson", count=9))
    assert {each.position: reasons(answer, each.position) for each in answer.refused} == {
        1: ["record_not_json"],
        2: ["record_not_json"],
        3: ["record_not_an_object"],
        4: ["too_deeply_nested"],
        5: ["too_deeply_nested"],
        7: ["record_not_json"],
    }
    assert len(answer.rows) == 3


def test_how_an_object_is_cut_into_pieces_changes_nothing() -> None:
    records = [record(resource_id=f"i-{n}", bytes=n, start=SENT_AT_S - n % 7_000, end=SENT_AT_S) for n in range(5_000)]
    desk = Desk()
    answers = []
    for body in (ndjson(records), b"\n".join(ndjson([each]).rstrip() for each in records)):
        for compression in PACK:
            desk.put("ingest/x", PACK[compression](body))
            answers.append(desk.decoded(pointer("ingest/x", "ndjson", compression, count=5_000)))
    assert len({answer.content_hash for answer in answers}) == 1
    assert all(answer.usage == answers[0].usage for answer in answers)
    assert [each.position for each in answers[0].refused] == [n for n in range(5_000) if n % 7_000 > 3_600]


def test_totals_pass_2_to_the_63() -> None:
    records = [record(bytes=2**63 - 1, resource_id=f"i-{n}") for n in range(700)]
    desk = Desk().put("ingest/n", ndjson(records))
    schema_columns = {name: [each[name] for each in records] for name in record() if name not in ("start", "end")}
    table = pa.table(schema_columns | {"start": [SENT_AT_S - 9] * 700, "end": [SENT_AT_S] * 700})
    desk.put("ingest/p", parquet(table))
    for body in (pointer("ingest/n", "ndjson", count=700), pointer("ingest/p", "parquet", count=700)):
        assert [total.bytes for total in desk.decoded(body).usage.values()] == [700 * (2**63 - 1)]


class _Broken:
    """A bucket whose objects can be opened, but not read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        error = self._error

        class _Stream(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise error

        return _Stream()  # type: ignore[return-value]  # only read


@pytest.mark.parametrize("error", [UnavailableError("S3.GetObject", "slow down"), ObjectChangedError("ingest/x")])
def test_trouble_with_the_store_is_no_verdict(error: Exception) -> None:
    reader = RecordBatchReader(objects=_Broken(error), bucket=BUCKET, limits=LIMITS, drop_identity="etag")  # type: ignore[arg-type]  # only opened
    body = json.dumps(pointer("ingest/x", "ndjson"))
    delivery = Delivery(message_id="m", body=body, sent_at_ms=SENT_AT_S * 1000, receive_count=1, sender_id="s")
    with pytest.raises(UnavailableError):
        reader.read(delivery, admission=ADMISSION, allowance=UNHURRIED)


# --- Parquet


def columns(**changes: object) -> Mapping[str, object]:
    good: dict[str, object] = {name: [value] for name, value in record().items()}
    good |= {"start": pa.array([SENT_AT_S - 300], pa.timestamp("s", "UTC")), "end": [SENT_AT_S]}
    return good | {name.rstrip("_"): value for name, value in changes.items()}


@pytest.mark.parametrize("start", [
    pa.array([SENT_AT_S - 300], pa.int64()),
    pa.array([SENT_AT_S - 300], pa.uint32()),
    pa.array([SENT_AT_S - 300], pa.uint64()),
    pa.array([SENT_AT_S - 300], pa.timestamp("s")),
    pa.array([(SENT_AT_S - 300) * 10**3], pa.timestamp("ms", "UTC")),
    pa.array([(SENT_AT_S - 300) * 10**6], pa.timestamp("us", "Europe/Berlin")),
    pa.array([(SENT_AT_S - 300) * 10**9 + 999], pa.timestamp("ns", "UTC")),
])  # fmt: skip
def test_times_come_as_timestamps_of_any_unit_or_integers(start: pa.Array) -> None:
    desk = Desk().put("ingest/x", parquet(pa.table(columns(start=start, bytes=pa.array([7], pa.int16())))))
    answer = desk.decoded(pointer("ingest/x", "parquet"))
    same = desk.decoded(message([record(start=SENT_AT_S - 300, end=SENT_AT_S, bytes=7)]))
    assert answer.content_hash == same.content_hash


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.string_view()]
)
def test_text_columns_of_any_arrow_kind_are_read(kind: pa.DataType) -> None:
    desk = Desk().put(
        "ingest/x",
        parquet(
            pa.table(columns(service=pa.array(["AmazonEC2"]).cast(kind), resource_id=pa.array(["i-1"]).cast(kind)))
        ),
    )
    assert len(desk.decoded(pointer("ingest/x", "parquet")).rows) == 1


@pytest.mark.parametrize("changes", [
    {"account_id": pa.array([123456789012])},
    {"service": pa.array([b"AmazonEC2"], pa.binary())},
    {"bytes": pa.array(["5"])},
    {"bytes": pa.array([5.0])},
    {"bytes": pa.array([5], pa.decimal128(20))},
    {"bytes": pa.array([[5]])},
    {"bytes": pa.array([True])},
    {"start": pa.array(["2026-11-24T13:00:00Z"])},
    {"start": pa.array([5], pa.date32())},
    {"end": pa.array([{"seconds": 5}])},
    {"from_": pa.array([["us-east-1"]])},
])  # fmt: skip
def test_a_column_of_another_type_refuses_the_object(changes: dict[str, pa.Array]) -> None:
    assert read(parquet(pa.table(columns(**changes))), "parquet") == ["parquet_wrong_type"]


def test_all_missing_and_wrong_columns_are_named_at_once() -> None:
    found = read(parquet(pa.table({"account_id": [1], "other": [{"a": 1}]})), "parquet")
    assert sorted(found) == ["parquet_missing_column"] * 8 + ["parquet_wrong_type"]


def test_a_column_that_comes_twice_is_refused() -> None:
    table = pa.table(columns())
    assert read(parquet(table.append_column("bytes", table.column("bytes"))), "parquet") == ["parquet_wrong_type"]


def test_other_columns_are_not_even_read() -> None:
    desk = Desk(_LIMITS).put("ingest/x", parquet(pa.table(columns(extra=["x" * 8 * MIB], nested=[{"a": [1]}]))))
    assert desk.decoded(pointer("ingest/x", "parquet")).records == 1


@pytest.mark.parametrize(("body", "reason"), [
    (b"PAR1", "object_truncated"),
    (b"PAR1" + b"x" * 100, "object_truncated"),
    (b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1", "parquet_unreadable"),
    (b"PAR1" + b"\xff" * 100 + b"\x20\0\0\0PAR1", "parquet_unreadable"),
    (b"PAR1\0\0\0\0PAR1", "parquet_unreadable"),
    (b"PARE" + b"x" * 100 + b"PARE", "parquet_unsupported"),
    (b"hello", "wrong_format"),
])  # fmt: skip
def test_what_is_no_parquet_file_is_refused(body: bytes, reason: str) -> None:
    assert read(body, "parquet") == [reason]


def test_a_parquet_file_that_breaks_off_is_refused() -> None:
    body = parquet(pa.table(columns()))
    for cut in (len(body) - 1, len(body) // 2, 11):
        assert read(body[:cut], "parquet")[0] in {"object_truncated", "parquet_unreadable"}


def test_a_parquet_file_without_rows_has_no_records() -> None:
    assert read(parquet(pa.table(columns()).slice(0, 0)), "parquet") == ["no_records", "record_count_mismatch"]


def test_50_001_rows_are_too_many() -> None:
    table = pa.table({name: pa.repeat(pa.array(value)[0], 50_001) for name, value in columns().items()})
    assert read(parquet(table), "parquet", count=50_000) == ["too_many_records"]


def test_a_parquet_bomb_is_refused_by_its_footer() -> None:
    rows = {name: pa.repeat(pa.array(value)[0], 40) for name, value in columns(resource_id=["x" * MIB]).items()}
    body = parquet(pa.table(rows), use_dictionary=False)
    assert len(body) < 3 * MIB
    assert read(body, "parquet", count=40) == ["object_too_large"]


def test_a_dictionary_bomb_is_refused_before_it_unfolds() -> None:
    rows = {name: pa.repeat(pa.array(value)[0], 50_000) for name, value in columns().items()}
    bomb = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), ["x" * MIB])
    body = parquet(pa.table(rows | {"resource_id": bomb}))
    assert len(body) < 2 * MIB
    assert read(body, "parquet", count=50_000) == ["object_too_large"]


def test_a_bomb_of_long_heads_is_refused_before_it_is_hashed() -> None:
    rows = {name: pa.repeat(pa.array(value)[0], 50_000) for name, value in columns().items()}
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), ["1" * MIB])
    body = parquet(pa.table(rows | {"account_id": long, "service": pa.array([f"s{n}" for n in range(50_000)])}))
    assert read(body, "parquet", count=50_000) == ["object_too_large"]


def zigzag(number: int, width: int) -> bytes:
    """A number in Thrift's compact protocol, encoded in exactly `width` bytes."""
    value = number << 1
    continued = [((value >> 7 * place) & 0x7F) | 0x80 for place in range(width - 1)]
    return bytes([*continued, value >> 7 * (width - 1)])


def test_a_footer_that_lies_about_a_bomb_does_not_help_it() -> None:
    rows = {name: pa.repeat(pa.array(value)[0], 40) for name, value in columns(resource_id=["x" * MIB]).items()}
    body = parquet(pa.table(rows), use_dictionary=False, write_statistics=False, compression="zstd")
    size = pq.read_metadata(io.BytesIO(body)).row_group(0).column(2).total_uncompressed_size
    width = (size.bit_length() + 7) // 7
    lied = body.replace(zigzag(size, width), zigzag(1000, width))
    assert pq.read_metadata(io.BytesIO(lied)).row_group(0).column(2).total_uncompressed_size == 1000
    assert read(lied, "parquet", count=40) == ["object_too_large"]


def test_an_encoding_that_unfolds_without_bound_is_refused() -> None:
    body = parquet(pa.table(columns()), use_dictionary=False, column_encoding={"resource_id": "DELTA_BYTE_ARRAY"})
    assert read(body, "parquet") == ["parquet_unsupported"]


@pytest.mark.parametrize("options", [
    {"data_page_version": "2.0", "compression": "zstd"},
    {"use_dictionary": False, "compression": "none"},
    {
        "use_dictionary": False,
        "column_encoding": {"bytes": "DELTA_BINARY_PACKED", "resource_id": "DELTA_LENGTH_BYTE_ARRAY"},
    },
    {"write_page_checksum": True, "write_page_index": True, "compression": "brotli"},
    {"data_page_size": 64, "row_group_size": 100, "compression": "gzip"},
    {"version": "1.0", "compression": "lz4", "use_deprecated_int96_timestamps": True},
    {"compression": "snappy", "store_schema": False},
])  # fmt: skip
def test_files_of_all_common_writers_are_read_alike(options: dict[str, object]) -> None:
    desk = Desk()
    records = [record(resource_id=f"i-{n}", start=SENT_AT_S - n, end=SENT_AT_S, bytes=n) for n in range(3_000)]
    table = pa.Table.from_pylist(records)
    place = table.column_names.index("start")
    table = table.set_column(place, "start", table.column("start").cast(pa.timestamp("s", "UTC")))
    desk.put("ingest/x", parquet(table, **options))
    desk.put("ingest/n", ndjson(records))
    answer = desk.decoded(pointer("ingest/x", "parquet", count=3_000))
    same = desk.decoded(pointer("ingest/n", "ndjson", count=3_000))
    assert (answer.content_hash, answer.usage) == (same.content_hash, same.usage)


def test_invalid_utf_8_in_a_text_column_is_refused() -> None:
    spoiled = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"], pa.binary()).buffers())
    assert read(parquet(pa.table(columns(service=spoiled))), "parquet") == ["parquet_unreadable"]


def test_evidence_of_a_refused_row_is_its_json() -> None:
    rows = {name: pa.array(value).take([0, 0]) for name, value in columns().items()}
    desk = Desk().put("ingest/x", parquet(pa.table(rows | {"bytes": [-1, 5], "usage_type": [None, None]})))
    answer = desk.decoded(pointer("ingest/x", "parquet", count=2))
    raw = json.loads(answer.refused[0].raw)
    expected = record(bytes=-1, start="2026-11-24T13:55:00Z", end=SENT_AT_S)
    assert raw == expected


def test_gzip_of_the_standard_library_is_read_too() -> None:
    desk = Desk().put("ingest/x", gzip.compress(ndjson([record()]), mtime=0))
    assert desk.decoded(pointer("ingest/x", "ndjson", "gzip")).records == 1


# The table of formats is complete, and the names of formats are known without importing the formats' libraries.

_RECORD = record(start=SENT_AT_S - 60, end=SENT_AT_S)
_BODIES = {"ndjson": ndjson([_RECORD]), "parquet": parquet(pa.Table.from_pylist([_RECORD]))}


def test_each_format_that_a_message_may_name_is_in_the_table() -> None:
    assert tuple(FORMATS) == get_args(Format)


@pytest.mark.parametrize("name", get_args(Format))
def test_each_format_of_the_table_is_read(name: str) -> None:
    desk = Desk().put("ingest/x", _BODIES[name])
    assert desk.decoded(pointer("ingest/x", name)).records == 1


def test_each_suffix_belongs_to_one_format_and_names_a_compression() -> None:
    assert sum(len(each.suffixes) for each in FORMATS.values()) == len(SUFFIXES)
    assert {compression for _, compression in SUFFIXES.values()} <= set(get_args(Compression))
    assert all(not key.endswith(other) for key in SUFFIXES for other in SUFFIXES if other != key)


def test_the_names_of_formats_are_known_without_arrow() -> None:
    program = "import sys, metering.intake.envelopes; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
