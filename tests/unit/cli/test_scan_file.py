"""A command's scan resumes after a stop from its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from metering.audit.findings import Findings
from metering.audit.settling import ScanTooLongError
from metering.billing.freezing import NotClosable, PeriodNotClosableError
from metering.cli.commands.analyst.lake import _reconciled
from metering.cli.commands.analyst.periods import removed_at_the_end
from metering.cli.failures import WrongUsageError
from metering.cli.printing.scan_file import ScanFile, ScanOf
from metering.units import DAY_S
from tests.support.lake_world import NOW_S, World, record

if TYPE_CHECKING:
    from pathlib import Path

RANGE = (0, NOW_S + DAY_S)
OURS = ScanOf(command="reconcile", region="us-east-1", stage="local")


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(7, account="210987654321")])
    world.compact_all()
    return world


def test_a_scan_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    world, path = world_with_traffic(), tmp_path / "scan.gz"
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
    world = world_with_traffic()
    file = ScanFile(None, OURS)
    state = world.jobs.reconciler.begin(from_s=0, to_s=RANGE[1])
    file.keep(state, now=True)
    assert file.kept(world.items, deep=False, range_s=RANGE) is None
    file.remove()
    assert ScanFile(tmp_path / "none", OURS).kept(world.items, deep=False, range_s=RANGE) is None


def test_it_is_saved_at_most_every_few_seconds(tmp_path: Path) -> None:
    world, path = world_with_traffic(), tmp_path / "scan.gz"
    file, state = ScanFile(path, OURS), world.jobs.reconciler.begin(from_s=0, to_s=RANGE[1])
    file.keep(state, now=True)
    path.unlink()
    file.keep(state)
    assert not path.exists()


@pytest.mark.parametrize(("deep", "range_s"), [(True, RANGE), (False, (0, 3_600))])
def test_a_file_with_another_scan_is_refused(tmp_path: Path, deep: bool, range_s: tuple[int, int]) -> None:
    world, file = world_with_traffic(), ScanFile(tmp_path / "scan.gz", OURS)
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
    """A close needs a scan begun after its month stopped taking bookings; verify counts verdicts."""
    world, path = world_with_traffic(), tmp_path / "scan.gz"
    theirs = ScanOf(command=command, region=OURS.region, stage=OURS.stage)
    for saved, asked in ((OURS, theirs), (theirs, OURS)):
        state = world.jobs.reconciler.begin(from_s=RANGE[0], to_s=RANGE[1], deep=True)
        ScanFile(path, saved).keep(state, now=True)
        with pytest.raises(WrongUsageError, match=f"`metering {saved.command}` of region us-east-1"):
            ScanFile(path, asked).kept(world.items, deep=True, range_s=RANGE)
        assert ScanFile(path, saved).kept(world.items, deep=True, range_s=RANGE) is not None


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
