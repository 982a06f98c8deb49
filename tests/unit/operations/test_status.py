"""The status of a region: judged like its alarms, read from few notes, each problem with its cure."""

from __future__ import annotations

import pytest

from metering.hours import parse_hour
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch import WatchFigures
from metering.ledger.periods import Period
from metering.operations.alarms import ALARMS, AlarmSpec, Figure
from metering.operations.logged_errors import Subscriber
from metering.operations.status import Standing, StatusLine
from metering.units import HOUR_S, MINUTE_S
from tests.support.watched import WatchedRegion
from tests.unit.house.command_lines import parsed

NOW_S = parse_hour("2026-11-24T13") + 1_800


def well(*, watched: bool = True) -> WatchedRegion:
    """A region at rest: its watch, its canary and its reconciler have just run."""
    region = WatchedRegion(now_s=NOW_S, region="eu-west-1", stage="prod")
    region.put(CanaryRun(slot_s=NOW_S, sent_s=NOW_S, verdict=CanaryVerdict.GOOD, settled_s=NOW_S))
    region.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0))
    if watched:
        region.watch.run()
    return region


def test_a_region_that_is_well_says_so_in_every_line_and_needs_nobody() -> None:
    region = well()
    found = region.status()
    assert {line.what: line.state for line in found.lines if line.state is not Standing.OK} == {}
    assert not any(line.cure for line in found.lines)
    assert not found.needs_a_person
    assert {line.what: line.value for line in found.lines} | {"markers": ""} == {
        "version": "0.2.0",
        "complete": "through 2026-11-24T13:29:00Z",
        "queue": "empty",
        "dead letters": "0",
        "roll-up": "commits that wait: 0",
        "compactor": "hours with rows in staging only: 0",
        "cleaners": "orphans looked for 0 s ago",
        "reconciler": "hours that differ: 0, nothing finished for 0 s, hours and files that wait: 0",
        "canary": "none good for 0 s",
        "sources": "gaps: 0, silent: 0",
        "conflicts": "0 in the last two hours",
        "drops": "never announced: 0, looked 0 s ago",
        "money": "what was published up to 0 s ago is counted",
        "markers": "",
        "watch": "measured 0 s ago",
        "alarms": "none fires",
        "months": "2026-11 open, 2026-10 open, 2026-09 open",
        "pager": "1 confirmed",
    }


def test_a_dead_letter_needs_a_person_and_holds_completeness_back() -> None:
    region = well()
    region.clock.advance_s(MINUTE_S)
    region.dead.send_many(["x"])
    region.watch.run()
    assert region.status().needs_a_person
    assert region.line("dead letters").cure == "metering dlq list --region eu-west-1 --stage prod"
    complete = region.line("complete")
    assert (complete.state, complete.cure) == (
        Standing.ATTENTION,
        "metering dlq redrive --region eu-west-1 --stage prod",
    )
    assert complete.value.endswith("held back by 1 dead letter (as of 0 s ago)")


def test_what_has_left_the_queue_since_the_watch_looked_is_told_as_of_then() -> None:
    """`queue ok empty` appeared beside `held back by 2 messages in the ingest queue`."""
    region = well(watched=False)
    region.ingest.send_many(["x", "y"])
    region.watch.run()
    region.clock.advance_s(40)
    complete = region.line("complete").value
    assert "2 messages in the ingest queue" in complete
    assert complete.endswith("(as of 40 s ago)")


def test_messages_in_the_queue_are_well_until_the_oldest_is_late() -> None:
    region = well()
    region.ingest.send_many(["x", "y"])
    region.ingest.receive(1)
    region.age_s = 90
    assert region.line("queue") == StatusLine(
        what="queue", state=Standing.OK, value="1 visible, 1 in flight, the oldest for 90 s"
    )
    region.age_s = 16 * MINUTE_S
    assert region.line("queue").state is Standing.ACT
    assert region.line("queue").cure == "runbook oldest-batch"


# The status reads the watch's other figures directly from the queues, or computes them from the note's age.
_ELSEWHERE = {Figure.DEAD_LETTERS, Figure.OLDEST_BATCH_AGE, Figure.HEARTBEAT}
_JUDGED = [spec for spec in ALARMS if spec.metric in set(Figure) - _ELSEWHERE]


