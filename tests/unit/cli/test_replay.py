"""`metering replay`: it sends the given input where that does no harm, and labels expectations as such."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.cli.commands.developer.replay import _answer
from metering.cli.connecting import dead_emulator_told
from metering.cli.failures import CommandFailedError
from metering.errors import UnavailableError
from metering.replay.given import SAMPLE, Traffic
from metering.replay.scenarios import SCENARIOS
from metering.replay.sender import SendingFailedError
from tests.cli.lively import Lively
from tests.cli.record import _at_one_moment
from tests.support.answering import remember_emulator, serving
from tests.support.command_line import run
from tests.support.lake_world import NOW_S, World, record

if TYPE_CHECKING:
    from metering.reports.answer import Json
    from metering.stores.queues import Queue

REFUSED = "Stage dev in us-east-1 is not on an emulator"


pytestmark = pytest.mark.usefixtures("nobody")


def replayed(file: Path, *more: str) -> Result:
    return run("replay", "--input", file, "--manifest", file.with_name("m.json"), "--threads", "1", *more)


def test_without_a_scenario_and_without_a_file_nothing_is_sent_and_it_says_what_can_be() -> None:
    result = run("replay")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Error: Nothing was sent")
    for name, scenario in SCENARIOS.items():
        assert f"  {name:8}{scenario.about}" in lines
    assert all(len(line) <= 80 for line in lines[1:])
    assert "--input" in result.stderr


def test_made_up_traffic_is_refused_where_no_emulator_answers_whatever_the_stage_is_called() -> None:
    with serving({"/": b"a door to AWS"}) as endpoint:
        result = CliRunner().invoke(
            app, ["replay", "--scenario", "clean", "--stage", "dev", "--endpoint", endpoint, "--yes"]
        )
    assert (result.exit_code, result.stdout) == (2, "")
    assert REFUSED in result.stderr
    assert "metering local up" in result.stderr


def test_made_up_traffic_is_refused_on_aws_with_yes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    result = CliRunner().invoke(app, ["replay", "--scenario", "mixed", "--stage", "dev", "--yes"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert REFUSED in result.stderr


def test_for_a_stage_of_emulators_it_says_that_none_runs() -> None:
    result = CliRunner().invoke(app, ["replay", "--scenario", "mixed"])
    assert result.exit_code == 1
    assert "none runs here" in result.stderr


def test_records_of_a_file_are_a_deed_where_no_emulator_answers() -> None:
    result = CliRunner().invoke(app, ["replay", "--input", str(SAMPLE), "--shift-to-now", "--stage", "dev"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "add --yes" in result.stderr


def test_problems_of_a_file_are_told_once_each_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "old.ndjson"
    path.write_text(SAMPLE.read_text())
    with _at_one_moment(Lively(emulated=True)):
        result = replayed(path)
    told = [line for line in result.stderr.splitlines() if line.startswith(f"{path}:")]
    assert len(told) == 10
    assert told[0] == f"{path}:1: start: 2024-09-24T16:00:00Z is too old to be admitted"
    assert "and 328 more problems" in result.stderr
    assert "--shift-to-now" in result.stderr


def test_what_was_sent_is_told_as_expectation_and_both_counts_have_their_words() -> None:
    counts = Counter({"accepted": 180, "partly": 2, "duplicate": 9, "conflict": 1})
    traffic = Traffic(name="clean-1", seed=1, messages=192, shipments=())
    answer = _answer(traffic, counts, 1.5, Path("m.json"))
    text = " ".join(answer.footer)
    assert "Expected by the manifest: accepted 180, partly 2, duplicate 9, conflict 1; nothing is judged yet" in text
    assert "These count messages. verify counts different batches: 183, of which 182 must be accepted" in text
    document = cast("dict[str, Json]", answer.document)
    assert (document["sent"], document["batches"], document["judged"]) == (192, 183, False)
    assert (document["accepted"], document["duplicate"]) == (180, 9), "its fields stay"
    assert json.dumps(document["expected"])


DIED = UnavailableError("s3.PutObject", "EndpointConnectionError")


def work(error: Exception, *, dies: pytest.MonkeyPatch | None = None) -> None:
    """A command's work; with `dies`, its emulator ends meanwhile."""
    with dead_emulator_told():
        if dies is not None:
            dies.setattr("metering.adapters.emulator.state.process_began", lambda _pid: None)
        raise error


