"""The status of a region: judged as its alarms judge, read from few notes, each trouble with its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.audit.freshness import Freshness
from metering.hours import parse_hour
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch import FIGURES_KEY, WatchFigures
from metering.ledger.periods import Period
from metering.operations.alarms import ALARMS, AlarmSpec, Figure, alarm_name
from metering.operations.logged_errors import AlarmState, Subscriber
from metering.operations.status import RegionStatus, Standing, StatusLine, StatusReader
from metering.operations.watch import Watch
from metering.stores.queues import Redelivery
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOW_S = parse_hour("2026-11-24T13") + 1_800


class Setup:
    """A region at rest: its watch, its canary and its reconciler have just run."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.ingest, self.dead = MemoryQueue(self.clock), MemoryQueue(self.clock)
        self.age_s: int | None = None
        self.alight: list[str] = []
        self.pagers = [Subscriber(protocol="email", endpoint="oncall@example.com", confirmed=True)]
        self.freshness = Freshness(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            clock=self.clock,
            region="eu-west-1",
            stage="prod",
            shards=2,
            window_s=35 * DAY_S,
        )
        self.put(CanaryRun(slot_s=NOW_S, sent_s=NOW_S, verdict=CanaryVerdict.GOOD, settled_s=NOW_S))
        self.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0))

    def watch(self) -> None:
        watch = Watch(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            gauges=self,
            clock=self.clock,
            freshness=self.freshness,
            shards=2,
            window_s=35 * DAY_S,
            marker_life_s=50 * DAY_S,
        )
        watch.run()

    def read(self) -> RegionStatus:
        return StatusReader(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            clock=self.clock,
            freshness=self.freshness,
            alarms=self,
            subscribers=self,
            region="eu-west-1",
            stage="prod",
            version="0.2.0",
        ).read()

    def line(self, what: str) -> StatusLine:
        return next(line for line in self.read().lines if line.what == what)

    def put(self, *values: CanaryRun | Reconciliation | WatchFigures | Period) -> None:
        for value in values:
            self.items.put(Put(table=Table.LEDGER, item=value.to_item()))

    def figure(self, figure: Figure, value: int) -> None:
        """As the watch leaves it: this figure, and all others of a region that is well."""
        self.watch()
        item = self.items.peek(Table.LEDGER, FIGURES_KEY)
        assert item is not None
        known = WatchFigures.from_item(item)
        self.put(WatchFigures(measured_s=known.measured_s, figures={**known.figures, figure.value: value}))

    def oldest_age_s(self) -> int | None:
        return self.age_s

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=5)

    def publish(self, values: Mapping[str, int]) -> None:
        """The gauges of the watch."""

    def states(self) -> Sequence[AlarmState]:
        names = [alarm_name("prod", spec.name) for spec in ALARMS]
        return [
            AlarmState(name=name, arn="", state="ALARM" if name.removeprefix("metering-prod-") in self.alight else "OK")
            for name in names
        ]

    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        return self.pagers if severity == "page" else ()


def test_a_region_that_is_well_says_so_in_every_line_and_needs_nobody() -> None:
    setup = Setup()
    setup.watch()
    found = setup.read()
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
    setup = Setup()
    setup.watch()
    setup.clock.advance_s(MINUTE_S)
    setup.dead.send_many(["x"])
    setup.watch()
    assert setup.read().needs_a_person
    assert setup.line("dead letters").cure == "metering dlq list --region eu-west-1 --stage prod"
    complete = setup.line("complete")
    assert (complete.state, complete.cure) == (
        Standing.ATTENTION,
        "metering dlq redrive --region eu-west-1 --stage prod",
    )
    assert complete.value.endswith("held back by 1 dead letter (as of 0 s ago)")


def test_what_has_left_the_queue_since_the_watch_looked_is_told_as_of_then() -> None:
    """`queue ok empty` stood beside `held back by 2 messages in the ingest queue`."""
    setup = Setup()
    setup.ingest.send_many(["x", "y"])
    setup.watch()
    setup.clock.advance_s(40)
    complete = setup.line("complete").value
    assert "2 messages in the ingest queue" in complete
    assert complete.endswith("(as of 40 s ago)")


def test_messages_in_the_queue_are_well_until_the_oldest_is_late() -> None:
    setup = Setup()
    setup.watch()
    setup.ingest.send_many(["x", "y"])
    setup.ingest.receive(1)
    setup.age_s = 90
    assert setup.line("queue") == StatusLine(
        what="queue", state=Standing.OK, value="1 visible, 1 in flight, the oldest for 90 s"
    )
    setup.age_s = 16 * MINUTE_S
    assert setup.line("queue").state is Standing.ACT
    assert setup.line("queue").cure == "runbook oldest-batch"


