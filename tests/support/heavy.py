"""The objects that are most expensive to read, and a separate process that reads one of them."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from metering.units import MIB
from tests.support.reading import BUCKET, pointer, record
from tests.support.stage import ADMISSION, LIMITS

RECORDS = 50_000
MOST_MIB = 1_000
"""A worker has 1,769 MB, and needs some of them for the commit."""
MOST_CPU_S = 30
"""Half of a worker's time; 16 s were measured for the worst one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heavy:
    """A maximally expensive object: its maker, announced format, and reasons of refusal (empty: metered in part)."""

    make: Callable[[], bytes]
    format: str = "ndjson"
    compression: str = "gzip"
    count: int = RECORDS
    reasons: tuple[str, ...] = ()


def _packed(lines: Iterator[str]) -> bytes:
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as file:
        for line in lines:
            file.write(line.encode() + b"\n")
    return sink.getvalue()


def _records(make: Callable[[int], dict[str, Any]], count: int = RECORDS, *, escaped: bool = True) -> bytes:
    return _packed(json.dumps(record(**make(number)), ensure_ascii=escaped) for number in range(count))


def _each_other(number: int) -> dict[str, Any]:
    """Fields of a record; every second record is valid."""
    return {} if number % 2 else {"direction": "sideways"}


def _long(number: int, chars: int, emoji: str = "") -> str:
    return f"{number:06d}{emoji}".ljust(chars, "x")


def _good_columns(rows: int) -> dict[str, Any]:
    good = record()
    columns: dict[str, Any] = {
        name: pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([good[name]]))
        for name in ("account_id", "service", "resource_id", "direction", "from", "to")
    }
    columns["bytes"] = pa.array([1] * rows, pa.int64())
    start_s = 1_795_525_200
    return columns | {"start": pa.array([start_s] * rows, pa.int64()), "end": pa.array([start_s + 300] * rows)}


def _folded(values: list[str], indices: list[int]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(values))


def _parquet(changes: dict[str, Any], rows: int = RECORDS, **options: Any) -> bytes:
    sink = io.BytesIO()
    options = {"compression": "zstd", "write_statistics": False, "dictionary_pagesize_limit": 512 * MIB} | options
    pq.write_table(pa.table(_good_columns(rows) | changes), sink, **options)
    return sink.getvalue()


def _long_column(chars: int, rows: int = RECORDS, emoji: str = "") -> pa.Array:
    return pa.array([_long(number, chars, emoji) for number in range(rows)])


