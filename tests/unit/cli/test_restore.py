"""`metering restore`: its plan, its refusals, its result, the trail, and the end of the old ledger."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import typer

from metering.cli.commands.platform import restore
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import OperationFailedError
from metering.fleet.regions import Phase, RegionState
from metering.fleet.settings.regions import Before, Change
from metering.ledger.notes.deeds import DeedState
from metering.operations.logged_errors import DeedTrail
from metering.restore.claim import Request
from metering.restore.ports import Outcome
from metering.settings import GivenSettings
from metering.units import DAY_S
from tests.support.command_line import OperatorSession
from tests.support.lake_world import World as LakeWorld
from tests.unit.restore.world import ADA, NEW, OLD, KilledError, Parts, World

if TYPE_CHECKING:
    from metering.ledger.notes.deeds import Deed

REGION = "eu-west-1"
T = "2026-11-30T01:00:00Z"


class Stage:
    """A stage whose region is restored, with a fleet that deploys by noting it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, home: str = "us-east-1", agreed: bool = True) -> None:
        self.world = World()
        self.parts = Parts(self.world)
        self.home_items = LakeWorld().items
        self.home = home
        self.phase = Phase.READY
        self.deployed: list[str] = []
        self.asked: dict[str, Any] = {}
        self.session = OperatorSession(LakeWorld(), region=REGION, agreed=agreed)
        monkeypatch.setattr("metering.wiring.restoring.RegionRestore", lambda _region: self.parts)
        monkeypatch.setattr(restore, "deploying_fleet", self._fleet)
        monkeypatch.setattr("time.time", lambda: self.world.clock.now_ms() / 1000)

    def _fleet(self, _session: object, **options: Any) -> object:
        self.asked = options

        def add(region: str, *, redeploy: bool) -> RegionState:
            assert redeploy
            assert self.world.format_of(NEW) is not None
            self.deployed.append(region)
            if self.phase is Phase.READY:
                self.world.deploy()
            return RegionState(region=region, phase=self.phase, advice="Run it again.")

        config = SimpleNamespace(queue_retention_s=4 * DAY_S)
        settings = SimpleNamespace(
            of=lambda _region: SimpleNamespace(config=config),
            change=lambda region: Change(region=region, differences=()),
            before=lambda _region: Before(given=GivenSettings(like="dev")),
        )
        return SimpleNamespace(
            home=self.home, caller=lambda: ADA, home_items=lambda: self.home_items, settings=settings,
            manager=SimpleNamespace(add=add),
        )  # fmt: skip

    def trail(self) -> list[Deed]:
        items = self.world.tables.items[NEW] if self.home == REGION else self.home_items
        return list(DeedTrail(items=items).between(0, 4_102_444_800))


def restored(stage: Stage, **options: Any) -> None:
    """Run the restore; undecided ids end it with 1."""
    with pytest.raises(typer.Exit) as ended:
        restore.restore(stage.session, **{"to": T, **options})
    assert ended.value.exit_code == 1


def test_a_restore_says_its_plan_deploys_the_region_and_names_what_is_undecided(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    restored(stage)
    out, err = capsys.readouterr()
    told = " ".join(err.split())
    for words in (
        f"T is {T}: what was accepted since is adopted from S3, so producers send nothing again",
        f"{NEW} becomes the ledger; {OLD} stays until metering restore finish",
        "restore window: 2026-11-21T07:00:00Z to 2026-11-30T06:55:00Z",
        "table 20 minutes to 10 hours, which AWS does not foretell (functions run meanwhile)",
        "decide and adopt about 4 hours for today's table",
        "about USD 90.00 for the restored table and USD 3.75 for writes",
        "the queue keeps messages for 4 days",
        "fence: the functions stop, and the old ledger is closed to them",
        "Undecided: edge-7 came with several contents",
        "Verify it: metering reconcile --deep --from 2026-11-30 --stage dev",
    ):
        assert words in told, words
    document = json.loads(out)
    assert (document["in_lake"], document["in_staging"], document["copied"], document["undecided"]) == (2, 0, 1, 1)
    assert document["undecided_ids"] == ["edge-7"]
    assert document["late_files"] == 1
    assert stage.deployed == [REGION]
    assert stage.world.aside == [OLD]
    assert stage.asked["options"].given == [f"ledger_table={NEW}"]
    assert stage.asked["restores"] == REGION
    [deed] = stage.trail()
    assert (deed.what, deed.subject, deed.state) == ("restore", f"--to {T}", DeedState.OK)
    assert "batches adopted: 1 copied, 2 lake; undecided: edge-7." in deed.result


def test_a_restore_of_everything_ends_well_and_a_new_usage_table_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.parts.outcome = Outcome(batches={"lake": 2})
    stage.world.has_kinds = False
    restore.restore(stage.session, from_nothing=True)
    usage = ["usage_table=metering-dev-usage-5", "tunables.usage_generation=5"]
    assert stage.asked["options"].given == [f"ledger_table={NEW}", *usage]


def test_a_dry_run_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    restore.restore(stage.session, to=T, dry_run=True)
    assert stage.world.claims.every() == []
    assert NEW not in stage.world.tables.items
    assert stage.trail() == []


def test_the_trail_of_the_home_region_is_in_the_ledger_that_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, home=REGION)
    restored(stage)
    [deed] = stage.trail()
    assert (deed.what, deed.state) == ("restore", DeedState.OK)
    [begun] = DeedTrail(items=stage.world.tables.items[OLD]).between(0, 4_102_444_800)
    assert (begun.deed_id, begun.state) == (deed.deed_id, DeedState.BEGUN)


