"""Answers for operators: status of a region, runbooks by name, billing months, storage cost."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from metering.billing.checklist import Checklist, CheckState, CloseCheck
from metering.billing.closer import MonthState
from metering.cli.commands.analyst.lake import storage_answer
from metering.cli.printing.output import Format, encoded
from metering.errors import OperationFailedError
from metering.hours import month_bounds_s, parse_hour
from metering.lake.parquet.codec import JsonBatchSizer
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch import WatchFigures
from metering.ledger.periods import Period
from metering.operations.alarms import ALARMS, AlarmSpec, Figure
from metering.operations.logged_errors import Subscriber
from metering.operations.own_costs import StorageReport, StorageReporter, batch_usd, billed_bytes
from metering.operations.runbooks import Subject, commands_by_part, linked_runbooks, placed, runbook_in, subject_of
from metering.operations.status import Standing, StatusLine
from metering.reports.answer import encoded_bytes
from metering.reports.operators.sources_answer import checklist_answer, corrections_since, frozen_answer, months_answer
from metering.reports.query import month_columns
from metering.reports.time_range import InvalidParametersError
from metering.units import DAY_S, GIB, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, World, load_batches, record
from tests.support.watched import WatchedRegion
from tests.unit.house.command_lines import parsed
from tests.unit.reports.test_closed_reports import OTHER
from tests.unit.reports.test_closed_reports import region as closed_region

if TYPE_CHECKING:
    from metering.reports.source import ReportSource

NOW_S = parse_hour("2026-11-24T13") + 1_800


def well(*, watched: bool = True) -> WatchedRegion:
    """A region at rest, right after its watch, canary and reconciler have run."""
    region = WatchedRegion(now_s=NOW_S, region="eu-west-1", stage="prod")
    region.put(CanaryRun(slot_s=NOW_S, sent_s=NOW_S, verdict=CanaryVerdict.GOOD, settled_s=NOW_S))
    region.put(Reconciliation(finished_s=NOW_S, hours=1, differences=0))
    if watched:
        region.watch.run()
    return region


@pytest.fixture
def region() -> WatchedRegion:
    return well()


def test_a_region_that_is_well_says_so_in_every_line_and_needs_nobody(region: WatchedRegion) -> None:
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
        "batches": "not counted in the last two days",
        "watch": "measured 0 s ago",
        "alarms": "none fires",
        "months": "2026-11 open, 2026-10 open, 2026-09 open",
        "pager": "1 confirmed",
    }


def test_a_dead_letter_needs_a_person_and_holds_completeness_back(region: WatchedRegion) -> None:
    region.clock.advance_s(MINUTE_S)
    region.dead.send_many(["x"])
    region.watch.run()
    assert region.status().needs_a_person
    assert region.line("dead letters").cure == "metering dlq list --region eu-west-1 --stage prod"
    complete = region.line("complete")
    redrive = "metering dlq redrive --region eu-west-1 --stage prod"
    assert (complete.state, complete.cure) == (Standing.ATTENTION, redrive)
    assert complete.value.endswith("held back by 1 dead letter (as of 0 s ago)")


def test_what_has_left_the_queue_since_the_watch_looked_is_told_as_of_then() -> None:
    """The output once had `queue ok empty` beside `held back by 2 messages in the ingest queue`."""
    region = well(watched=False)
    region.ingest.send_many(["x", "y"])
    region.watch.run()
    region.clock.advance_s(40)
    complete = region.line("complete").value
    assert "2 messages in the ingest queue" in complete
    assert complete.endswith("(as of 40 s ago)")


def test_messages_in_the_queue_are_well_until_the_oldest_is_late(region: WatchedRegion) -> None:
    region.ingest.send_many(["x", "y"])
    region.ingest.receive(1)
    region.age_s = 90
    value = "1 visible, 1 in flight, the oldest for 90 s"
    assert region.line("queue") == StatusLine(what="queue", state=Standing.OK, value=value)
    region.age_s = 16 * MINUTE_S
    assert region.line("queue").state is Standing.ACT
    assert region.line("queue").cure == "runbook oldest-batch"


# The status reads the other figures of the watch directly from the queues, or computes them from the note's age.
_ELSEWHERE = {Figure.DEAD_LETTERS, Figure.OLDEST_BATCH_AGE, Figure.HEARTBEAT}
_JUDGED = [spec for spec in ALARMS if spec.metric in set(Figure) - _ELSEWHERE]


@pytest.mark.parametrize("spec", _JUDGED, ids=[spec.name for spec in _JUDGED])
def test_each_figure_that_an_alarm_compares_is_judged_as_the_alarm_judges(spec: AlarmSpec) -> None:
    worse = spec.threshold - 1 if spec.comparison == "LessThanThreshold" else spec.threshold
    region = well()
    region.put(WatchFigures(measured_s=NOW_S, figures={**region.published, spec.metric: worse}))
    [bad] = [line for line in region.status().lines if line.state is not Standing.OK]
    assert (bad.state is Standing.ACT, bad.cure) == (spec.severity == "page", f"runbook {spec.runbook}")


def test_an_alarm_that_fires_is_named_with_its_runbook_and_one_that_pages_needs_a_person(region: WatchedRegion) -> None:
    region.alight = ["compactor-errors"]
    assert region.line("alarms") == StatusLine(
        what="alarms", state=Standing.ATTENTION, value="compactor-errors", cure="runbook compactor-errors"
    )
    region.alight.append("oldest-message")
    assert region.line("alarms").state is Standing.ACT
    assert region.line("alarms").cure == "runbook oldest-batch, runbook compactor-errors"
    assert region.status().firing == ("oldest-message", "compactor-errors")


def test_old_figures_are_told_as_old(region: WatchedRegion) -> None:
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


def test_a_month_that_is_closing_is_to_be_closed_and_old_ones_are_counted_out(region: WatchedRegion) -> None:
    region.put(Period(month="2026-10", state="closed", frozen_key="closed/2026-10.json"))
    assert region.line("months").value == "2026-11 open, 2026-10 closed, 2026-09 open"
    region.put(Period(month="2026-06", state="closing"))
    assert region.line("months") == StatusLine(
        what="months",
        state=Standing.ATTENTION,
        value="2026-11 open, 2026-10 closed, 2026-09 open, 2026-06 closing",
        cure="metering period close 2026-06 --region eu-west-1 --stage prod",
    )


def test_the_records_of_a_batch_are_told_with_what_fuller_batches_would_save(region: WatchedRegion) -> None:
    day_s = NOW_S - NOW_S % DAY_S
    note = Reconciliation(finished_s=NOW_S, hours=1, differences=0, day_s=day_s)
    day = Decimal(NOW_S - day_s) / DAY_S
    region.put(replace(note, batches=int(12_000_000 * day), records=int(1_200_000_000 * day)))
    # Nine tenths of 12 million batches a day, at 2 USD a million.
    assert region.line("batches").value == "100 records a batch in an hour; 1,000 would save about 21.60 USD a day"
    region.put(replace(note, batches_before=500, records_before=400_000, batches=100, records=200_000))
    assert region.line("batches").value == "1,000 records a batch in an hour"
    region.put(replace(note, batches_before=500, records_before=400_000, day_s=day_s - 2 * DAY_S))
    assert region.line("batches").value == "not counted in the last two days"


def test_a_batch_costs_its_marker_whatever_its_records() -> None:
    cost = batch_usd(marker_life_s=50 * DAY_S, scan_every_s=7 * DAY_S)
    # Two write units; one read unit, and a seventh of an eighth of one in each of 50 days; 530 bytes for 50 days.
    assert cost * 1_000_000 == pytest.approx(Decimal("1.25") + Decimal("0.24") + Decimal("0.37"), abs=Decimal("0.01"))
    assert batch_usd(marker_life_s=50 * DAY_S, scan_every_s=0) == batch_usd(
        marker_life_s=50 * DAY_S, scan_every_s=DAY_S
    )


def test_a_pager_that_nobody_confirmed_is_nobody(region: WatchedRegion) -> None:
    region.pagers = [Subscriber(protocol="email", endpoint="x@example.com", confirmed=False)]
    assert region.line("pager").state is Standing.ATTENTION


def test_the_page_is_read_with_few_calls_however_much_a_region_holds(region: WatchedRegion) -> None:
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


# Runbooks are found by the names that people have, and every command in them gets the right place.

PAGE = """# conflicts

