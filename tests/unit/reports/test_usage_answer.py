"""The contract's answer to a usage report, byte by byte: an HTTP API gives the same documents as the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metering.hours import month_bounds_s
from metering.reports.encodings import ENCODERS
from metering.reports.query import parse_usage_query
from metering.reports.source import ReportSource, report_rows
from metering.reports.usage_answer import usage_answer
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT
from tests.unit.reports.test_closed_reports import OTHER, region

if TYPE_CHECKING:
    from metering.reports.answer import Answer

ANSWERS = Path(__file__).with_name("answers")
NOW_S = month_bounds_s("2026-11")[0] + 4 * DAY_S


def answered(name: str, source: ReportSource) -> Answer:
    """The answer that the files of this name hold."""
    complete_s = NOW_S - HOUR_S
    if name == "this-month":
        query = parse_usage_query(now_s=NOW_S)
        return usage_answer(query, report_rows([source], query, now_s=NOW_S), as_of_s=NOW_S, complete_s=complete_s)
    if name == "corrections":
        query = parse_usage_query(
            now_s=NOW_S, start="2026-10", group_by="account_id, month,hour", accounts=[f"{OTHER},{ACCOUNT}"],
            with_corrections=True,
        )  # fmt: skip
        return usage_answer(query, report_rows([source], query, now_s=NOW_S), as_of_s=NOW_S, complete_s=complete_s)
    query = parse_usage_query(
        now_s=NOW_S, start="2026-10-01T00:00:05Z", end="2026-11-30", services=["AmazonEC2"],
        group_by="usage_type,usage_type,day", detail="resource_id,batch_id",
    )  # fmt: skip
    return usage_answer(
        query, report_rows([source], query, now_s=NOW_S), as_of_s=NOW_S, complete_s=complete_s,
        regions=("eu-west-1", "us-east-1"), left_out={"eu-west-1": ["zones"]},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["this-month", "corrections", "resources"])
def test_the_documents_are_what_they_were(name: str) -> None:
    world = region()
    answer = answered(name, ReportSource(items=world.items, objects=world.objects, view=world.jobs.view))
    for encoding in ("json", "ndjson", "csv"):
        assert ENCODERS[encoding](answer) == (ANSWERS / f"{name}.{encoding}").read_bytes()
