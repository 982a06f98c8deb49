"""Damaged log files get a verdict, never an exception: each line is in the balance, or the file is refused."""

import gzip
import io
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import measure
from metering.onramps.kinds import KINDS, LogKind
from metering.onramps.mapping import mapped_kind
from metering.onramps.reading import FileName, ReadSettings
from metering.onramps.reasons import FileReason, LineReason
from metering.units import KIB, MIB
from tests.fuzz.seeds import mutated

ROUNDS = int(os.environ.get("METERING_FUZZ_ROUNDS", "150"))
ACCOUNT = "123456789012"
MAPPING = (Path(__file__).parents[2] / "docs" / "mapping.toml").read_text()
CSV_MAPPING = """
format = "csv"
account = "a"
service = { constant = "AmazonEC2" }
resource = "r"
direction = { constant = "out" }
from = { constant = "us-west-2" }
to = { constant = "internet" }
bytes = "b"
start = { column = "s", format = "epoch_s" }
"""
S3 = (
    '79a5 b [24/Nov/2026:12:59:59 +0000] 8.8.8.8 x 3E57 REST.PUT.OBJECT a "PUT /a HTTP/1.1" 200 - 12 1000 7 6 "-" '
    '"curl" - H= SigV4 C A b.s3.us-west-2.amazonaws.com TLSv1.3 - -\n'
)
EDGE = (
    "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes cs-bytes\n"
    "2026-11-24\t12:59:58\tLHR61-P2\t4000\t300\n2026-11-24\t12:59:59\tIAD89-C3\t-\t-\n"
)
EDGE_JSON = (
    '{"date":"2026-11-24","time":"12:59:58","x-edge-location":"LHR61-P2","sc-bytes":"4000","cs-bytes":300}\n'
    '{"timestamp(ms)":"1795525198999","sc-bytes":4000}\n'
)
TRANSIT = (
    "account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id bytes start end log-status region flow-direction\n"
    f"{ACCOUNT} tgw-1 tgw-attach-1 {ACCOUNT} 1000 1795525140 1795525200 OK us-west-2 ingress\n"
    f"{ACCOUNT} tgw-1 tgw-attach-1 - - 1795525140 1795525200 NODATA us-west-2 -\n"
)
ROWS = (
    '{"status":"done","tenant":{"aws_account":12345678901},"kind":"egress","origin":"edge","target":"client",'
    '"host":"h","size":1.5,"began":"2026-11-24T13:00:00Z","took":5}\n'
)
CSV = f'a,r,b,s\n{ACCOUNT},h1,10,1795525200\n{ACCOUNT},"h,2",20,1795525201\n'


def parquet(row: dict[str, object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), file)
    return file.getvalue()


class Seed(NamedTuple):
    """A valid file of a kind, from which mutations start."""

    id: str
    kind: LogKind
    content: bytes
    parquet: bool = False


S3_ACCESS, CLOUDFRONT, VPC_FLOW = (
    next(kind for kind in KINDS if kind.name == name) for name in ("s3-access", "cloudfront", "vpc-flow")
)
EDGE_ROW: dict[str, object] = {"timestamp": "1795525198", "sc_bytes": 4000, "x_edge_location": "LHR61-P2"}
TRANSIT_ROW: dict[str, object] = {
    "tgw_id": "tgw-1", "tgw_attachment_id": "tgw-attach-1", "account_id": ACCOUNT, "bytes": 1000, "start": 1795525140,
    "end": 1795525200, "flow_direction": "ingress",
}  # fmt: skip
SEEDS = (
    Seed("s3", S3_ACCESS, (S3 * 3).encode()),
    Seed("cloudfront", CLOUDFRONT, EDGE.encode()),
    Seed("cloudfront-json", CLOUDFRONT, EDGE_JSON.encode()),
    Seed("cloudfront-parquet", CLOUDFRONT, parquet(EDGE_ROW), parquet=True),
    Seed("transit", VPC_FLOW, TRANSIT.encode()),
    Seed("transit-parquet", VPC_FLOW, parquet(TRANSIT_ROW), parquet=True),
    Seed("ndjson", mapped_kind(MAPPING), ROWS.encode()),
    Seed("csv", mapped_kind(CSV_MAPPING), CSV.encode()),
)
SETTINGS = ReadSettings()


def name_of(seed: Seed, *, parquet: bool = False) -> FileName:
    kind = seed.kind.name
    return FileName(kind=kind, identity="x", account_id=ACCOUNT, region="us-west-2", source="E1", parquet=parquet)


def verdict(seed: Seed, content: bytes, settings: ReadSettings = SETTINGS) -> str:
    """Outcome of a file: its balance, or why it was refused; any other error is a bug."""
    try:
        result = measure(io.BytesIO(content), seed.kind, name_of(seed, parquet=seed.parquet), Timeline(), settings)
    except LogFileRefusedError as error:
        return FileReason(error.reason)
    assert result.balance.holds
    assert all(LineReason(reason) for reason, _, _ in result.refusals)
    assert len(result.refused) <= settings.kept_refusals + 1
    return "read"


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.id)
def test_a_good_file_is_read(seed: Seed) -> None:
    assert verdict(seed, seed.content) == "read"


class Forwards(io.RawIOBase):
    """A stream that cannot seek and whose reads return fewer bytes than requested."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def read(self, size: int = -1, /) -> bytes:
        return self._content.read(min(size, 1000) if size > 0 else size)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.id)
def test_a_file_is_read_once_and_forwards(seed: Seed) -> None:
    content = seed.content if seed.parquet else seed.content * 100
    name = name_of(seed)
    forwards, anyhow = (
        measure(stream, seed.kind, name, Timeline(), SETTINGS)  # type: ignore[arg-type]  # all that readers need
        for stream in (Forwards(content), io.BytesIO(content))
    )
    assert forwards == anyhow


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.id)
def test_a_damaged_file_gets_a_verdict(seed: Seed, pack: Callable[[bytes], bytes]) -> None:
    random = Random(seed.id)
    for _ in range(ROUNDS):
        inside = pack(mutated(seed.content, random))
        verdict(seed, inside)
        verdict(seed, mutated(inside, random))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.id)
def test_a_file_that_breaks_off_anywhere_gets_a_verdict(seed: Seed) -> None:
    packed = gzip.compress(seed.content * (1 if seed.parquet else 50))
    assert {verdict(seed, packed[:end]) for end in range(2, len(packed), 7)} <= {"truncated", "wrong_format"}
    for end in range(0, len(seed.content), 5):
        verdict(seed, seed.content[:end])


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if not seed.parquet], ids=lambda seed: seed.id)
def test_a_bomb_and_a_line_without_end_stay_within_the_memory_of_a_block(seed: Seed) -> None:
    bomb = gzip.compress(b"\0" * (64 * MIB))
    endless = gzip.compress(seed.content + b"x" * (64 * MIB) + b"\n" + seed.content)
    wide = replace(SETTINGS, max_expansion=10_000)
    tracemalloc.start()
    try:
        assert verdict(seed, bomb) == "expands_too_far"
        verdict(seed, endless, wide)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 * MIB


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if not seed.parquet], ids=lambda seed: seed.id)
def test_no_verdict_depends_on_where_a_block_ends(seed: Seed) -> None:
    content = seed.content * 40
    name = name_of(seed)
    results = [
        measure(io.BytesIO(content), seed.kind, name, Timeline(), replace(SETTINGS, block_bytes=size))
        for size in (64, KIB, MIB)
    ]
    assert results[0] == results[1] == results[2]
