"""`metering demo`: acts with their seconds; a failing act is reported and the rest continues; lines that fit."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from metering.billing.prices.store import sample_book
from metering.cli.commands.developer import demo_stage
from metering.cli.commands.developer.demo import ACTS, _report, _without_conflicts, demo_traffic
from metering.cli.commands.developer.demo_costs import is_right, show_costs
from metering.cli.commands.developer.demo_stage import NEXT, Act, Demo, Played, limited, perform, show_end
from metering.cli.failures import CommandFailedError, CommandStoppedError
from metering.replay.given import SAMPLE, billed_lines, given_traffic, read_records
from metering.usage.totals import UsageType
from tests.support.lake_world import NOW_S, World, record
from tests.support.stage import ADMISSION
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from metering.replay.synthesis import Shipment
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
    acts = (
        Act(name="first", about="it plays.", play=plays),
        Act(name="lake", about="it fails.", play=fails),
        Act(name="last", about="it plays.", play=plays),
    )
    played = perform(acts, demo())
    assert [(each.name, each.failed) for each in played] == [("first", False), ("lake", True), ("last", False)]
    told = capsys.readouterr()
    assert "[3/3] last: it plays." in told.out
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
    """A demo in whose region the real lines are metered, except for the first `without` batches."""
    world = World()
    bodies = [
        json.loads(shipment.body)
        for shipment in given_traffic(read_records([SAMPLE]), 20, NOW_S, admission=ADMISSION).shipments
    ]
    world.send(*(body["records"] for body in bodies[without:]))
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
