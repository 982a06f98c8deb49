"""Answers about billing months: a closed month's content by any column, their list, and the checklist of a close."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from metering.billing.checklist import Checklist, CheckState, CloseCheck
from metering.billing.closer import MonthState
from metering.hours import month_bounds_s
from metering.reports.answer import encoded_bytes
from metering.reports.operators.sources_answer import checklist_answer, corrections_since, frozen_answer, months_answer
from metering.reports.query import month_columns
from metering.reports.time_range import InvalidParametersError
from metering.units import DAY_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, World
from tests.unit.reports.test_closed_reports import OTHER, region

if TYPE_CHECKING:
    from metering.reports.source import ReportSource

OCTOBER, NOVEMBER = month_bounds_s("2026-10")
NOW_S = NOVEMBER + 4 * DAY_S


def source(world: World) -> ReportSource:
    return world.source()


def test_a_closed_month_is_shown_by_account_with_the_total_of_the_close() -> None:
    closer = region().jobs.closer
    columns = month_columns("account_id")
    answer = frozen_answer(closer.frozen("2026-10"), closer.files, month="2026-10", state="closed", group_by=columns)
    assert answer.rows == [{"account_id": ACCOUNT, "bytes": 12}, {"account_id": OTHER, "bytes": 2**62}]
    document = json.loads(encoded_bytes(answer, "json"))
    assert (document["bytes"], document["records"]) == (str(12 + 2**62), 3)
    assert document["corrections"] == {"records": 0, "bytes": "0"}


def test_a_month_that_is_not_closed_has_no_rows_and_says_its_state() -> None:
    answer = frozen_answer(None, region().jobs.frozen_files, month="2026-11", state="closing", group_by=("usage_type",))
    assert (list(answer.rows), answer.meta["state"], answer.meta["bytes"]) == ([], "closing", "0")


def test_what_was_booked_later_for_a_closed_month_is_counted_and_nothing_else() -> None:
    assert corrections_since([source(region())], ["2026-10"], now_s=NOW_S) == {"2026-10": Total(17, 1)}
    assert corrections_since([source(region())], [], now_s=NOW_S) == {}


def test_the_list_says_who_closed_a_month_and_leaves_open_totals_empty() -> None:
    months = [
        MonthState(month="2026-11", state="open"),
        MonthState(month="2026-10", state="closed", total=Total(5, 1), closed_s=NOW_S),
    ]
    answer = months_answer(months, closed_by={"2026-10": "ada"}, corrections={"2026-10": Total(17, 1)})
    assert [list(row.values()) for row in answer.rows] == [
        ["2026-11", "open", None, None, None, None, None, None],
        ["2026-10", "closed", 5, 1, "2026-11-05T00:00:00Z", "ada", 17, 1],
    ]
    assert "corrections_bytes" not in [column.name for column in months_answer(months, closed_by={}).columns]


@pytest.mark.parametrize("text", ["colour", "usage_type,colour", ",", ""])
def test_columns_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(InvalidParametersError):
        month_columns(text)


def test_a_checklist_says_whether_the_month_can_be_closed_and_what_was_accepted() -> None:
    dead = CloseCheck(name="dead-letters", state=CheckState.BLOCKS, value="1", todo="metering dlq redrive")
    checklist = Checklist(month="2026-10", checks=(dead,))
    refused, accepted = checklist_answer(checklist), checklist_answer(checklist, accepted=frozenset(["dead-letters"]))
    assert (refused.meta["closable"], refused.rows[0]["state"]) == (False, "blocks")
    assert (accepted.meta["closable"], accepted.rows[0]["state"]) == (True, "accepted")
