"""`compact`, `reconcile`, `verify` and `trace`: steps before the work, and scans that are resumed after a stop."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

import pytest

from metering.audit.reconciler import Findings
from metering.audit.settling import ScanTooLongError
from metering.audit.verification import Difference
from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.cli.commands.analyst import lake
from metering.cli.commands.analyst.lake import ScanFile, ScanOf, _reconciled, compact_now
from metering.cli.commands.analyst.periods import removed_at_the_end
from metering.cli.commands.analyst.report import trace
from metering.cli.commands.operator.verify import wait_until_all_settled, wait_until_settled
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import LedgerCorruptError
from metering.hours import rfc3339
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import waiting_in, waiting_key
from metering.ledger.format_version import RESTORED_FORMAT, ledger_format
from metering.reports.time_range import InvalidParametersError
from metering.stores.queues import QueueDepth
from metering.stores.writes import Put, Table, Update
from metering.units import DAY_S
from metering.usage.totals import Total
from tests.support.command_line import HereSession
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record
from tests.support.usage_items import change, usage_of
from tests.unit.audit.test_reconcile import EVERYTHING, world_with_traffic
from tests.unit.reports.test_trace import OUT
from tests.unit.reports.test_trace import world_with_traffic as traced_world
from tests.unit.rollup.small_region import SmallRegion, row

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from metering.audit.verifier import Verifier


def test_what_waits_is_rolled_up_also_if_its_rows_are_not_due() -> None:
    world = World()
    world.send([record(5), record(7)], rolled_up=False)
    assert compact_now(world.jobs, due=True).rows == 0
    assert list(waiting_in(world.items, 0)) == []
    assert [len(Pending.from_item(item).hours) for item in pending_in(world.items, 0)] == [1]
    assert sum(total.bytes for total in world.usage().values()) == 12


def test_a_roll_up_that_stops_is_named_and_everything_else_is_done() -> None:
    world = World()
    world.send([record(5)])
    world.send([record(7)], rolled_up=False)
    [item] = waiting_in(world.items, 0)
    commit_id = str(item["sk"])
    world.items.update(Update(table=Table.LEDGER, key=waiting_key(0, commit_id), remove=("totals",)))
    with pytest.raises(LedgerCorruptError, match=commit_id):
        compact_now(world.jobs)
    assert len(world.objects.keys("lake/")) == 1


def test_commits_that_never_stop_do_not_keep_it_from_compacting() -> None:
    world = World()
    world.send([record(5)], rolled_up=False)
    came = busy = 0

    def come(call: str) -> None:
        nonlocal came, busy
        # Before each transaction that places a commit, another commit arrives. The limit ends the test if it fails.
        if call == "items.transact" and not busy and came < 50:
            came, busy = came + 1, 1
            world.send([record(1)], rolled_up=False)
            busy = 0

    world.items.on_call = come
    assert compact_now(world.jobs).rows == 1
    assert 0 < came < 10


def test_figures_are_called_by_what_has_them_and_keep_their_first_names() -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    after = world.usage()[entry.key]
    change(world.items, entry, -3, 2)
    answer = lake.reconciliation_answer(world.jobs.reconciler.run(**EVERYTHING, deep=True))
    [row] = answer.rows
    assert row["between"] == "usage/rows"
    assert (row["usage_bytes"], row["usage_records"]) == (after.bytes - 3, after.records + 2)
    assert (row["rows_bytes"], row["rows_records"]) == (after.bytes, after.records)
    assert (row["expected_bytes"], row["found_bytes"]) == (after.bytes - 3, after.bytes)
    assert {column.name for column in answer.columns} >= {*row}


# If the other side is neither usage nor markers, the ledger's figure is the one that is expected.
@pytest.mark.parametrize("name", ["markers", "ledger"])
def test_a_figure_is_never_called_by_what_does_not_have_it(name: str) -> None:
    found = Difference(between=f"{name}/rows", hour_s=0, expected=Total(1, 2), found=Total(3, 4))  # type: ignore[arg-type]  # one of its texts
    figures = {key: value for key, value in lake._difference_row(found).items() if key.endswith(("_bytes", "_records"))}
    sides = {name: Total(1, 2), "expected": Total(1, 2), "rows": Total(3, 4), "found": Total(3, 4)}
    assert figures == {
        f"{side}_{part}": value for side, total in sides.items() for part, value in total._asdict().items()
    }


@pytest.mark.parametrize(("number", "words"), [(1, "1 place"), (2, "2 places")])
def test_places_are_counted_in_english(number: int, words: str) -> None:
    assert lake._places(number) == words


# `metering verify` over several regions: all regions share one waiting time.


@dataclass(slots=True, kw_only=True)
class Waiting:
    """Regions that each settle after `each_s`, if given that time."""

    each_s: int
    now_s: float = 0
    given_s: list[int] = field(default_factory=list)

    def wait(self, duration_s: int, _tell: object) -> bool:
        self.given_s.append(duration_s)
        self.now_s += min(duration_s, self.each_s)
        return duration_s >= self.each_s


def test_the_regions_share_the_time_to_wait_and_each_is_looked_at() -> None:
    regions = Waiting(each_s=50)
    verifier = cast("Verifier", regions)
    wait_until_all_settled(dict.fromkeys("abcd", verifier), 120, now_s=lambda: regions.now_s)
    assert regions.given_s == [120, 70, 20, 1]


def test_without_a_time_to_wait_no_region_is_waited_for() -> None:
    regions = Waiting(each_s=50)
    wait_until_all_settled({"a": cast("Verifier", regions)}, 0, now_s=lambda: regions.now_s)
    assert regions.given_s == []


class LooksOnce:
    """A region whose queue is empty when it is first read."""

    def wait(self, _duration_s: int, tell: Callable[[QueueDepth], None]) -> bool:
        tell(QueueDepth(visible=0, in_flight=0, delayed=0))
        return True


def test_commits_that_never_stop_do_not_keep_the_roll_up_between_two_looks() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    came = 0

    def come(call: str) -> None:
        nonlocal came
        # Before each transaction that places a commit, another commit arrives. The limit ends the test if it fails.
        if call == "items.transact" and came < 50:
            came += 1
            region.commit(f"d{came}", [row(1)])

    region.items.on_call = come
    assert wait_until_settled(cast("Verifier", LooksOnce()), 10, rollup=region.rollup())
    assert 0 < came < 10


# After a stop, a command's scan resumes from the state in the command's file.

RANGE = (0, NOW_S + DAY_S)
OURS = ScanOf(command="reconcile", region="us-east-1", stage="local")


def two_accounts() -> World:
    world = World()
    world.send([record(5), record(7, account="210987654321")])
    world.compact_all()
    return world


def test_a_scan_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    world, path = two_accounts(), tmp_path / "scan.gz"
    reconciler, parts = world.jobs.reconciler, 0

    def stop() -> None:
        nonlocal parts
        parts += 1
        if parts > 4:
            raise ScanTooLongError

    state = reconciler.begin(from_s=0, to_s=RANGE[1], deep=True)
    file = ScanFile(path, OURS)
    with pytest.raises(ScanTooLongError):
        reconciler.census.go_on(state, limit=stop, tell=lambda now: file.keep(now, now=True))
    kept = ScanFile(path, OURS).kept(world.items, deep=True, range_s=RANGE)
    assert kept is not None
    assert (kept.phase, kept.done) == (state.phase, state.done)
    assert kept.phase != "done"
    result = _reconciled(reconciler, kept, ScanFile(path, OURS))
    assert all(check.agrees for check in result.checks)
    found = Findings(kept, reconciler.figures.may_lack_markers)
    assert [check.hour_s for check in result.checks] == list(found.checks())
    assert not path.exists()


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    world = two_accounts()
    file = ScanFile(None, OURS)
    state = world.jobs.reconciler.begin(from_s=0, to_s=RANGE[1])
    file.keep(state, now=True)
    assert file.kept(world.items, deep=False, range_s=RANGE) is None
    file.remove()
    assert ScanFile(tmp_path / "none", OURS).kept(world.items, deep=False, range_s=RANGE) is None


def test_it_is_saved_at_most_every_few_seconds(tmp_path: Path) -> None:
    world, path = two_accounts(), tmp_path / "scan.gz"
    file, state = ScanFile(path, OURS), world.jobs.reconciler.begin(from_s=0, to_s=RANGE[1])
    file.keep(state, now=True)
    path.unlink()
    file.keep(state)
    assert not path.exists()


@pytest.mark.parametrize(("deep", "range_s"), [(True, RANGE), (False, (0, 3_600))])
def test_a_file_with_another_scan_is_refused(tmp_path: Path, deep: bool, range_s: tuple[int, int]) -> None:
    world, file = two_accounts(), ScanFile(tmp_path / "scan.gz", OURS)
    file.keep(world.jobs.reconciler.begin(from_s=RANGE[0], to_s=RANGE[1]), now=True)
    with pytest.raises(WrongUsageError, match="another range or depth"):
        file.kept(world.items, deep=deep, range_s=range_s)
    assert file.kept(world.items, deep=False, range_s=None) is not None


def test_a_file_that_is_no_scan_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    with pytest.raises(WrongUsageError, match="no scan"):
        ScanFile(path, OURS).kept(World().items, deep=False, range_s=None)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("command", ["verify", "period close"])
def test_a_file_of_another_command_is_refused(tmp_path: Path, command: Literal["verify", "period close"]) -> None:
    """A close needs a scan begun after the last bookings in the month; verify's scan also counts verdicts."""
    world, path = two_accounts(), tmp_path / "scan.gz"
    theirs = ScanOf(command=command, region=OURS.region, stage=OURS.stage)
    for saved, asked in ((OURS, theirs), (theirs, OURS)):
        state = world.jobs.reconciler.begin(from_s=RANGE[0], to_s=RANGE[1], deep=True)
        ScanFile(path, saved).keep(state, now=True)
        with pytest.raises(WrongUsageError, match=f"`metering {saved.command}` of region us-east-1"):
            ScanFile(path, asked).kept(world.items, deep=True, range_s=RANGE)
        assert ScanFile(path, saved).kept(world.items, deep=True, range_s=RANGE) is not None


