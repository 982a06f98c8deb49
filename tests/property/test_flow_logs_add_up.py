"""Flow log readers compared with line-by-line parsing: any format, order, cut or garbage gives the same sums."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.onramps.formats.flows.columns import fields
from metering.onramps.reading import ReadSettings
from tests.support.flow_logs import ACCOUNT, START_S, USUAL, Reading, known_name, members, nameless, read
from tests.support.flow_verdicts import Opinion, opinions, totals

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
    """Fields, and lines without the first header."""
    names = draw(_formats())
    odd = draw(st.sampled_from([0, 1, 4]))
    return names, draw(st.lists(_line(names, odd), max_size=40))


def check(found: Reading, expected: list[Opinion]) -> None:
    """Sums, counts and reasons equal those of the independent parser, line by line."""
    counted = Counter(each.outcome for each in expected)
    assert {name: getattr(found.balance, name) for name in _COUNTED} == {name: counted[name] for name in _COUNTED}
    assert found.totals() == totals(expected)
    refused = {reason: lines for reason, lines in counted.items() if reason not in _COUNTED}
    assert {str(reason): lines for reason, (lines, _) in found.reasons.items()} == refused
    told = [(number, each.outcome, each.bytes) for number, each in enumerate(expected, 1) if each.outcome in refused]
    assert [(each.number, str(each.reason), each.bytes) for each in found.refused] == told
    silent = ("nodata", "skipdata")
    assert found.balance.stated_bytes == sum(each.bytes for each in expected if each.outcome not in silent)


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=200, deadline=None)
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
    # In Parquet, an empty text is an absent value.
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