def test_a_home_region_whose_ledger_is_gone_has_the_end_of_the_deed_in_its_trail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, home=REGION)
    del stage.world.tables.items[OLD]
    stage.world.objects.put("ledger/2/decision.ndjson.gz", b"all", if_absent=True)
    monkeypatch.setattr(World, "is_fenced", True)
    restored(stage, to=None, from_nothing=True)
    assert [deed.state for deed in stage.trail()] == [DeedState.OK]


def test_a_command_that_was_killed_goes_on_and_says_where(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    stage.world.kill_on = "fence.deny"
    with pytest.raises(KilledError):
        restore.restore(stage.session, to=T)
    stage.world.kill_on = ""
    capsys.readouterr()
    restored(stage)
    assert f"begun on 2026-11-30T07:00:00Z by {ADA}; it goes on with the step: fence" in capsys.readouterr().err


def test_a_deployment_that_fails_fails_the_restore_which_then_only_deploys(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.phase = Phase.FAILED
    with pytest.raises(CommandFailedError, match="is not ready"):
        restore.restore(stage.session, to=T)
    assert stage.trail()[0].state is DeedState.FAILED
    with pytest.raises(OperationFailedError, match="it has not ended"):
        restore.finish(stage.session)
    stage.phase = Phase.READY
    restored(stage)
    assert stage.deployed == [REGION, REGION]


def test_a_restore_changes_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.parts.version = "0.2.0"
    with pytest.raises(CommandFailedError, match=r"Version 0\.2\.0 is deployed") as refused:
        restore.restore(stage.session, to=T)
    assert "metering upgrade --stage dev" in refused.value.advice


@pytest.mark.parametrize(("options", "said"), [
    ({}, "Name either a time with --to, or --from-nothing."),
    ({"to": T, "from_nothing": True}, "Name either a time"),
    ({"from_copy": "copy", "from_nothing": True}, "--from-nothing has no copy"),
])  # fmt: skip
def test_a_wrong_command_line_is_refused(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongUsageError, match=said):
        restore.restore(Stage(monkeypatch).session, **options)


def test_the_steps_are_shown_with_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    restore.show(stage.session)
    assert json.loads(capsys.readouterr().out) == {"generation": 1, "rows": []}
    restored(stage)
    capsys.readouterr()
    restore.show(stage.session)
    document = json.loads(capsys.readouterr().out)
    assert (document["request"], document["step"], document["undecided_ids"]) == (f"--to {T}", "finish", ["edge-7"])
    states = {row["step"]: row["state"] for row in document["rows"]}
    assert states == {
        **dict.fromkeys(("table", "fence", "decide", "adopt", "open", "deploy"), "done"),
        "finish": "next",
    }


def test_the_old_ledger_is_dropped_after_late_files_are_withdrawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    restored(stage)
    capsys.readouterr()
    restore.finish(stage.session, dry_run=True)
    assert json.loads(capsys.readouterr().out)["rows"] == [
        {"generation": 2, "dropped_table": OLD, "withdrawn_files": 1}
    ]
    assert OLD in stage.world.tables.items
    restore.finish(stage.session)
    assert OLD not in stage.world.tables.items
    assert stage.world.late == []
    [deed] = stage.session.trail()
    assert (deed.what, deed.result) == ("restore finish", f"{OLD} dropped, 1 lake file withdrawn")
    capsys.readouterr()
    restore.finish(stage.session)
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_a_restore_after_a_lost_restored_ledger_finishes_both(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    stage.world.restore()
    stage.world.deploy()
    del stage.world.tables.items[NEW]
    stage.world.restore(Request(kind="nothing"))
    stage.world.deploy()
    restore.finish(stage.session)
    assert json.loads(capsys.readouterr().out)["rows"] == [
        {"generation": 2, "dropped_table": OLD, "withdrawn_files": 0},
        {"generation": 3, "dropped_table": NEW, "withdrawn_files": 1},
    ]
    assert stage.session.trail()[0].result == f"{OLD}, {NEW} dropped, 1 lake file withdrawn"
    assert stage.world.restores.unfinished() == []


def test_further_processes_assist_a_restore_from_nothing_only_while_it_adopts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Stage(monkeypatch)
    with pytest.raises(OperationFailedError, match="No restore from nothing is in the step adopt"):
        restore.assist(stage.session)
    claim = stage.world.claims.put(stage.parts.restores.asked(Request(kind="nothing"), ADA))
    with pytest.raises(OperationFailedError, match="No restore from nothing"):
        restore.assist(stage.session)

    def stop(step: str) -> None:
        if step == "adopt":
            raise KilledError

    with pytest.raises(KilledError):
        replace(stage.world.restorer(claim), say=stop).run()
    restore.assist(stage.session)
    assert "This process has put 1 marker." in capsys.readouterr().err
