"""Usage answers: ranked rows, missing names, completeness."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from metering.audit.freshness import Complete, HeldBack
from metering.cli.printing.output import Format, encoded
from metering.hours import month_bounds_s, rfc3339
from metering.reports.answer import encoded_bytes
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.source import report_periods, report_rows
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import UsageRow, in_order
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT
from tests.unit.reports.test_closed_reports import OTHER, region

ANSWERS = Path(__file__).with_name("answers")
NOW_S = month_bounds_s("2026-11")[0] + 4 * DAY_S
COMPLETE = Complete(
    through_s=NOW_S - HOUR_S,
    held_back_by=(
        HeldBack(what="2 dead letters", since_s=NOW_S - HOUR_S, cure="metering dlq redrive --stage x"),
        HeldBack(what="numbers that a source misses", since_s=None, cure="metering sources --gaps"),
    ),
)
QUESTIONS = {
    "this-month": UsageParameters(),
    "corrections": UsageParameters(
        start="2026-10", group_by="account_id, month,hour", filters={"account": [f"{OTHER},{ACCOUNT}"]},
        with_corrections=True,
    ),
    "resources": UsageParameters(
        start="2026-10-01T00:00:05Z", end="2026-11-30", filters={"service": ["AmazonEC2"]},
        group_by="usage_type,usage_type,day", detail="resource_id,batch_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_documents_are_what_they_were(name: str) -> None:
    world = region()
    source = world.source()
    query = QUESTIONS[name].query(now_s=NOW_S)
    several = name == "resources"
    answer = usage_answer(
        query, report_rows([source], query, now_s=NOW_S), as_of_s=NOW_S, complete=COMPLETE,
        periods=report_periods([source], query, now_s=NOW_S),
        regions=("eu-west-1", "us-east-1") if several else (), left_out={"eu-west-1": ["zones"]} if several else {},
    )  # fmt: skip
    for encoding in ("json", "ndjson", "csv"):
        assert encoded_bytes(answer, encoding) == (ANSWERS / f"{name}.{encoding}").read_bytes()


def lines(complete: Complete, periods: dict[str, str], *, with_corrections: bool = False) -> list[str]:
    """Text below a table's total."""
    query = UsageParameters(start="2026-10", end="2026-11-03", with_corrections=with_corrections).query(now_s=NOW_S)
    return list(usage_answer(query, [], as_of_s=NOW_S, complete=complete, periods=periods).footer[1:])


def test_a_table_says_by_what_it_is_held_back_since_when_and_what_cures_it() -> None:
    hour_ago = rfc3339(NOW_S - HOUR_S)
    assert lines(COMPLETE, {"2026-11": "open"}) == [
        f"As of {rfc3339(NOW_S)}, complete through {hour_ago}.",
        f"Held back by 2 dead letters, since {hour_ago}.",
        "Cure: metering dlq redrive --stage x",
        "Also by numbers that a source misses. To see all: metering status",
    ]


def test_where_nothing_holds_it_back_a_table_says_one_line() -> None:
    assert lines(Complete(through_s=NOW_S), {}) == [f"As of {rfc3339(NOW_S)}, complete through {rfc3339(NOW_S)}."]


def test_what_is_not_known_is_not_told_as_a_time_of_1970() -> None:
    unknown = HeldBack(what="1 message in the ingest queue", since_s=None, cure="metering verify --wait 5m")
    assert lines(Complete(through_s=0, held_back_by=(unknown,)), {}) == [
        f"As of {rfc3339(NOW_S)}, and it is not known yet how complete.",
        "Held back by 1 message in the ingest queue, for a time that is not known.",
        "Cure: metering verify --wait 5m",
    ]


def test_figures_of_closed_months_alone_are_final_and_nothing_holds_them_back() -> None:
    [line] = lines(COMPLETE, {"2026-10": "closed"})
    assert line.startswith(f"As of {rfc3339(NOW_S)}. 2026-10 is closed: its figures are final.")
    [line] = lines(COMPLETE, {"2026-09": "closed", "2026-10": "closed"})
    assert "2026-09, 2026-10 are closed: their figures are final." in line


def test_a_closed_month_beside_an_open_one_or_with_corrections_is_told_beside_the_time() -> None:
    for told in (
        lines(COMPLETE, {"2026-10": "closed", "2026-11": "open"}),
        lines(COMPLETE, {"2026-10": "closed"}, with_corrections=True),
    ):
        assert len(told) == 5
        assert told[-1].startswith("2026-10 is closed")


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