def test_a_file_of_before_a_restore_is_refused(tmp_path: Path) -> None:
    world, path = two_accounts(), tmp_path / "scan.gz"
    ScanFile(path, OURS).keep(world.jobs.reconciler.begin(from_s=0, to_s=RANGE[1], deep=True), now=True)
    found = ledger_format(world.items)
    assert found is not None
    restored = replace(found, number=RESTORED_FORMAT, generation=2)
    world.items.put(Put(table=Table.LEDGER, item=restored.to_item()))
    with pytest.raises(WrongUsageError, match="before the ledger was restored"):
        ScanFile(path, OURS).kept(world.items, deep=True, range_s=RANGE)


def test_the_file_of_a_close_stays_until_the_month_is_closed_or_its_totals_differ(tmp_path: Path) -> None:
    file, path = ScanFile(tmp_path / "scan.gz", OURS), tmp_path / "scan.gz"
    for cause, stays in (
        (NotClosable.COMPACTION_UNFINISHED, True),
        (NotClosable.HOURS_UNSTABLE, True),
        (NotClosable.TOTALS_DIFFER, False),
        (NotClosable.OBJECT_DIFFERS, False),
    ):
        path.write_bytes(b"counted")
        with pytest.raises(PeriodNotClosableError), removed_at_the_end(file):
            raise PeriodNotClosableError("2026-10", cause, "why")
        assert path.exists() == stays, cause
    path.write_bytes(b"counted")
    with pytest.raises(KeyboardInterrupt), removed_at_the_end(file):
        raise KeyboardInterrupt
    assert path.exists()
    with removed_at_the_end(file):
        pass
    assert not path.exists()