def stopped_by(cause: UnavailableError) -> SendingFailedError:
    error = SendingFailedError(str(cause), ["b1"])
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("error", [DIED, stopped_by(DIED)], ids=["call", "sending"])
def test_an_emulator_that_dies_in_mid_replay_is_told_as_dead_with_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    state = remember_emulator()
    with pytest.raises(CommandFailedError) as told:
        work(error, dies=monkeypatch)
    assert str(told.value) == f"The emulator at {state.endpoint} (pid {state.pid}) is gone, and so is all that it held."
    assert "metering local up" in told.value.advice


def test_an_emulator_that_lives_is_not_told_as_dead() -> None:
    remember_emulator()
    with pytest.raises(UnavailableError):
        work(DIED)


def test_another_error_stays_what_it_is_when_the_emulator_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_emulator()
    with pytest.raises(CommandFailedError, match="The proof failed"):
        work(CommandFailedError("The proof failed."), dies=monkeypatch)


def test_the_sender_says_why_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead emulators are detected there."""
    monkeypatch.setattr("metering.replay.sender._BACKOFF_S", 0)
    from metering.replay.given import synthetic_traffic
    from metering.replay.sender import Sender
    from tests.support.memory.clock import ManualClock
    from tests.support.memory.objects import MemoryObjectStore

    def refuse(_bodies: list[str]) -> list[int]:
        raise UnavailableError("sqs.SendMessageBatch", "gone")

    queue = SimpleNamespace(send_many=refuse)
    objects = MemoryObjectStore(ManualClock(1_800_000_000_000))
    traffic = synthetic_traffic("clean", SCENARIOS["clean"], 1, 1, 1_800_000_000, "bucket")
    sender = Sender(queue=cast("Queue", queue), objects=objects, bucket="bucket")
    with pytest.raises(SendingFailedError) as stopped:
        sender.send(traffic.shipments, lambda _group: None)
    assert isinstance(stopped.value.__cause__, UnavailableError)


@pytest.mark.parametrize(("window_days", "expected"), [(50, "accepted"), (30, "rejected")])
def test_records_of_files_are_judged_by_the_window_of_their_stage(
    window_days: int, expected: str, tmp_path: Path
) -> None:
    """P12: the manifest expected 35 days for every stage, and `verify` called the stage's correct result unexpected."""
    region = Lively(world=World(window_s=window_days * 86_400), emulated=True)
    old = record(1, start_s=NOW_S - 40 * 86_400)
    # One record that only the contract's window would refuse, and one that it would admit.
    start_s = NOW_S - (40 if expected == "accepted" else 32) * 86_400
    file = tmp_path / "mine.ndjson"
    file.write_text(json.dumps({**old, "start": start_s, "end": start_s}) + "\n")
    with _at_one_moment(region):
        result = replayed(file, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["expected"][expected] == 1
    if expected == "rejected":
        assert "Records of the last 30 days are admitted." in " ".join(result.stderr.split())


def test_a_file_that_spans_more_than_the_window_of_its_stage_cannot_be_moved_to_now(tmp_path: Path) -> None:
    region = Lively(world=World(window_s=10 * 86_400), emulated=True)
    file = tmp_path / "mine.ndjson"
    file.write_text("".join(json.dumps(record(1, start_s=NOW_S - days * 86_400)) + "\n" for days in (0, 20)))
    with _at_one_moment(region):
        result = run("replay", "--input", str(file), "--shift-to-now")
    assert result.exit_code == 1
    assert "the records span 20 days; 9 days can be admitted" in " ".join(result.stderr.split())


def test_a_replay_names_the_report_on_all_hours_that_it_sent(tmp_path: Path) -> None:
    """H-D6: the next report covered only this month, and showed less than `verify`."""
    region, file = Lively(emulated=True), tmp_path / "mine.ndjson"
    file.write_text("".join(json.dumps(record(1, start_s=NOW_S - days * 86_400)) + "\n" for days in (0, 30)))
    with _at_one_moment(region):
        result = replayed(file, "--format", "table", "--wide")
    assert result.exit_code == 0, result.output
    assert "metering report usage --from 2026-10-25T13:00:00Z --to 2026-11-24T14:00:00Z" in result.stdout