# The other figures of the watch are read anew from the queues, or from the age of the note.
_ELSEWHERE = {Figure.DEAD_LETTERS, Figure.OLDEST_BATCH_AGE, Figure.HEARTBEAT}
_JUDGED = [spec for spec in ALARMS if spec.metric in set(Figure) - _ELSEWHERE]


@pytest.mark.parametrize("spec", _JUDGED, ids=[spec.name for spec in _JUDGED])
def test_each_figure_that_an_alarm_compares_is_judged_as_the_alarm_judges(spec: AlarmSpec) -> None:
    worse = spec.threshold - 1 if spec.comparison == "LessThanThreshold" else spec.threshold
    setup = Setup()
    setup.figure(Figure(spec.metric), worse)
    bad = [line for line in setup.read().lines if line.state is not Standing.OK]
    assert [(line.state is Standing.ACT, line.cure) for line in bad] == [
        (spec.severity == "page", f"runbook {spec.runbook}")
    ]


def test_an_alarm_that_fires_is_named_with_its_runbook_and_one_that_pages_needs_a_person() -> None:
    setup = Setup()
    setup.watch()
    setup.alight = ["compactor-errors"]
    assert setup.line("alarms") == StatusLine(
        what="alarms", state=Standing.ATTENTION, value="compactor-errors", cure="runbook compactor-errors"
    )
    setup.alight.append("oldest-message")
    assert setup.line("alarms").state is Standing.ACT
    assert setup.line("alarms").cure == "runbook oldest-batch, runbook compactor-errors"
    assert setup.read().firing == ("oldest-message", "compactor-errors")


def test_old_figures_are_told_as_old() -> None:
    setup = Setup()
    setup.watch()
    setup.clock.advance_s(6 * MINUTE_S)
    assert (setup.line("watch").state, setup.line("watch").value) == (Standing.ATTENTION, "measured 6 minutes ago")
    setup.clock.advance_s(3 * HOUR_S)
    assert setup.line("watch").state is Standing.ACT
    assert "the watch, which has not measured for 3 hours" in setup.line("complete").value


def test_without_a_watch_nothing_is_told_as_well_that_nobody_measured() -> None:
    found = Setup().read()
    unknown = {line.what for line in found.lines if line.value.endswith("not measured")}
    jobs = {"roll-up", "compactor", "cleaners", "reconciler", "canary"}
    assert unknown == jobs | {"sources", "conflicts", "drops", "money", "markers"}
    assert all(line.state is Standing.ATTENTION for line in found.lines if line.what in {*unknown, "watch"})


def test_a_month_that_is_closing_is_to_be_closed_and_old_ones_are_counted_out() -> None:
    setup = Setup()
    setup.watch()
    setup.put(Period(month="2026-10", state="closed", frozen_key="closed/2026-10.json"))
    assert setup.line("months").value == "2026-11 open, 2026-10 closed, 2026-09 open"
    setup.put(Period(month="2026-06", state="closing"))
    assert setup.line("months") == StatusLine(
        what="months",
        state=Standing.ATTENTION,
        value="2026-11 open, 2026-10 closed, 2026-09 open, 2026-06 closing",
        cure="metering period close 2026-06 --region eu-west-1 --stage prod",
    )


def test_a_pager_that_nobody_confirmed_is_nobody() -> None:
    setup = Setup()
    setup.watch()
    setup.pagers = [Subscriber(protocol="email", endpoint="x@example.com", confirmed=False)]
    assert setup.line("pager").state is Standing.ATTENTION


def test_the_page_is_read_with_few_calls_however_much_a_region_holds() -> None:
    setup = Setup()
    setup.watch()
    calls: list[str] = []
    setup.items.on_call = setup.ingest.on_call = setup.dead.on_call = calls.append
    setup.read()
    assert len(calls) <= 20
    assert not any("scan" in call for call in calls)


def test_every_cure_is_a_command_or_a_runbook_that_exists() -> None:
    setup = Setup()
    setup.dead.send_many(["x"])
    setup.put(Period(month="2026-10", state="closing"))
    setup.pagers = []
    setup.alight = [spec.name for spec in ALARMS]
    cures = [part for line in setup.read().lines for part in line.cure.replace(" and ", " ").split(", ") if part]
    assert len(cures) > 10
    for cure in map(str.strip, cures):
        if cure.startswith("runbook "):
            assert cure.removeprefix("runbook ") in {spec.runbook for spec in ALARMS}
        else:
            assert parsed(cure)