def _combined(text: Callable[[int], str], places: int = 7) -> dict[str, Any]:
    """Six columns with `places` different texts each, and a different combination of texts in each row."""
    names = ("account_id", "service", "direction", "from", "to", "usage_type")
    columns = {}
    for power, name in enumerate(names):
        texts = [text(10 * power + number) for number in range(places)]
        columns[name] = _folded(texts, [row // places**power % places for row in range(RECORDS)])
    return columns


def _empty_members(size: int) -> bytes:
    member = gzip.compress(b"")
    return member * (size // len(member))


def _empty_blocks(size: int) -> bytes:
    """A gzip member of empty blocks; a reader must build Huffman tables for each block."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = packer.compress(b"{}\n") + packer.flush(zlib.Z_FULL_FLUSH)
    return body + b"\0\0\0\xff\xff" * (size // 5) + packer.flush()


def _blank_lines(size: int) -> bytes:
    return gzip.compress(b"\n" * size, 6)


def _lines(line: bytes, count: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join(packer.compress(line + b"\n") for _ in range(count)) + packer.flush()


HEAVY = {
    "texts of 10,000 characters, one emoji each": Heavy(
        make=lambda: _records(lambda n: {"from": _long(n, 10_000, "\N{GRINNING FACE}")}, escaped=False),
        reasons=("invalid_from",),
    ),
    "texts of 10,000 characters": Heavy(
        make=lambda: _records(lambda n: {"from": _long(n, 10_000)}), reasons=("invalid_from",)
    ),
    "all six head columns of 1,600 characters": Heavy(
        make=lambda: _records(
            lambda n: dict.fromkeys(("account_id", "service", "direction", "from", "to", "usage_type"), _long(n, 1_600))
        ),
        reasons=("object_too_large",),
    ),
    "all six head columns as long as a right one": Heavy(
        make=lambda: _records(
            lambda n: {"account_id": f"{n:012d}", "service": "A" * 64, "usage_type": _long(n, 128), "from": "us-east-1"}
        )
    ),
    "resource ids of 512 emoji": Heavy(
        make=lambda: _records(lambda n: {"resource_id": f"{n:06d}".ljust(512, "\N{GRINNING FACE}")}, escaped=False)
    ),
    "times of 9,000 characters": Heavy(
        make=lambda: _records(lambda n: {"start": _long(n, 9_000)}), reasons=("invalid_start",)
    ),
    "numbers of 4,000 digits": Heavy(
        make=lambda: _records(lambda n: {"start": int(f"1{n:06d}" + "7" * 3_993)}, 30_000),
        count=30_000,
        reasons=("invalid_start",),
    ),
    "refused for everything": Heavy(
        make=lambda: _records(
            lambda n: {
                "account_id": f"\N{GRINNING FACE}{n}",
                "service": f"\N{GRINNING FACE}{n}",
                "resource_id": "\n",
                "direction": f"{n}",
                "from": "?" * 100,
                "to": "?" * 100,
                "bytes": -n - 1,
                "start": 0,
                "end": 10**9,
            }
        ),
        reasons=("no_record_admitted",),
    ),
    "Parquet: from and account_id of 5,000 characters": Heavy(
        make=lambda: _parquet({"from": _long_column(5_000), "account_id": _long_column(5_000)}, row_group_size=5_000),
        format="parquet",
        compression="none",
        reasons=("object_too_large",),
    ),
    "Parquet: six columns of 1,600 characters": Heavy(
        make=lambda: _parquet(
            dict.fromkeys(("account_id", "service", "direction", "from", "to", "usage_type"), _long_column(1_600)),
            row_group_size=5_000,
        ),
        format="parquet",
        compression="none",
        reasons=("object_too_large",),
    ),
    "Parquet: 42 texts of 1,000 emoji in 50,000 combinations": Heavy(
        make=lambda: _parquet(_combined(lambda n: f"{n:02d}" + "\N{GRINNING FACE}" * 1_000)),
        format="parquet",
        compression="none",
        reasons=("object_too_large",),
    ),
    "Parquet: a resource id of 10 kB in a dictionary of 50": Heavy(
        make=lambda: _parquet(
            {"resource_id": _folded([_long(n, 10_000) for n in range(50)], [n % 50 for n in range(RECORDS)])}
        ),
        format="parquet",
        compression="none",
        reasons=("invalid_resource_id",),
    ),
    "Parquet: resource ids of 2,500 characters in one row group": Heavy(
        make=lambda: _parquet({"resource_id": _long_column(2_500)}, use_dictionary=False),
        format="parquet",
        compression="none",
        reasons=("invalid_resource_id",),
    ),
    "Parquet: resource ids of 10,000 characters in one row group": Heavy(
        make=lambda: _parquet({"resource_id": _long_column(10_000)}, use_dictionary=False),
        format="parquet",
        compression="none",
        reasons=("object_too_large",),
    ),
    "Parquet: from of 10 kB in a dictionary of 12,000": Heavy(
        make=lambda: _parquet({"from": _long_column(10_000, 12_000)}, 12_000),
        format="parquet",
        compression="none",
        count=12_000,
        reasons=("invalid_from",),
    ),
    "Parquet: six columns of 128 emoji": Heavy(
        make=lambda: _parquet(
            dict.fromkeys(
                ("account_id", "service", "direction", "from", "to", "usage_type"),
                _long_column(128, 10_000, "\N{GRINNING FACE}" * 100),
            ),
            10_000,
        ),
        format="parquet",
        compression="none",
        count=10_000,
        reasons=("no_record_admitted",),
    ),
    "Parquet: from of 2,500 characters in one row group": Heavy(
        make=lambda: _parquet({"from": _long_column(2_500)}, use_dictionary=False),
        format="parquet",
        compression="none",
        reasons=("invalid_from",),
    ),
    "Parquet: right resource ids of 512 emoji": Heavy(
        make=lambda: _parquet(
            {"resource_id": pa.array([f"{n:06d}".ljust(512, "\N{GRINNING FACE}") for n in range(RECORDS)])},
            use_dictionary=False,
        ),
        format="parquet",
        compression="none",
    ),
    "Parquet: 2,500 row groups": Heavy(
        make=lambda: _parquet({}, row_group_size=20), format="parquet", compression="none"
    ),
    "Parquet: 1,000 row groups": Heavy(
        make=lambda: _parquet({}, row_group_size=50), format="parquet", compression="none"
    ),
    "Parquet: 2,000 columns and a deeply nested one": Heavy(
        make=lambda: _parquet(
            {f"more_{n}": pa.nulls(RECORDS, pa.int8()) for n in range(2_000)}
            | {"nested": pa.array([[[[{"a": [{"b": [1] * 5}]}]]]] * RECORDS)}
        ),
        format="parquet",
        compression="none",
    ),
    "gzip of empty members": Heavy(make=lambda: _empty_members(16 * MIB), count=1, reasons=("too_slow",)),
    "gzip of empty blocks": Heavy(make=lambda: _empty_blocks(16 * MIB), count=1, reasons=("too_slow",)),
    "128 MiB of line ends": Heavy(make=lambda: _blank_lines(128 * MIB), count=1, reasons=("too_slow",)),
    "lines of 1 MB with a NaN": Heavy(
        make=lambda: _lines(b'{"x":[' + b"1," * 499_000 + b"NaN]}", 524), count=524, reasons=("too_slow",)
    ),
    "lines of brackets": Heavy(
        make=lambda: _lines(b'{"x":[' + b"[]," * 330_000 + b"[]]}", 500), count=500, reasons=("too_slow",)
    ),
}
"""All of them by name."""


class FileObjects:
    """An `ObjectStore` of one object in a file; the file is not read into memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        del key, if_match, version_id
        return self._path.open("rb")


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024


def measure(heavy: Heavy, folder: Path) -> dict[str, Any]:
    """Read an object in a separate process; return reasons, numbers of records, CPU seconds and peak MiB."""
    path = folder / "object"
    path.write_bytes(heavy.make())
    command = [
        sys.executable,
        "-m",
        "tests.support.heavy",
        str(path),
        heavy.format,
        heavy.compression,
        str(heavy.count),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    answer: dict[str, Any] = json.loads(done.stdout) | {"stored": path.stat().st_size}
    return answer


def assert_bounded(name: str, folder: Path) -> None:
    """Read a heavy object, and check its peak memory, CPU time and reason of refusal."""
    found = measure(HEAVY[name], folder)
    assert found["peak_mib"] < MOST_MIB, found
    assert found["cpu_s"] < MOST_CPU_S, found
    assert tuple(found["reasons"][:1]) == HEAVY[name].reasons, found


def _read(path: Path, object_format: str, compression: str, count: int) -> dict[str, Any]:
    from metering.intake.batches import DecodedBatch, NoBatch
    from metering.intake.reader import RecordBatchReader
    from metering.stores.queues import Delivery
    from tests.support.memory.clock import UNHURRIED
    from tests.support.reading import SENT_AT_S

    objects = FileObjects(path)
    reader = RecordBatchReader(objects=objects, bucket=BUCKET, limits=LIMITS, drop_identity="etag")  # type: ignore[arg-type]  # opens only
    body = json.dumps(pointer("ingest/x", object_format, compression, count=count))
    delivery = Delivery(message_id="m", body=body, sent_at_ms=SENT_AT_S * 1000, receive_count=1, sender_id="s")
    base, began_s = peak_mib(), time.process_time()
    (batch,) = reader.read(delivery, admission=ADMISSION, allowance=UNHURRIED).batches
    answer: dict[str, Any] = {
        "base_mib": base,
        "peak_mib": peak_mib(),
        "cpu_s": round(time.process_time() - began_s, 2),
    }
    assert not isinstance(batch, NoBatch)
    answer["records"] = batch.records
    refused = batch.refused if isinstance(batch, DecodedBatch) else ()
    reasons = () if isinstance(batch, DecodedBatch) else batch.problems
    return answer | {
        "refused": len(refused),
        "reasons": [reason for reason, _ in reasons],
        "details": list(reasons)[:2],
    }


if __name__ == "__main__":
    print(json.dumps(_read(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))))  # its answer
