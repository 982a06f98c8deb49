"""Laws of log files: formats agree, order does not matter, and sums of cut or garbled files equal plain parsing."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from metering.onramps.context.store import Timeline
from metering.onramps.formats.flows.columns import fields
from metering.onramps.formats.rows import MAX_BYTES
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import KINDS, LogKind
from metering.onramps.mapping import mapped_kind
from metering.onramps.reading import FileName, ReadSettings
from metering.onramps.s3_access import Request, parse
from tests.support.examples import examples
from tests.support.flow_logs import (
    ACCOUNT,
    START_S,
    USUAL,
    Opinion,
    Reading,
    known_name,
    members,
    nameless,
    opinions,
    read,
    totals,
)

if TYPE_CHECKING:
    from random import Random

T = 1_795_525_200
MAPPING = """
format = "{form}"
account = "account"
service = { constant = "AmazonEC2" }
resource = "host"
direction = { column = "way", values = { up = "in", down = "out" } }
from = "from"
to = "to"
bytes = { column = "size", unit = "KiB" }
start = { column = "at", format = "epoch_ms" }
duration = { column = "took", unit = "ms" }
"""
# Texts that clients supply: anything except line ends and NULs.
CLIENT_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=40)
SIZES = st.integers(0, MAX_BYTES)
SECONDS = st.integers(T, T + 7200)


def measured(kind: LogKind, content: str | bytes, *, parquet: bool = False) -> Measured:
    body = content.encode() if isinstance(content, str) else content
    name = FileName(
        kind=kind.name, identity="x", account_id=ACCOUNT, region="us-west-2", source="E1EXAMPLE", parquet=parquet
    )
    result = measure(io.BytesIO(body), kind, name, Timeline(), ReadSettings())
    assert result.balance.holds
    return result


def said(result: Measured) -> tuple[object, ...]:
    """The metered result of a file, without what depends on the form of the file: the hash and the header lines."""
    balance = result.balance
    return (
        sorted(result.totals.items()),
        result.shares,
        result.refusals,
        (balance.metered, balance.metered_bytes, balance.nodata, balance.rejected, balance.refused),
    )


def _kind(name: str) -> LogKind:
    return next(kind for kind in KINDS if kind.name == name)


@given(
    bucket=st.from_regex(r"[a-z0-9][a-z0-9.-]{2,20}", fullmatch=True),
    time_s=SECONDS,
    sent=SIZES,
    size=SIZES,
    uri=CLIENT_TEXT,
    agent=CLIENT_TEXT,
    operation=st.sampled_from(["REST.GET.OBJECT", "REST.PUT.OBJECT", "REST.PUT.PART", "REST.POST.UPLOAD"]),
    more=st.integers(0, 4),
)
def test_a_line_of_s3_says_what_was_written_whatever_clients_sent(
    bucket: str, time_s: int, sent: int, size: int, uri: str, agent: str, operation: str, more: int
) -> None:
    time = datetime.fromtimestamp(time_s, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    # Between request and status, a quote before a status-like text is ambiguous: only there could a client cut.
    uri = uri.replace('" ', '"')
    line = (
        f'79a5 {bucket} [{time}] 8.8.8.8 - 3E57 {operation} k "{uri}" 200 - {sent or "-"} {size} 7 6 "-" "{agent}" - '
        f"H S C A {bucket}.s3.eu-west-1.amazonaws.com T{' x' * more}"
    )
    found = parse(line)
    received = size if operation in ("REST.PUT.OBJECT", "REST.PUT.PART") else 0
    assert found == Request(bucket, time_s, "8.8.8.8", "eu-west-1", False, sent, received)


_EDGES = st.sampled_from(["LHR61-P2", "IAD89", "XXX1", "-"])
EDGE_ROWS = st.lists(st.tuples(SECONDS, _EDGES, st.integers(0, 10**9), st.integers(0, 10**6)), min_size=1, max_size=20)


@given(rows=EDGE_ROWS, delimiter=st.sampled_from(["\t", ",", "|", ";", " "]))
def test_all_forms_of_cloudfront_logs_agree(rows: list[tuple[int, str, int, int]], delimiter: str) -> None:
    names = ["date", "time", "x-edge-location", "sc-bytes", "cs-bytes"]
    values = []
    for time_s, edge, sent, received in rows:
        date, time = datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S").split(" ")
        values.append([date, time, edge, str(sent), str(received)])
    lines = "\n".join(delimiter.join(row) for row in values)
    file = io.BytesIO()
    pq.write_table(pa.table({name: [row[place] for row in values] for place, name in enumerate(names)}), file)
    kind = _kind("cloudfront")
    forms = [
        measured(kind, f"#Version: 1.0\n#Fields: {' '.join(names)}\n{lines}"),
        measured(kind, f"{delimiter.join(names)}\n{lines}\n"),
        measured(kind, "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in values)),
        measured(kind, file.getvalue(), parquet=True),
    ]
    assert [said(form) for form in forms] == [said(forms[0])] * 4


_TRANSFER: dict[str, st.SearchStrategy[object]] = {
    "account": st.sampled_from([ACCOUNT, "000000000001", "1", ""]),
    "host": st.sampled_from(["a", "b;1", 'c"2', "d,3", ""]),
    "way": st.sampled_from(["up", "down", "sideways"]),
    "from": st.sampled_from(["internet", "us-west-2", "eu-west-1/euw1-az1"]),
    "to": st.sampled_from(["internet", "us-west-2", "unknown"]),
    "size": st.one_of(st.integers(-1, 10**6), st.sampled_from(["1.5", "0.3", "x", ""])),
    "at": st.integers(T * 1000, (T + 7200) * 1000),
    "took": st.integers(0, 3_700_000),
}
TRANSFERS = st.lists(st.fixed_dictionaries(_TRANSFER), min_size=1, max_size=20)


@given(rows=TRANSFERS)
def test_the_same_rows_say_the_same_as_ndjson_and_as_csv(rows: list[dict[str, object]]) -> None:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    as_csv = measured(mapped_kind(MAPPING.replace("{form}", "csv")), file.getvalue())
    as_json = measured(mapped_kind(MAPPING.replace("{form}", "ndjson")), "\n".join(map(json.dumps, rows)))
    assert said(as_csv) == said(as_json)


@given(rows=TRANSFERS, random=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[dict[str, object]], random: Random) -> None:
    kind = mapped_kind(MAPPING.replace("{form}", "ndjson"))
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (measured(kind, "\n".join(map(json.dumps, each))) for each in (rows, shuffled))
    assert said(first) == said(second)


_NEEDED = ("interface-id", "bytes", "start", "end")
_NUMBER_FIELDS = ("version", "bytes", "start", "end", "traffic-path")
_FITS = re.compile("-|-?[0-9]{1,18}")
_COUNTED = ("header", "metered", "rejected", "nodata", "skipdata")
_NUMBERS = [str(n) for n in (0, 1, 999, 2**31, 2**63 - 1, 2**63, -1, 10**25, "007", "-", "x", "1e3", "0x1F", "\u0661")]
_TIMES = [str(START_S + n) for n in (0, 59, 3_599, 3_601, 7_200)] + [f"{START_S + 5}123", "-", "0", "-9", "9" * 15, "t"]
_ADDRESSES = ["10.0.0.5", "100.64.0.1", "2001:db8::7", "::ffff:192.0.2.1", "-", "10.0.0", "10.0.0.1/8", "x"]
_ODD: dict[str, list[str]] = {
    "bytes": _NUMBERS,
    "start": _TIMES,
    "end": _TIMES,
    "account-id": [ACCOUNT, "210987654321", "12345678901", "unknown", "-", "x"],
    "interface-id": ["eni-0a", "eni-0b", "-", "", "eni-\x07", "é", "i" * 513],
    "log-status": ["OK", "NODATA", "SKIPDATA", "-", "ok"],
    "action": ["ACCEPT", "REJECT", "-", "DROP"],
    "flow-direction": ["egress", "ingress", "-", "out"],
    "region": ["us-east-1", "eu-west-9", "-", "mars"],
    "az-id": ["use1-az1", "-", "USE1", ""],
} | dict.fromkeys(("srcaddr", "dstaddr", "pkt-srcaddr", "pkt-dstaddr"), _ADDRESSES)


@st.composite
def _formats(draw: st.DrawFn) -> tuple[str, ...]:
    others = [name for name in (*fields(), "field-of-tomorrow") if name not in _NEEDED]
    names = [*_NEEDED, *draw(st.lists(st.sampled_from(others), unique=True, max_size=14))]
    return tuple(draw(st.permutations(names)))


@st.composite
def _line(draw: st.DrawFn, names: tuple[str, ...], odd: int) -> str:
    kind = draw(st.integers(0, 20))
    if kind == 0:
        return " ".join(names)
    if kind == 1:
        return draw(st.sampled_from(["", " ", "-", "a b", " ".join(["x"] * (len(names) + 1))]))
    values = []
    for name in names:
        plain = USUAL.get(name, "-")
        strange = name in _ODD and draw(st.integers(0, 9)) < odd
        values.append(draw(st.sampled_from(_ODD[name])) if strange else plain)
    return " ".join(values)


@st.composite
def logs(draw: st.DrawFn) -> tuple[tuple[str, ...], list[str]]:
    """Fields and lines of a log, without its header."""
    names = draw(_formats())
    odd = draw(st.sampled_from([0, 1, 4]))
    return names, draw(st.lists(_line(names, odd), max_size=40))


def check(found: Reading, expected: list[Opinion]) -> None:
    """Check that sums, counts and reasons equal those of the independent parser."""
    counted = Counter(each.outcome for each in expected)
    assert {name: getattr(found.balance, name) for name in _COUNTED} == {name: counted[name] for name in _COUNTED}
    assert found.totals() == totals(expected)
    refused = {reason: lines for reason, lines in counted.items() if reason not in _COUNTED}
    assert {str(reason): lines for reason, (lines, _) in found.reasons.items()} == refused
    told = [(number, each.outcome, each.bytes) for number, each in enumerate(expected, 1) if each.outcome in refused]
    assert [(each.number, str(each.reason), each.bytes) for each in found.refused] == told
    silent = ("nodata", "skipdata")
    assert found.balance.stated_bytes == sum(each.bytes for each in expected if each.outcome not in silent)


@examples(300)
@given(
    log=logs(),
    feed=st.sampled_from(["\n", "\r\n"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=4),
    block_bytes=st.integers(1, 4_000),
    named=st.booleans(),
    end=st.booleans(),
)
def test_the_readers_sums_are_those_of_a_reading_line_by_line(
    log: tuple[tuple[str, ...], list[str]], feed: str, cuts: list[int], block_bytes: int, named: bool, end: bool
) -> None:
    names, lines = log
    every = [" ".join(names), *lines]
    if not every[-1]:
        end = True
    content = (feed.join(every) + (feed if end else "")).encode()
    name = known_name() if named else nameless()
    expected = opinions(every, names, name.account_id)
    if "account-id" not in names and not named:
        return
    for stored in (content, gzip.compress(content, 1), members(content, cuts)):
        found = read(stored, name, ReadSettings(block_bytes=block_bytes))
        check(found, expected)
        assert found.content == content
    check(read(content, name), expected)


@examples(200)
@given(
    log=logs(),
    absent=st.sampled_from(["-", "None", "", None]),
    group_rows=st.integers(1, 50),
    folded=st.booleans(),
    numbers=st.booleans(),
)
def test_the_sums_of_a_parquet_file_are_those_of_its_rows(
    log: tuple[tuple[str, ...], list[str]], absent: str | None, group_rows: int, folded: bool, numbers: bool
) -> None:
    names, lines = log
    rows = [line.split(" ") for line in lines if line != " ".join(names)]
    # In Parquet, an empty text means an absent value.
    rows = [row for row in rows if len(row) == len(names) and "" not in row]
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(names):
        values = [row[place] for row in rows]
        column = pa.array([absent if value == "-" else value for value in values], pa.string())
        if numbers and name in _NUMBER_FIELDS and all(map(_FITS.fullmatch, values)):
            column = pa.array([None if value == "-" else int(value) for value in values], pa.int64())
        columns[name.replace("-", "_")] = column
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=group_rows, use_dictionary=folded)
    expected = opinions([" ".join(row) for row in rows], names, ACCOUNT)
    check(read(sink.getvalue()), expected)
