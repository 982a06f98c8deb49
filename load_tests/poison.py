"""Poison test: the hardest objects within limits, among valid batches (`python -m load_tests.kills --poison`).

There are no kills and no redrives. All valid batches must be metered exactly. Each difficult object must be refused, or
become a dead letter with its reason. `metering dlq list` must answer in a few seconds.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.cli.connecting import connect
from metering.hours import rfc3339
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Table
from metering.units import HOUR_S, MIB

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.adapters.emulator.state import LocalState
    from metering.wiring.connection import RegionConnection

_GOOD = 48
_RECORDS = 100
_LONGEST_S = 900
_LIST_S = 5.0


def run_poison(state: LocalState, seed: int) -> int:
    """Send the batches, wait, and check them. Returns 0 only if every check passes."""
    region = connect(endpoint=state.endpoint, region=state.region, stage=state.stage)
    start_s = int(time.time()) // HOUR_S * HOUR_S - HOUR_S
    good = {f"good-{seed}-{number}": _message(f"good-{seed}-{number}", start_s, number) for number in range(_GOOD)}
    poison: dict[str, str] = {}
    for kind, make in _KINDS.items():
        body, form, compression, count = make(start_s)
        for copy in range(2):
            batch_id = f"poison-{seed}-{kind}-{copy}"
            region.objects.put(f"ingest/{batch_id}", body, if_absent=False)
            location = {"bucket": region.names.data_bucket, "key": f"ingest/{batch_id}"}
            location |= {"format": form, "compression": compression}
            poison[batch_id] = _envelope(batch_id, count, location=location)
    bodies = [*good.values(), *poison.values()]
    random.Random(seed).shuffle(bodies)  # Not security-relevant: it only shuffles the messages.
    began_s = time.monotonic()
    unsent = region.ingest.send_many(bodies)
    settled_s = _wait(region, [*good]) - began_s
    _wait(region, [*good, *poison])
    ended_s = time.monotonic() - began_s
    dead, list_s = _dead_letters(state)
    markers = {batch_id: _marker(region, batch_id) for batch_id in (*good, *poison)}
    metered = sum(marker.metered for batch_id, marker in markers.items() if batch_id in good and marker is not None)
    kinds: Counter[str] = Counter()
    for batch_id in poison:
        marker = markers[batch_id]
        kinds["no verdict" if marker is None else marker.reason or marker.verdict] += 1
    lost = [batch_id for batch_id, marker in markers.items() if marker is None and batch_id not in dead]
    print(f"good batches metered in {settled_s:.0f} s: {metered:,} of {_GOOD * _RECORDS:,} records")
    print(
        f"hard objects after {ended_s:.0f} s: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"
    )
    print(
        f"dead letters: {len(dead)}; listed in {list_s:.1f} s; without a verdict and not dead: {lost}; unsent: {unsent}"
    )
    for letter in dead.values():
        print(f"  {letter['batch_id']}: {letter['why']}")
    right = metered == _GOOD * _RECORDS and not lost and not unsent and list_s <= _LIST_S
    return 0 if right and all(letter["why"] for letter in dead.values()) else 1


def _wait(region: RegionConnection, batch_ids: list[str]) -> float:
    """Wait until the batches have their verdicts or the queue is empty. Returns the end time."""
    until_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < until_s:
        if all(_marker(region, batch_id) is not None for batch_id in batch_ids):
            break
        if region.ingest.depth().total == 0:
            break
        time.sleep(1)
    return time.monotonic()


def _marker(region: RegionConnection, batch_id: str) -> Marker | None:
    item = region.items.get(Table.LEDGER, marker_key(batch_id))
    return None if item is None else Marker.from_item(item)


def _dead_letters(state: LocalState) -> tuple[dict[str, dict[str, str]], float]:
    """Run `metering dlq list`. Returns the rows by batch id, and the seconds including the command's start."""
    command = [str(Path(sys.executable).with_name("metering")), "dlq", "list", "--format", "json"]
    where = ["--endpoint", state.endpoint, "--stage", state.stage, "--region", state.region]
    began_s = time.monotonic()
    done = subprocess.run([*command, *where], check=True, capture_output=True, text=True)  # the installed command
    rows = json.loads(done.stdout)["rows"]
    return {row["batch_id"]: row for row in rows}, time.monotonic() - began_s


def _envelope(batch_id: str, count: int, **content: object) -> str:
    return json.dumps({"schema": "metering.batch/1", "batch_id": batch_id, "record_count": count} | content)


def _record(start_s: int, **changes: object) -> dict[str, object]:
    good: dict[str, object] = {
        "account_id": "123456789012",
        "service": "AmazonEC2",
        "resource_id": "i-0abc",
        "direction": "out",
        "from": "us-east-1",
        "to": "internet",
        "bytes": 1_000,
        "start": rfc3339(start_s),
        "end": rfc3339(start_s + 60),
    }
    return good | changes


def _message(batch_id: str, start_s: int, number: int) -> str:
    records = [_record(start_s, resource_id=f"i-{number}-{place}") for place in range(_RECORDS)]
    return _envelope(batch_id, _RECORDS, records=records)


Made = tuple[bytes, str, str, int]
"""An object with its format, its compression and its number of records."""


def _packed(line: bytes, count: int) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join(packer.compress(line + b"\n") for _ in range(count)) + packer.flush()


def _empty_members(_start_s: int) -> Made:
    member = gzip.compress(b"")
    return member * (16 * MIB // len(member)), "ndjson", "gzip", 1


def _line_ends(_start_s: int) -> Made:
    return gzip.compress(b"\n" * (128 * MIB)), "ndjson", "gzip", 1


def _hard_numbers(_start_s: int) -> Made:
    return _packed(b'{"x":[' + b"1," * 499_000 + b"NaN]}", 524), "ndjson", "gzip", 524


def _brackets(_start_s: int) -> Made:
    return _packed(b'{"x":[' + b"[]," * 330_000 + b"[]]}", 500), "ndjson", "gzip", 500


def _long_texts(start_s: int) -> Made:
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as file:
        for number in range(50_000):
            record = _record(start_s, **{"from": f"{number:06d}\N{GRINNING FACE}".ljust(10_000, "x")})
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
    return sink.getvalue(), "ndjson", "gzip", 50_000


def _dictionary(start_s: int) -> Made:
    texts = [f"{number:06d}".ljust(10_000, "x") for number in range(50)]
    rows = [_record(start_s, start=start_s, end=start_s + 60)] * 50_000
    table = pa.Table.from_pylist(rows)
    places = pa.array([number % 50 for number in range(50_000)], pa.int32())
    ids = pa.DictionaryArray.from_arrays(places, pa.array(texts))
    table = table.set_column(table.column_names.index("resource_id"), "resource_id", ids)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue(), "parquet", "none", 50_000


_KINDS: dict[str, Callable[[int], Made]] = {
    "empty-members": _empty_members,
    "line-ends": _line_ends,
    "hard-numbers": _hard_numbers,
    "brackets": _brackets,
    "long-texts": _long_texts,
    "dictionary": _dictionary,
}
