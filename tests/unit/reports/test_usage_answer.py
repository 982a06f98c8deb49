"""The contract's answer to a usage report, byte by byte: an HTTP API gives the same documents as the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.hours import month_bounds_s
from metering.reports.encodings import ENCODERS
from metering.reports.query import UsageParameters
from metering.reports.source import ReportSource, report_rows
from metering.reports.usage_answer import usage_answer
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT
from tests.unit.reports.test_closed_reports import OTHER, region

ANSWERS = Path(__file__).with_name("answers")
NOW_S = month_bounds_s("2026-11")[0] + 4 * DAY_S
QUESTIONS = {
    "this-month": UsageParameters(),
    "corrections": UsageParameters(
        start="2026-10", group_by="account_id, month,hour", accounts=[f"{OTHER},{ACCOUNT}"], with_corrections=True
    ),
    "resources": UsageParameters(
        start="2026-10-01T00:00:05Z", end="2026-11-30", services=["AmazonEC2"],
        group_by="usage_type,usage_type,day", detail="resource_id,batch_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_documents_are_what_they_were(name: str) -> None:
    world = region()
    source = ReportSource(items=world.items, objects=world.objects, view=world.jobs.view)
    query = QUESTIONS[name].query(now_s=NOW_S)
    several = name == "resources"
    answer = usage_answer(
        query, report_rows([source], query, now_s=NOW_S), as_of_s=NOW_S, complete_s=NOW_S - HOUR_S,
        regions=("eu-west-1", "us-east-1") if several else (), left_out={"eu-west-1": ["zones"]} if several else {},
    )  # fmt: skip
    for encoding in ("json", "ndjson", "csv"):
        assert ENCODERS[encoding](answer) == (ANSWERS / f"{name}.{encoding}").read_bytes()