See [dead letters](dead-letters.md), and [dead letters](dead-letters.md) again.

## How to see

```console
$ metering quarantine list --region REGION --stage STAGE
```

## How to check

```console
$ metering region status REGION --stage STAGE
```
"""


@pytest.mark.parametrize(("name", "subject"), [
    ("conflicts", Subject(runbook="conflicts")),
    ("dead-letter-queue", Subject(runbook="dead-letters")),
    ("metering-prod-dead-letters", Subject(runbook="dead-letters", stage="prod")),
    ("metering-eu-test-watch-errors", Subject(runbook="watch-errors", stage="eu-test")),
    (
        "arn:aws-cn:cloudwatch:cn-north-1:123456789012:alarm:metering-prod-oldest-message",
        Subject(runbook="oldest-batch", stage="prod", region="cn-north-1"),
    ),
])  # fmt: skip
def test_a_runbook_is_found_by_each_name_of_its_alarms(name: str, subject: Subject) -> None:
    assert subject_of(name) == subject


@pytest.mark.parametrize("name", ["", "nothing", "metering-prod", "metering--dead-letters", "prod-dead-letters"])
def test_another_name_is_refused_with_the_command_that_lists_them(name: str) -> None:
    with pytest.raises(OperationFailedError) as error:
        subject_of(name)
    assert "metering runbook" in error.value.advice


def test_the_state_of_all_pages_is_no_alarm_with_a_runbook() -> None:
    with pytest.raises(OperationFailedError, match="no runbook of its own"):
        subject_of("metering-prod-page-state")


def test_the_place_stands_in_every_command() -> None:
    text = placed(PAGE, region="eu-west-1", stage="prod")
    assert commands_by_part(text) == (
        ("How to see", "metering quarantine list --region eu-west-1 --stage prod"),
        ("How to check", "metering region status eu-west-1 --stage prod"),
    )


def test_the_runbooks_that_a_page_names_are_listed_once() -> None:
    assert linked_runbooks(PAGE) == ("dead-letters",)
    assert linked_runbooks("[a](sources.md#source-gaps), [b](#silent-sources)") == ("source-gaps", "silent-sources")


def test_a_runbook_of_a_shared_page_has_its_own_parts_and_those_of_all() -> None:
    items = "- `watch-errors`, `canary-errors`: Ours.\n  Now.\n- `rollup-errors`: No.\n- `other`: An item.\n"
    sections = "### rollup-errors\n\nNo.\n\n### canary-errors, watch-errors\n\nFUNCTION.\n\n### all\n\nAll.\n"
    own = "# watch-errors\n\nOurs.\n  Now.\n- `other`: An item.\n\nwatch.\n\nAll.\n"
    assert runbook_in(f"# function-errors\n\n{items}\n{sections}", "watch-errors") == own


def test_a_link_to_a_page_that_an_installed_package_lacks_becomes_its_words() -> None:
    text = placed("As [docs/guide.md](../guide.md#rollback) and [x](x.md) say.", region="eu-west-1", stage="prod")
    assert text == "As docs/guide.md and [x](x.md) say."


# Billing months: the contents of a closed month by any column, the list of months, and the checklist for a close.

OCTOBER, NOVEMBER = month_bounds_s("2026-10")
CLOSED_S = NOVEMBER + 4 * DAY_S


def source(world: World) -> ReportSource:
    return world.source()


def test_a_closed_month_is_shown_by_account_with_the_total_of_the_close() -> None:
    closer = closed_region().jobs.closer
    columns = month_columns("account_id")
    answer = frozen_answer(closer.frozen("2026-10"), closer.files, month="2026-10", state="closed", group_by=columns)
    assert answer.rows == [{"account_id": ACCOUNT, "bytes": 12}, {"account_id": OTHER, "bytes": 2**62}]
    document = json.loads(encoded_bytes(answer, "json"))
    assert (document["bytes"], document["records"]) == (str(12 + 2**62), 3)
    assert document["corrections"] == {"records": 0, "bytes": "0"}


def test_a_month_that_is_not_closed_has_no_rows_and_says_its_state() -> None:
    answer = frozen_answer(
        None, closed_region().jobs.frozen_files, month="2026-11", state="closing", group_by=("usage_type",)
    )
    assert (list(answer.rows), answer.meta["state"], answer.meta["bytes"]) == ([], "closing", "0")


def test_what_was_booked_later_for_a_closed_month_is_counted_and_nothing_else() -> None:
    assert corrections_since([source(closed_region())], ["2026-10"], now_s=CLOSED_S) == {"2026-10": Total(17, 1)}
    assert corrections_since([source(closed_region())], [], now_s=CLOSED_S) == {}


def test_the_list_says_who_closed_a_month_and_leaves_open_totals_empty() -> None:
    months = [
        MonthState(month="2026-11", state="open"),
        MonthState(month="2026-10", state="closed", total=Total(5, 1), closed_s=CLOSED_S),
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


# The storage report: costs of the lake, and costs of the same rows in other forms.


def storage(world: World, *, part_rows: int = 1_000_000, from_s: int = 0) -> StorageReport:
    sizer = JsonBatchSizer(world.objects, part_rows=part_rows)
    reporter = StorageReporter(items=world.items, objects=world.objects, view=world.jobs.view, sizer=sizer)
    return reporter.report(from_s=from_s)


def test_the_rows_of_earlier_hours_are_left_out_of_a_storage_report_that_begins_later() -> None:
    world = World()
    world.send([record(1, start_s=HOUR)], [record(2, start_s=HOUR - HOUR_S), record(3, start_s=HOUR - HOUR_S)])
    world.compact_all()
    found = (storage(world), storage(world, from_s=HOUR))
    assert [(each.sizes.records, each.lake_records) for each in found] == [(3, 3), (1, 1)]


def test_the_alternatives_are_computed_from_the_rows() -> None:
    world = World()
    records = [record(n, resource=f"i-{n:02}") for n in range(50)]
    world.send(records, records[:1])
    world.compact_all()
    for part_rows in (1_000_000, 10):
        report = storage(world, part_rows=part_rows)
        bodies = [
            json.dumps(
                {"batch_id": f"batch-{n}", "record_count": len(some), "records": some, "schema": "metering.batch/1"},
                separators=(",", ":"),
            ).encode()
            for n, some in enumerate((records, records[:1]))
        ]
        assert (report.sizes.batches, report.sizes.records) == (2, 51)
        assert report.sizes.json_bytes == sum(map(len, bodies))
        assert report.sizes.gzip_bytes == sum(len(gzip.compress(body, 6)) for body in bodies)
    assert report.json.usd_month == Decimal(report.sizes.json_bytes) / GIB * Decimal("0.023")
    assert report.lake_records == 51
    lake = sum(len(world.objects.get(key)) for key in world.objects.keys("lake/"))
    assert report.lake_bytes == lake
    assert {prefix.prefix for prefix in report.prefixes} == {"lake/", "markers/", "runs/", "staging/", "summaries/"}


def test_the_lake_costs_a_tenth_of_one_json_object_a_batch_or_less() -> None:
    """Larger files are cheaper: docs/decisions/0010-lake-files.md has figures for 2 M such records."""
    world = World()
    for batch in load_batches(20_000):
        world.send(batch, rolled_up=False)
    world.roll_up()
    world.compact_all()
    world.clock.advance_s(DAY_S)
    world.jobs.cleaner.run(world.deadline())
    report = storage(world)
    assert report.sizes.records == report.lake_records == 20_000
    assert report.saving(report.json) >= Decimal("0.9")
    assert 0 < report.saving(report.gzip) < report.saving(report.json)
    assert report.lake_bytes <= 16 * report.lake_records


def test_an_empty_region_has_a_report_too() -> None:
    report = storage(World())
    assert (report.sizes.batches, report.ours.usd_month, report.saving(report.json)) == (0, Decimal(0), Decimal(0))
    assert b"0 records in 0 batches" in encoded(storage_answer(report), Format.TABLE)


def test_a_table_names_prices_and_both_savings() -> None:
    world = World()
    world.send([record(n, resource=f"i-{n:02}") for n in range(50)])
    world.objects.put("ingest/a.ndjson", b"x" * 1_000, if_absent=True)
    world.objects.put("quarantine/2026-11-24/a.ndjson", b"x" * 10, if_absent=True)
    world.compact_all()
    answer = storage_answer(storage(world))
    text = encoded(answer, Format.TABLE).decode()
    for said in (
        "ingest/",
        "quarantine/",
        "one JSON object a batch",
        "one gzip a batch",
        "against gzip",
        "STANDARD 0.023",
    ):
        assert said in text
    assert set(json.loads(encoded(answer, Format.JSON))["savings"]) == {
        "json", "gzip", "json_with_requests", "gzip_with_requests"
    }  # fmt: skip


def test_small_objects_of_cheap_classes_are_billed_as_128_kib() -> None:
    assert billed_bytes("STANDARD", 1) == 1
    assert billed_bytes("STANDARD_IA", 1) == 128 * 1024
