"""The region of the scale harness is consistent at any size, and the harness's projection reports violations."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from load_tests.scale.bench import Bench, Result, Step, WrongResultError, expect
from load_tests.scale.items import WRITE_UNITS, ComputedItems
from load_tests.scale.jobs import AS_NEEDED, JOBS, Job, Size
from load_tests.scale.meter import WAITS, MemoryWatch, Meter, deep_bytes
from load_tests.scale.objects import ComputedObjects
from load_tests.scale.projection import line, project
from load_tests.scale.region import KINDS, ROUNDS, Region, account_id
from load_tests.scale.restoring import FromNothing
from load_tests.scale.templates import Staging, Templates
from metering.audit.sequences import MarkerSurvey
from metering.audit.source_keeping import sources_known
from metering.hours import hour_label, month_bounds_s
from metering.lake.parquet.reader import ParquetLakeReader, ParquetTotals
from metering.lake.ports import BATCH_QUERY, batches_of
from metering.lake.view import LakeView
from metering.ledger.booked_hours import LakeFile, Published
from metering.ledger.markers import Marker, MarkerGlance, is_marker, marker_key
from metering.ledger.usage.kinds import all_accounts
from metering.ledger.usage.reading import UsageReading
from metering.ledger.usage.region import NEVER, region_start
from metering.stores.objects import lake_prefix
from metering.stores.writes import Delete, Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S, MIB
from metering.usage.totals import REGION, ZERO, Total, UsageKey, sum_totals

BEGIN_S = month_bounds_s("2026-09")[0]


def region(accounts: int = 10, days: int = 12) -> Region:
    return Region(accounts, BEGIN_S, BEGIN_S + days * DAY_S)


class World:
    """The stores of a generated region, with the region's files."""

    def __init__(self, made: Region, folder: Path, staging: Staging | None = None) -> None:
        templates = Templates(folder)
        templates.write(made, rows=True, totals=True)
        if staging is not None:
            templates.write_staging(staging)
        self.meter = Meter()
        self.items = ComputedItems(made, self.meter, staging=staging)
        self.objects = ComputedObjects(
            made, self.meter, templates=templates, written=folder / "written", staging=staging
        )
        self.view = LakeView(
            items=self.items, objects=self.objects, reader=ParquetLakeReader(self.objects, readers=1), shards=1
        )


@pytest.mark.parametrize("accounts", [10, 50])
@pytest.mark.parametrize("hour", [0, 37, 200])
def test_rows_usage_markers_and_totals_of_an_hour_agree(tmp_path: Path, accounts: int, hour: int) -> None:
    made = region(accounts)
    world = World(made, tmp_path)
    hour_s = BEGIN_S + hour * HOUR_S
    rows = world.view.hour_usage(hour_s)
    reading = UsageReading(world.items)
    usage: dict[UsageKey, Total] = {}
    for number in range(accounts):
        for item in reading.of_month(account_id(number), "2026-09", from_s=hour_s, to_s=hour_s + HOUR_S):
            usage.update(reading.totals(item))
    assert rows == usage
    assert len(rows) == accounts * KINDS
    assert sum_totals(rows.values()) == made.hour_total(hour_s)
    beside = ParquetTotals(world.objects, world.view.reader)
    kept: dict[UsageKey, Total] = {}
    for published in world.items.query(Table.LEDGER, f"H#2026-09-{1 + hour // 24:02d}T{hour % 24:02d}"):
        for key, total in beside.summed(list(Published.from_item(published).files)):
            kept[key] = kept.get(key, ZERO).plus(total)
    assert kept == rows
    batches = batches_of(world.view.hour_totals(hour_s, BATCH_QUERY))
    found = world.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in batches])
    markers = map(Marker.from_item, found.values())
    assert batches == {marker.batch_id: marker.hours[hour_s] for marker in markers}


def test_there_is_a_marker_for_each_batch_that_has_rows_and_no_other() -> None:
    made = region(days=3)
    items = ComputedItems(made, Meter())
    marked: dict[int, Total] = {}
    for item in items.scan(Table.LEDGER):
        if is_marker(item):
            for hour_s, total in Marker.from_item(item).hours.items():
                marked[hour_s] = marked.get(hour_s, ZERO).plus(total)
    assert marked == {hour_s: made.hour_total(hour_s) for hour_s in range(made.begin_s, made.end_s, HOUR_S)}