@pytest.mark.parametrize("spec", _JUDGED, ids=[spec.name for spec in _JUDGED])
def test_each_figure_that_an_alarm_compares_is_judged_as_the_alarm_judges(spec: AlarmSpec) -> None:
    worse = spec.threshold - 1 if spec.comparison == "LessThanThreshold" else spec.threshold
    region = well()
    region.put(WatchFigures(measured_s=NOW_S, figures={**region.published, spec.metric: worse}))
    bad = [line for line in region.status().lines if line.state is not Standing.OK]
    assert [(line.state is Standing.ACT, line.cure) for line in bad] == [
        (spec.severity == "page", f"runbook {spec.runbook}")
    ]


def test_an_alarm_that_fires_is_named_with_its_runbook_and_one_that_pages_needs_a_person() -> None:
    region = well()
    region.alight = ["compactor-errors"]
    assert region.line("alarms") == StatusLine(
        what="alarms", state=Standing.ATTENTION, value="compactor-errors", cure="runbook compactor-errors"
    )
    region.alight.append("oldest-message")
    assert region.line("alarms").state is Standing.ACT
    assert region.line("alarms").cure == "runbook oldest-batch, runbook compactor-errors"
    assert region.status().firing == ("oldest-message", "compactor-errors")


def test_old_figures_are_told_as_old() -> None:
    region = well()
    region.clock.advance_s(6 * MINUTE_S)
    assert (region.line("watch").state, region.line("watch").value) == (Standing.ATTENTION, "measured 6 minutes ago")
    region.clock.advance_s(3 * HOUR_S)
    assert region.line("watch").state is Standing.ACT
    assert "the watch, which has not measured for 3 hours" in region.line("complete").value


def test_without_a_watch_nothing_is_told_as_well_that_nobody_measured() -> None:
    found = well(watched=False).status()
    unknown = {line.what for line in found.lines if line.value.endswith("not measured")}
    jobs = {"roll-up", "compactor", "cleaners", "reconciler", "canary"}
    assert unknown == jobs | {"sources", "conflicts", "drops", "money", "markers"}
    assert all(line.state is Standing.ATTENTION for line in found.lines if line.what in {*unknown, "watch"})


def test_a_month_that_is_closing_is_to_be_closed_and_old_ones_are_counted_out() -> None:
    region = well()
    region.put(Period(month="2026-10", state="closed", frozen_key="closed/2026-10.json"))
    assert region.line("months").value == "2026-11 open, 2026-10 closed, 2026-09 open"
    region.put(Period(month="2026-06", state="closing"))
    assert region.line("months") == StatusLine(
        what="months",
        state=Standing.ATTENTION,
        value="2026-11 open, 2026-10 closed, 2026-09 open, 2026-06 closing",
        cure="metering period close 2026-06 --region eu-west-1 --stage prod",
    )


def test_a_pager_that_nobody_confirmed_is_nobody() -> None:
    region = well()
    region.pagers = [Subscriber(protocol="email", endpoint="x@example.com", confirmed=False)]
    assert region.line("pager").state is Standing.ATTENTION


def test_the_page_is_read_with_few_calls_however_much_a_region_holds() -> None:
    region = well()
    calls: list[str] = []
    region.items.on_call = region.ingest.on_call = region.dead.on_call = calls.append
    region.status()
    assert len(calls) <= 20
    assert not any("scan" in call for call in calls)


def test_every_cure_is_a_command_or_a_runbook_that_exists() -> None:
    region = well(watched=False)
    region.dead.send_many(["x"])
    region.put(Period(month="2026-10", state="closing"))
    region.pagers = []
    region.alight = [spec.name for spec in ALARMS]
    cures = [part for line in region.status().lines for part in line.cure.replace(" and ", " ").split(", ") if part]
    assert len(cures) > 10
    for cure in map(str.strip, cures):
        if cure.startswith("runbook "):
            assert cure.removeprefix("runbook ") in {spec.runbook for spec in ALARMS}
        else:
            assert parsed(cure)
