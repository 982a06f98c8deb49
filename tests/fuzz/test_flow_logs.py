"""The flow log readers with damaged input: a verdict for each file and each line, in bounded time and memory.

Findings are saved in `corpus/`, as files `*.flowlog`.
"""

import gzip
import io
import os
import random
import time
from dataclasses import replace
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import LogKind, recognised
from metering.onramps.reading import FileName, ReadSettings
from metering.onramps.reasons import FileReason, LineReason
from metering.units import MIB
from tests.fuzz.seeds import kept, mutated
from tests.fuzz.test_fuzz import peak_kib
from tests.support.flow_logs import KEY, START_S, USUAL, V2, line, members, text

_ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "600"))
_SECONDS_A_FILE = 5.0
_GROWTH_KIB = 400 * 1024
_SETTINGS = ReadSettings(max_text_bytes=64 * MIB, kept_refusals=50, block_bytes=4_096)
_LARGE = replace(_SETTINGS, block_bytes=8 * MIB)
_KNOWN = frozenset(map(str, (*FileReason, *LineReason)))
_TOKENS = [
    *(b"-", b" ", b"  ", b"\r\n", b"\n\n", b"\0", b"\xff", b"-1", b"9" * 20, b"0x1F", b"1e9", b"None", b"unknown"),
    *(b"12345678901", b"012345678901", str(START_S).encode() + b"000", b"NODATA", b"SKIPDATA", b"REJECT"),
    *(b" ".join(name.encode() for name in V2), b"bytes", b"tgw-id", b"x" * 5_000, b"2001:db8::1", b"\xef\xbb\xbf"),
]


def _rows(**changed: Any) -> dict[str, list[Any]]:
    numbers = ("version", "srcport", "dstport", "protocol", "packets", "bytes", "start", "end")
    columns = {name: int(value) if name in numbers else value for name, value in USUAL.items()}
    return {name.replace("-", "_"): [changed.get(name, value)] * 20 for name, value in columns.items()}


def _parquet(columns: dict[str, list[Any]], **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


@cache
def examples() -> tuple[bytes, ...]:
    """A valid flow log file of each form, and the stored corpus."""
    names = ("start", "bytes", *(name for name in USUAL if name not in ("start", "bytes")), "traffic-path")
    plain = text(*[line(bytes=str(number)) for number in range(20)], line(action="REJECT"), line(log_status="NODATA"))
    custom = text(*[line(names, start=str(START_S + number)) for number in range(20)], names=names)
    as_text = {name: list(map(str, values)) for name, values in _rows().items()}
    return (
        plain,
        custom,
        gzip.compress(plain),
        members(custom, [100, 500]),
        zstandard.compress(plain),
        _parquet(_rows()),
        _parquet(_rows(), compression="gzip", row_group_size=7),
        _parquet(as_text | {"dstaddr": ["None"] * 20}, use_dictionary=False, data_page_version="2.0"),
        _parquet(_rows(**{"account-id": 12345678901}), compression="zstd", write_page_index=True),
        *kept("flowlog"),
    )


def _kind_and_name() -> tuple[LogKind, FileName]:
    found = recognised(KEY)
    assert found is not None
    return found


def judge(stored: bytes, *, named: bool = True, settings: ReadSettings = _SETTINGS) -> None:
    """Invariants of every file."""
    kind, name = _kind_and_name()
    name = name if named else FileName(kind=name.kind, identity="")
    began = time.process_time()
    measured, refusal = None, None
    try:
        measured = measure(io.BytesIO(stored), kind, name, Timeline(), settings)
    except LogFileRefusedError as error:
        refusal = error
    assert time.process_time() - began < _SECONDS_A_FILE
    if refusal is not None:
        assert str(refusal.reason) in _KNOWN
        assert 0 < len(refusal.detail) <= 400
    if measured is not None:
        check(measured)


def check(measured: Measured) -> None:
    """Check the invariants of a completely read file."""
    balance = measured.balance
    assert balance.holds
    assert sum(total.lines for total in measured.totals.values()) == balance.metered
    assert sum(total.bytes for total in measured.totals.values()) == balance.metered_bytes
    assert sum(lines for _, lines, _ in measured.refusals) == balance.refused
    assert len(measured.refused) <= _SETTINGS.kept_refusals
    for refused in measured.refused:
        assert str(refused.reason) in _KNOWN
        assert refused.detail
        assert len(refused.text) <= 4_096


def damaged(stored: bytes, draw: random.Random) -> bytes:
    """A copy of a file with changed bytes, either of the file itself or of its decompressed text."""
    if stored.startswith(b"\x1f\x8b") and draw.random() < 0.7:
        return gzip.compress(damaged(gzip.decompress(stored), draw), 1)
    data = bytearray(stored)
    if draw.random() < 0.6:
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(data) + 1)
            data[at : at + draw.choice((0, 0, 1, 8))] = draw.choice(_TOKENS)
        return bytes(data)
    return mutated(stored, draw)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_flow_logs_get_a_verdict(seed: int) -> None:
    draw = random.Random(seed)
    before = peak_kib()
    for _ in range(_ROUNDS):
        judge(damaged(draw.choice(examples()), draw), named=draw.random() < 0.7)
    assert peak_kib() - before < _GROWTH_KIB


@pytest.mark.parametrize("number", range(len(examples())))
def test_each_example_of_a_flow_log_gets_a_verdict(number: int) -> None:
    judge(examples()[number])


@pytest.mark.parametrize("number", range(9))
def test_every_beginning_of_a_flow_log_gets_a_verdict(number: int) -> None:
    stored = examples()[number]
    for length in range(0, len(stored), max(1, len(stored) // 200)):
        judge(stored[:length])


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: gzip.compress(text() + b"1 " * 16 * MIB),
        lambda: gzip.compress(gzip.compress(b"0" * 64 * MIB)),
        lambda: gzip.compress(b"\n" * 16 * MIB),
        lambda: gzip.compress(text() + b"\n" * 2 * MIB),
        lambda: gzip.compress(text(*["x"] * 200_000)),
        lambda: gzip.compress(text() + b"\0\n" * (MIB // 2)),
        lambda: gzip.compress(text(names=("bytes", "end", "start", "interface-id")) + b"- - - -\n" * MIB),
        lambda: b"".join([gzip.compress(b"")] * 20_000),
        lambda: zstandard.compress(text() + b"0" * 64 * MIB),
        lambda: gzip.compress(text(names=tuple(f"f{n}" for n in range(60_000)))),
        lambda: text(names=(*V2, *(f"f{n}" for n in range(5_000)))) + line().encode(),
    ],
    ids=["blanks", "twice", "empty", "header, empty", "misfits", "NULs", "short", "members", "zstd", "fields", "wide"],
)
def test_bombs_get_a_verdict_in_time(bomb: Any) -> None:
    before = peak_kib()
    judge(bomb(), settings=_LARGE)
    assert peak_kib() - before < _GROWTH_KIB