def test_what_is_late_is_there_when_its_day_has_come(tmp_path: Path) -> None:
    made = region()
    totals = [made.hour_total(BEGIN_S + day * DAY_S).records for day in range(12)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > totals[-1]
    world = World(made, tmp_path)
    assert world.view.hours() == list(range(made.begin_s, made.end_s, HOUR_S))


def test_parts_of_a_table_are_the_whole_table_once() -> None:
    items = ComputedItems(region(days=1), Meter())
    for table in Table.LEDGER, Table.USAGE:
        whole = sorted((str(item["pk"]), str(item["sk"])) for item in items.scan(table))
        parts = [
            (str(item["pk"]), str(item["sk"])) for part in range(7) for item in items.scan(table, part=part, parts=7)
        ]
        assert sorted(parts) == whole
        assert len(set(whole)) == len(whole) > 0


def test_what_is_written_is_kept_and_hides_what_is_computed() -> None:
    made = region()
    items = ComputedItems(made, Meter())
    key = Key(f"A#{account_id(3)}#2026-09", "2026-09-02T00##0")
    before = items.get(Table.USAGE, key)
    assert before is not None
    items.update(Update(table=Table.USAGE, key=key, add={"b0": 5, "v": 1}))
    after = items.get(Table.USAGE, key)
    assert after == {**before, "b0": int(str(before["b0"])) + 5, "v": int(str(before["v"])) + 1}
    assert [item for item in items.query(Table.USAGE, key.pk) if item["sk"] == key.sk] == [after]
    items.delete(Delete(table=Table.USAGE, key=key))
    assert items.get(Table.USAGE, key) is None
    assert all(item["sk"] != key.sk for item in items.query(Table.USAGE, key.pk))
    assert all(item["sk"] != key.sk or item["pk"] != key.pk for item in items.scan(Table.USAGE))
    items.put(Put(table=Table.LEDGER, item={"pk": "W#x", "sk": "W"}))
    assert items.get(Table.LEDGER, Key("W#x", "W")) == {"pk": "W#x", "sk": "W"}


def test_a_staged_commit_has_the_rows_that_its_entry_says(tmp_path: Path) -> None:
    made = region(accounts=50, days=2)
    for waiting in (True, False):
        staging = Staging(made, made.commits_an_hour, waiting=waiting)
        world = World(made, tmp_path, staging)
        total = world.view.hour_between(staging.hour_s).total
        assert total.records == made.commits_an_hour * 40 * 100
        assert sum_totals(world.view.hour_usage(staging.hour_s).values()) == total


def test_a_read_of_a_file_counts_as_a_call_and_the_wait_follows_from_the_size(tmp_path: Path) -> None:
    made = region()
    world = World(made, tmp_path)
    item = next(iter(world.items.query(Table.LEDGER, "H#2026-09-03T00")))
    file: LakeFile = Published.from_item(item).files[0]
    world.meter.waited_ms = 0.0
    world.meter.calls.clear()
    body = world.objects.get(file.key)
    assert world.meter.calls == {"s3.get": 1}
    assert world.meter.waited_ms == pytest.approx(WAITS["s3.get"].ms + WAITS["s3.get"].megabyte_ms * len(body) / 1e6)
    with world.objects.open(file.key) as stream:
        assert stream.read() == body


@pytest.mark.long
def test_a_wrong_result_fails_a_measurement(tmp_path: Path) -> None:
    bench = Bench(region(), tmp_path)
    bench.step(lambda: expect(right=True))
    with pytest.raises(WrongResultError, match="wrong"):
        bench.step(lambda: expect(right=True, wrong=False))


def _result(share: float, seconds: float, memory_mib: int = 100) -> Result:
    step = Step(cpu_s=seconds / 2, sdk_s=0.0, waited_s=seconds / 2, calls={})
    return Result(job="job", accounts=1, share=share, steps={"run": step, "other": step}, memory_mib=memory_mib)


JOB = replace(JOBS["orphans"], name="job", a_day={"run": 2}, within_s=100, memory_mb=None)


def test_a_line_through_two_sizes_gives_the_multiple_of_the_target() -> None:
    found = project(JOB, _result(0.01, 1.1), _result(0.1, 2.0))
    # 1 second and 10 seconds a target, twice.
    assert found.target_s == pytest.approx(22)
    assert found.multiple == pytest.approx((100 - 2) / 20)
    assert found.problems == []
    assert "4.9" in line(found)


def test_memory_that_grows_up_to_a_limit_is_projected_from_beyond_it() -> None:
    job = replace(JOB, sizes=(Size(100, 1), Size(1_000, 1), Size(3_000, 1)))
    results = [_result(0.01, 1.1, 100), _result(0.1, 2.0, 300), _result(0.3, 4.0, 310)]
    found = project(job, *results)
    assert found.memory_at_needed_mib == pytest.approx(310 + 10 / 0.2 * 2.7, abs=1)
    assert found.problems == []
    assert "1/100, 1/10 and 3/10" in line(found)
    assert "100, 300 and 310" in line(found)


def test_what_was_measured_at_three_times_the_target_is_not_projected() -> None:
    job = replace(JOB, sizes=(Size(1_000, 1), Size(30_000, 1)))
    found = project(job, _result(0.1, 2.0, 300), _result(3.0, 30.0, 900))
    assert found.memory_at_needed_mib == 900
    assert "1/10 and 3 x" in line(found)


def test_usage_that_is_updated_is_told_so_that_keeping_it_is_no_time_of_the_job() -> None:
    items = ComputedItems(region(), Meter())
    key = Key(f"A#{account_id(3)}#2026-09", "2026-09-02T00##0")
    items.update(Update(table=Table.USAGE, key=key, add={"v": 1}))
    assert items.computed["updated"] == 1


@pytest.mark.parametrize(("large", "problem"), [
    (_result(0.1, 4.0), "times the target"),
    (_result(0.1, 2.0, memory_mib=200), "MiB at 3 times"),
    (_result(0.1, 20.0), "grows faster"),
])  # fmt: skip
def test_what_does_not_hold_is_named(large: Result, problem: str) -> None:
    found = project(JOB, _result(0.01, 1.1), large)
    assert any(problem in each for each in found.problems)


def test_a_function_with_half_a_core_takes_twice_the_processor_time() -> None:
    whole = project(JOB, _result(0.01, 1.1), _result(0.1, 2.0))
    half = project(replace(JOB, memory_mb=1_769 // 2), _result(0.01, 1.1), _result(0.1, 2.0))
    assert half.target_s == pytest.approx(1.5 * whole.target_s, rel=0.01)


def test_every_job_of_the_issue_is_measured() -> None:
    regular = {
        "close",
        "verify",
        "scan",
        "quick-pass",
        "watch",
        "orphans",
        "compactor",
        "rollup-15",
        "rollup-60",
        "canary",
    }
    assert set(JOBS) == {*regular, "restore"}
    assert {name for name in JOBS if JOBS[name].needed == 3.0} == regular


def _restored(share: float, *, nothing_s: float) -> Result:
    steps = {
        name: Step(
            cpu_s=share * (nothing_s if name == "nothing" else 100.0), sdk_s=0, waited_s=1.0, calls={WRITE_UNITS: 1}
        )
        for name in ("nothing", "decide", "commits", "copies", "usage")
    }
    return Result(job="restore", accounts=1, share=share, steps=steps)


def test_processes_share_the_markers_of_a_ledger_made_from_nothing_as_fast_as_its_table_takes_them() -> None:
    found = FromNothing.of(_restored(0.01, nothing_s=300.0), _restored(0.1, nothing_s=300.0))
    assert found.shared_s == pytest.approx({"plans and files": 1_200.0, "markers": 360_000.0})
    assert found.hours(1) - found.hours(4) == pytest.approx(361_200 * 3 / 4 / 3_600)
    limited = replace(found, write_units=40_000.0 * 361_200)
    assert limited.hours(4) == pytest.approx(found.hours(1))
    assert found.problems() == ["restore from nothing: 25.5 h by 4 processes"]
    assert "| write units | 14,448 million, 9,030 USD |" in limited.lines()


def _with_part(besides_mib: int | None) -> Job:
    part = JOBS["verify"].part
    assert part is not None
    return replace(JOB, part=replace(part, says="four hours", sizes=AS_NEEDED, besides_mib=besides_mib))


def test_memory_of_a_census_is_that_of_its_hours_and_the_bound_of_its_cells() -> None:
    times = [_result(0.01, 1.1, 400), _result(0.1, 2.0, 500)]
    found = project(_with_part(256), *times, part=[_result(1.0, 1.0, 200), _result(2.0, 1.0, 220)])
    assert found.memory_at_needed_mib == 220 + 20 + 256
    assert "; four hours at 1 x and 3 x" in line(found)
    assert "400, 500, 200 and 220" in line(found)


def test_memory_of_a_job_that_is_at_its_limits_grows_with_its_part() -> None:
    times = [_result(0.1, 1.1, 400), _result(0.25, 2.0, 500)]
    found = project(_with_part(None), *times, part=[_result(1.0, 1.0, 200), _result(3.0, 1.0, 300)])
    assert found.memory_at_needed_mib == pytest.approx(500 + 100 / 2 * 2.75, abs=1)


def test_a_part_that_grows_too_much_is_named() -> None:
    times = [_result(0.01, 1.1), _result(0.1, 2.0)]
    found = project(_with_part(256), *times, part=[_result(1.0, 1.0, 200), _result(3.0, 1.0, 900)])
    assert any("MiB at 3 times the target" in problem for problem in found.problems)


def test_a_large_hour_is_in_files_that_are_full_at_most_and_add_up_to_it(tmp_path: Path) -> None:
    made = region(accounts=50, days=1)
    whole = made.file_total(0)
    assert made.files == 1
    assert [Region(accounts, 0, DAY_S).files for accounts in (2_500, 5_000, 10_000, 30_000)] == [1, 2, 4, 12]
    made.__dict__["files"] = 3
    totals = [made.file_total(0, number) for number in range(3)]
    assert sum_totals(totals) == whole
    world = World(made, tmp_path)
    hour_s = made.begin_s + 7 * HOUR_S
    [item] = world.items.query(Table.LEDGER, f"H#{hour_label(hour_s)}")
    assert [Total(file.bytes, file.rows) for file in Published.from_item(item).files] == totals
    assert [info.key for info in world.objects.list(lake_prefix(hour_s))] == [
        file.key for file in Published.from_item(item).files
    ]
    assert sum_totals(world.view.hour_usage(hour_s).values()) == whole
    batches = batches_of(world.view.hour_totals(hour_s, BATCH_QUERY))
    assert len(batches) == made.batches_an_hour - sum(map(len, made.late_blocks.values()))


def test_a_scan_of_a_computed_region_keeps_only_the_numbers_of_its_last_day() -> None:
    made = region(days=3)
    items = ComputedItems(made, Meter())
    survey = MarkerSurvey(sources=sources_known(items))
    part = survey.part()
    for item in items.scan(Table.LEDGER):
        if is_marker(item):
            part.add(MarkerGlance.of_item(item))
    survey.merge(part)
    kept = sum(map(len, survey.sources.values()))
    # One hour more: that scan saw decisions until then, and clocks differ.
    assert kept == 25 * made.blocks * (ROUNDS - 1)
    assert not survey.unkept


def test_memory_of_what_a_job_has_written_is_taken_out_and_that_of_its_work_is_not() -> None:
    kept: dict[int, bytes] = {}
    work_bytes = 200 * MIB
    watch = MemoryWatch(lambda: len(kept), lambda: work_bytes + deep_bytes(dict(kept)))
    time.sleep(0.1)
    work_bytes = 20 * MIB
    kept |= {number: bytes(1_000) for number in range(60_000)}
    assert deep_bytes(kept) == pytest.approx(60_000 * 1_100, rel=0.1)
    time.sleep(0.5)
    # The first work needed the most memory, although the process is now larger.
    work_bytes = 150 * MIB
    time.sleep(0.5)
    assert watch.most_mib(kept) == pytest.approx(200, abs=5)


def test_memory_of_this_process_is_known() -> None:
    watch = MemoryWatch(lambda: 0)
    time.sleep(0.1)
    assert watch.most_mib(()) > 20


def test_the_regions_item_of_an_hour_is_the_sum_of_the_accounts() -> None:
    made = region(20)
    items = ComputedItems(made, Meter())
    before = region_start(items)
    assert before is not None
    assert before.since_s == NEVER
    items.with_region()
    start = region_start(items)
    assert start is not None
    assert (start.since_s, len(list(all_accounts(items)))) == (0, 20)
    for hour_s in (made.begin_s, made.end_s - HOUR_S):
        [read] = UsageReading(items).of_month(REGION, "2026-09", from_s=hour_s, to_s=hour_s + HOUR_S)
        each = [items.usage_item(account, hour_s) for account in range(20)]
        for number in range(KINDS):
            assert read.totals[number].bytes == sum(int(str(item[f"b{number}"])) for item in each)