# `metering trace`: one command answers where a number comes from, and fails if the sums are not equal.


def test_one_line_comes_down_to_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    trace(HereSession(traced_world()), ACCOUNT, usage_type=OUT, hour=rfc3339(HOUR))
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is True
    assert found["sums"] == {"usage": "18", "rows": "18", "markers": "18"}
    assert [each["batch_id"] for each in found["batches"]] == ["batch-0", "batch-2"]


def test_sums_that_differ_are_shown_and_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    world = traced_world()
    change(world.items, next(each for each in usage_of(world.items) if each.key.account_id == ACCOUNT), 1)
    with pytest.raises(CommandFailedError, match="not what the rows say"):
        trace(HereSession(world), ACCOUNT, start="2026-11")
    assert json.loads(capsys.readouterr().out)["sums"] == {"usage": "47", "rows": "46", "markers": "46"}


def test_an_empty_line_says_so_and_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    trace(HereSession(traced_world()), ACCOUNT, usage_type="NoSuch", start="2026-11-24")
    out, err = capsys.readouterr()
    assert json.loads(out)["batches"] == []
    assert f"metering report usage --account {ACCOUNT}" in err.replace("\n", "")


def test_a_range_with_very_many_hours_is_said_to_take_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metering.cli.commands.analyst.report._QUICK_HOURS", 1)
    trace(HereSession(traced_world()), ACCOUNT, start="2026-11")
    assert "The rows of 2 hours are read" in capsys.readouterr().err
    trace(HereSession(traced_world()), ACCOUNT, hour=rfc3339(HOUR))
    assert "are read" not in capsys.readouterr().err


def test_what_makes_no_sense_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidParametersError, match="hour"):
        trace(HereSession(traced_world()), ACCOUNT, hour="2026-11-24T13:00:01Z")
