"""`metering demo` and `replay`: acts with their times, and traffic that is sent only where it does no harm."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from typer.testing import CliRunner, Result

from metering.billing.prices.store import sample_book
from metering.cli.app import app
from metering.cli.commands.developer import demo_stage
from metering.cli.commands.developer.demo import ACTS, _report, _without_conflicts, demo_traffic
from metering.cli.commands.developer.demo_costs import is_right, show_costs
from metering.cli.commands.developer.demo_stage import NEXT, Act, Demo, Played, limited, perform, show_end
from metering.cli.commands.developer.replay import _answer
from metering.cli.connecting import dead_emulator_told
from metering.cli.failures import CommandFailedError, CommandStoppedError
from metering.errors import UnavailableError
from metering.replay.given import SAMPLE, Traffic, billed_lines, given_traffic, read_records
from metering.replay.scenarios import SCENARIOS
from metering.replay.sender import SendingFailedError
from metering.usage.totals import UsageType
from tests.cli.lively import Lively
from tests.cli.record import _at_one_moment
from tests.support.answering import remember_emulator, serving
from tests.support.command_line import run
from tests.support.lake_world import NOW_S, World, record
from tests.support.stage import ADMISSION
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from metering.replay.synthesis import Shipment
    from metering.reports.answer import Json
    from metering.wiring.connection import RegionConnection


def demo() -> Demo:
    return Demo(region_name="us-east-1", now_s=1_795_600_000, batches=1, records_per_batch=2, seed=1)


def plays(_demo: Demo) -> None:
    """Nothing happens."""


def fails(_demo: Demo) -> None:
    raise CommandFailedError("The lake is dry.", "Wait for rain.")


def test_a_step_that_never_ends_ends_the_demo_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stage, "_STEP_S", 0.05)
    gate = threading.Event()
    try:
        with pytest.raises(CommandFailedError, match="the lake took longer"):
            limited("the lake", gate.wait)
    finally:
        gate.set()


def test_a_step_gives_its_result_and_its_error() -> None:
    assert limited("sending", lambda: 5) == 5
    nothing: dict[str, int] = {}
    with pytest.raises(KeyError):
        limited("sending", lambda: nothing["x"])


def test_an_act_that_fails_says_so_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    acts = [Act(name=name, about="…", play=play) for name, play in (("first", plays), ("lake", fails), ("last", plays))]
    played = perform(acts, demo())
    assert [(each.name, each.failed) for each in played] == [("first", False), ("lake", True), ("last", False)]
    told = capsys.readouterr()
    assert "[3/3] last: …" in told.out
    assert "Error: The lake is dry.\nWait for rain." in told.err


def test_without_an_act_that_the_others_need_the_demo_ends() -> None:
    acts = (Act(name="deploy", about="…", play=fails, needed=True), Act(name="send", about="…", play=plays))
    assert [each.name for each in perform(acts, demo())] == ["deploy"]


def test_ctrl_c_in_an_act_ends_the_demo() -> None:
    def stop(_demo: Demo) -> None:
        raise CommandStoppedError("You stopped it.")

    with pytest.raises(CommandStoppedError):
        perform((Act(name="send", about="…", play=stop),), demo())


def test_the_proof_comes_before_the_reports() -> None:
    names = [act.name for act in ACTS]
    assert names.index("proof") == names.index("send") + 1 < names.index("report")


@pytest.mark.parametrize("width", [60, 80])
def test_the_end_tells_the_seconds_of_each_act_and_of_all_and_what_to_try_next(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show_end([Played(name="deploy", took_s=9.6, failed=False), Played(name="lake", took_s=6.2, failed=True)], 17.4)
    lines = capsys.readouterr().out.splitlines()
    text = " ".join(line.strip() for line in lines)
    assert "Seconds: deploy 10, lake 6 (failed). The demo took 17 s." in text
    assert all(f"  {line}" in lines for line in NEXT), "none is broken"
    assert all(len(line) <= width for line in lines)


def test_what_to_try_next_can_be_typed() -> None:
    lines = [line for line in NEXT if line.startswith("metering ")]
    assert len(lines) >= 5
    for line in lines:
        assert parsed(line)


@pytest.mark.parametrize("width", [60, 80])
def test_what_happens_in_an_act_is_wrapped_between_words(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    perform([Act(name=act.name, about=act.about, play=plays) for act in ACTS], demo())
    out = capsys.readouterr().out
    assert all(len(line) <= width for line in out.splitlines())
    assert {word for act in ACTS for word in act.about.split()} <= set(out.split())


def test_conflicts_are_withheld_so_that_each_run_counts_the_same() -> None:
    kept: list[Shipment] = []
    for traffic in demo_traffic(400, 20, 1, 1_795_600_000, "bucket", ADMISSION):
        sent = list(_without_conflicts(traffic.shipments, kept))
        assert not [shipment for shipment in sent if shipment.sent.expect == "conflict"]
    assert kept
    assert all(shipment.sent.expect == "conflict" for shipment in kept)


def test_the_report_begins_with_the_largest_usage_types(capsys: pytest.CaptureFixture[str]) -> None:
    account = next(str(record["account_id"]) for record in read_records([SAMPLE]).records)
    world = World()
    for size, to in ((5, "eu-west-1"), (7_000_000, "internet"), (60, "ap-southeast-1")):
        world.send([record(size, account=account, to=to)])
    shown = replace(demo(), now_s=NOW_S, deployed=cast("RegionConnection", SimpleNamespace(items=world.items)))
    _report(shown)
    told = capsys.readouterr().out
    assert [line.split()[1] for line in told.splitlines() if "-Bytes" in line] == ["7,000,000", "60", "5"]


def metered_demo(*, without: int = 0) -> Demo:
    """A demo in a region that has metered the real lines, except the first `without` batches."""
    world = World()
    shipments = given_traffic(read_records([SAMPLE]), 20, NOW_S, admission=ADMISSION).shipments
    world.send(*(json.loads(shipment.body)["records"] for shipment in [*shipments][without:]))
    made = Demo(region_name="us-east-1", now_s=NOW_S, batches=1, records_per_batch=2, seed=1)
    made.deployed = world.source()  # type: ignore[assignment]  # what the act uses of a region
    return made


def test_the_act_shows_what_aws_billed_and_what_the_lines_cost_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_costs(metered_demo())
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    out = " ".join(" ".join(lines).split())
    assert "HQEH3ZWJVT46JHRG.JRTCKXETXF.VF6T3GAUKQ 41 0.085 0.2793020883" in out
    assert "Together: 0.3513825829 USD." in out
    assert "338 of 338 lines: SKU found by service and usage type, quantity and cost equal" in out
    assert "A draft of these lines: 0.00 USD; before its lines are rounded to cents, 0.0018380688." in out
    assert "AWS billed 0.35 because of usage that is not in the sample." in out


def test_a_line_that_was_not_metered_fails_the_act() -> None:
    with pytest.raises(CommandFailedError, match="What was metered is not what AWS billed"):
        show_costs(metered_demo(without=1))


def test_a_line_is_right_only_by_its_own_sku_rate_code_and_amounts() -> None:
    line, book = next(each for each in billed_lines() if each.cost), sample_book()
    assert is_right(line, book)
    assert not is_right(line._replace(sku="X"), book)
    assert not is_right(line._replace(rate_code="X"), book)
    assert not is_right(line._replace(cost=line.cost + 1), book)
    assert not is_right(line._replace(usage_type=UsageType("X")), book)
    assert not is_right(line, replace(book, products=()))


# `metering replay` sends the traffic that it is given, and labels expectations as such.

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
        line = ["replay", "--scenario", "clean", "--stage", "dev", "--endpoint", endpoint, "--yes"]
        result = CliRunner().invoke(app, line)
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
    """The work of a command, which fails with `error`; with `dies`, the emulator ends during the work."""
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


@pytest.mark.parametrize(("window_days", "expected"), [(50, "accepted"), (30, "rejected")])
def test_records_of_files_are_judged_by_the_stages_window(window_days: int, expected: str, tmp_path: Path) -> None:
    region = Lively(world=World(window_s=window_days * 86_400), emulated=True)
    old = record(1, start_s=NOW_S - 40 * 86_400)
    # A record that only the contract's window would refuse, or a record that only the contract's window would admit.
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
    region, file = Lively(emulated=True), tmp_path / "mine.ndjson"
    file.write_text("".join(json.dumps(record(1, start_s=NOW_S - days * 86_400)) + "\n" for days in (0, 30)))
    with _at_one_moment(region):
        result = replayed(file, "--format", "table", "--wide")
    assert result.exit_code == 0, result.output
    assert "metering report usage --from 2026-10-25T13:00:00Z --to 2026-11-24T14:00:00Z" in result.stdout
