"""Laws of log files that are read row by row: forms agree, order does not matter, and a line is read as written."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import KINDS, LogKind
from metering.onramps.mapped import mapped_kind
from metering.onramps.reading import FileName, ReadSettings
from metering.onramps.rows import MAX_BYTES
from metering.onramps.s3_access import Request, parse

if TYPE_CHECKING:
    from random import Random

ACCOUNT = "123456789012"
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
# Client-supplied texts: anything but line ends and NULs.
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
    """The metered result of a file, without parts that depend on its form: the hash and the header lines."""
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


EDGE_ROWS = st.lists(
    st.tuples(
        SECONDS, st.sampled_from(["LHR61-P2", "IAD89", "XXX1", "-"]), st.integers(0, 10**9), st.integers(0, 10**6)
    ),
    min_size=1,
    max_size=20,
)


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


TRANSFERS = st.lists(
    st.fixed_dictionaries(
        {
            "account": st.sampled_from([ACCOUNT, "000000000001", "1", ""]),
            "host": st.sampled_from(["a", "b;1", 'c"2', "d,3", ""]),
            "way": st.sampled_from(["up", "down", "sideways"]),
            "from": st.sampled_from(["internet", "us-west-2", "eu-west-1/euw1-az1"]),
            "to": st.sampled_from(["internet", "us-west-2", "unknown"]),
            "size": st.one_of(st.integers(-1, 10**6), st.sampled_from(["1.5", "0.3", "x", ""])),
            "at": st.integers(T * 1000, (T + 7200) * 1000),
            "took": st.integers(0, 3_700_000),
        }
    ),
    min_size=1,
    max_size=20,
)


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
