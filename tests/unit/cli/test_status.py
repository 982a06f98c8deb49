"""`metering status`: the lines of each region side by side, and a document for programs."""

from __future__ import annotations

import json

from metering.audit.freshness import Complete, HeldBack
from metering.cli.commands.operator.status import status_answer
from metering.cli.printing.output import Format, encoded
from metering.operations.status import RegionStatus, Standing, StatusLine

DEAD = HeldBack(what="1 dead letter", since_s=0, cure="metering dlq redrive --region eu-west-1 --stage prod")


def status(region: str, *lines: StatusLine, held: tuple[HeldBack, ...] = ()) -> RegionStatus:
    return RegionStatus(
        region=region,
        version="0.2.0",
        complete=Complete(through_s=60, held_back_by=held),
        periods={"2026-11": "open"},
        firing=(),
        figures={"OpenCommits": 0},
        lines=lines,
    )


WELL = StatusLine(what="queue", state=Standing.OK, value="empty")
BAD = StatusLine(what="dead letters", state=Standing.ACT, value="1", cure="metering dlq list")


def test_one_region_is_a_page_without_a_column_of_its_name() -> None:
    answer = status_answer([status("us-east-1", WELL)], stage="prod", as_of_s=120)
    assert [column.name for column in answer.columns] == ["what", "state", "value", "cure"]
    document = json.loads(encoded(answer, Format.JSON))
    assert set(document) == {"stage", "as_of", "well", "regions", "rows"}
    assert document["well"] is True


def test_the_runbooks_that_cures_name_are_commands_to_copy_each_once_for_its_region() -> None:
    late = StatusLine(what="alarms", state=Standing.ACT, value="2", cure="runbook oldest-batch, runbook dead-letters")
    watch = StatusLine(what="queue", state=Standing.ACT, value="9", cure="runbook oldest-batch")
    answer = status_answer([status("eu-west-1", late, watch, BAD), status("us-east-1", watch)], stage="prod", as_of_s=9)
    assert answer.commands == (
        "metering runbook oldest-batch --region eu-west-1 --stage prod",
        "metering runbook dead-letters --region eu-west-1 --stage prod",
        "metering runbook oldest-batch --region us-east-1 --stage prod",
    )
    assert status_answer([status("us-east-1", WELL)], stage="prod", as_of_s=9).footer == ()


def test_several_regions_stand_side_by_side_and_one_that_is_bad_makes_it_all_bad() -> None:
    found = [status("eu-west-1", BAD, held=(DEAD,)), status("us-east-1", WELL)]
    answer = status_answer(found, stage="prod", as_of_s=120)
    assert [(row["region"], row["state"]) for row in answer.rows] == [("eu-west-1", "act"), ("us-east-1", "ok")]
    document = json.loads(encoded(answer, Format.JSON))
    assert document["well"] is False
    assert document["regions"]["eu-west-1"]["held_back_by"] == [
        {"what": DEAD.what, "since": "1970-01-01T00:00:00Z", "cure": DEAD.cure}
    ]
    assert document["regions"]["us-east-1"]["complete_through"] == "1970-01-01T00:01:00Z"
