"""The first rows of a report and the exact sum of the others: the whole in every encoding."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from metering.audit.freshness import Complete
from metering.cli.printing.output import Format, encoded
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import UsageRow, in_order
from metering.usage.totals import Total
from tests.support.lake_world import NOW_S

SIZES = {"111111111111": 2**70, "222222222222": 3, "333333333333": 2**70, "444444444444": 1}
ROWS = [UsageRow(values=(account,), total=Total(size, 2)) for account, size in SIZES.items()]


def asked(**more: object) -> UsageQuery:
    return UsageParameters(**{"group_by": "account_id", **more}).query(now_s=NOW_S)  # type: ignore[arg-type]  # its texts


def accounts(query: UsageQuery) -> list[str]:
    return [row.values[0][0] for row in in_order(ROWS, query)]


def test_rows_are_sorted_by_any_column_and_ties_by_name() -> None:
    assert accounts(asked()) == ["1", "2", "3", "4"]
    assert accounts(asked(sort="bytes")) == ["4", "2", "1", "3"]
    assert accounts(asked(sort="bytes:desc")) == accounts(asked(top=1)) == ["1", "3", "2", "4"]
    assert accounts(asked(sort="account_id:desc")) == ["4", "3", "2", "1"]
    assert accounts(asked(sort="records:asc")) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(("more", "said"), [
    ({"sort": "day"}, "is not a column of this report"),
    ({"sort": "bytes:down"}, "has no such direction"),
    ({"sort": ""}, "is not a column of this report"),
    ({"top": 0}, "is not a number of rows"),
    ({"top": -3}, "is not a number of rows"),
])  # fmt: skip
def test_an_order_that_is_none_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParametersError, match=said):
        asked(**more)


def test_every_encoding_of_the_first_rows_adds_up_to_the_whole() -> None:
    query = asked(top=2)
    answer = usage_answer(query, in_order(ROWS, query), as_of_s=NOW_S, complete=Complete(through_s=NOW_S))
    total, records = sum(SIZES.values()), 2 * len(SIZES)
    document = json.loads(encoded(answer, Format.JSON))
    assert (document["rows_total"], len(document["rows"])) == (4, 2)
    assert document["others"] == {"rows": 2, "bytes": "4", "records": 4}
    assert document["query"]["top"] == 2
    assert document["query"]["sort"] == "bytes:desc"
    assert sum(int(row["bytes"]) for row in [*document["rows"], document["others"]]) == total
    for rows in (
        [json.loads(line) for line in encoded(answer, Format.NDJSON).splitlines()],
        list(csv.DictReader(io.StringIO(encoded(answer, Format.CSV).decode()))),
        pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET))).to_pylist(),
    ):
        assert [row["account_id"] for row in rows] == ["111111111111", "333333333333", "others"]
        assert (sum(int(row["bytes"]) for row in rows), sum(int(row["records"]) for row in rows)) == (total, records)
    table = encoded(answer, Format.TABLE, width=120).decode()
    assert "others" in table
    assert f"{total:,} bytes" in table, "the total is that of all rows"
    assert "2 of 4 rows" in table


def test_the_others_of_a_report_by_hour_alone_have_no_label_and_all_bytes() -> None:
    query = asked(group_by="hour", top=1)
    rows = [UsageRow(values=(f"2026-11-24T1{n}:00:00Z",), total=Total(n, 1)) for n in range(3)]
    answer = usage_answer(query, in_order(rows, query), as_of_s=NOW_S, complete=Complete(through_s=NOW_S))
    table = pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET))).to_pylist()
    assert [(row["hour"] is None, int(row["bytes"])) for row in table] == [(False, 2), (True, 1)]


def test_without_a_rest_there_are_no_others() -> None:
    query = asked(top=4)
    answer = usage_answer(query, in_order(ROWS, query), as_of_s=NOW_S, complete=Complete(through_s=NOW_S))
    document = json.loads(encoded(answer, Format.JSON))
    assert (document["rows_total"], document["others"], len(document["rows"])) == (4, None, 4)
    assert "others" not in encoded(answer, Format.CSV).decode()


def test_hours_of_the_night_when_clocks_go_back_stand_in_the_order_of_time() -> None:
    labels = ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"]
    rows = [UsageRow(values=(label,), total=Total(1, 1)) for label in sorted(labels)]
    query = asked(group_by="hour", start="2026-10", zone="Europe/Berlin")
    assert [row.values[0] for row in in_order(rows, query)] == labels


def test_the_heading_says_the_range_its_zone_and_whether_it_is_over() -> None:
    for more, title in (
        ({"start": "2026-10"}, "Usage from 2026-10-01T00:00:00Z to 2026-11-01T00:00:00Z"),
        ({"start": "2026-11"}, "Usage from 2026-11-01T00:00:00Z to 2026-12-01T00:00:00Z (not over yet)"),
        (
            {"start": "2026-10", "zone": "Europe/Berlin"},
            "Usage from 2026-10-01T00:00:00+02:00 to 2026-11-01T00:00:00+01:00, by UTC hours in Europe/Berlin",
        ),
    ):
        answer = usage_answer(asked(**more), [], as_of_s=NOW_S, complete=Complete(through_s=NOW_S))
        assert answer.title == title
