"""The contract's answer to a usage report, byte by byte: an HTTP API gives the same documents as the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.audit.freshness import Complete, HeldBack
from metering.hours import month_bounds_s, rfc3339
from metering.reports.answer import encoded_bytes
from metering.reports.query import UsageParameters
from metering.reports.source import report_periods, report_rows
from metering.reports.usage_answer import usage_answer
from metering.units import DAY_S, HOUR_S
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
    """What a table says below its total."""
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
