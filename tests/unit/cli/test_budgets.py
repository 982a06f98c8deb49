"""`metering budget` and `metering anomalies` from outside, over two in-memory regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.command_line import AWAY, HOME, TwoRegions, ask, refused, run
from tests.support.lake_world import NOW_S, record
from tests.support.priced import gb
from tests.unit.cli.test_invoice import ALONE, OTHER, PAYER, billed

if TYPE_CHECKING:
    from collections.abc import Iterator


UNKNOWN = "999999999999"


@pytest.fixture
def stage() -> Iterator[TwoRegions]:
    made = billed()
    made.send(HOME, record(gb("600"), start_s=NOW_S, account=PAYER))
    made.send(AWAY, {**record(gb("300"), start_s=NOW_S, account=OTHER), "from": "eu-west-1"})
    with made.typed():
        yield made


def test_a_payers_budget_counts_the_usage_of_every_region_and_is_told_once(stage: TwoRegions) -> None:
    """900 GB, of which 100 are free, at 0.09: 72 USD."""
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "72 USD", "--threshold", "actual 100%")
    ask("budget", "set", "home", "--payer", PAYER, "--in-region", HOME, "--amount", "100 USD")
    counted = ask("budget", "update", "--region", "all")
    assert counted == {"files": 4, "budgets": 2, "alerts": 1, "sent": 1, "unusual": 0}
    rows = {row["budget"]: row for row in ask("budget", "check")["rows"]}
    assert (rows["egress"]["actual"], rows["egress"]["used_percent"]) == ("72.0000000000", "100.0")
    assert (rows["egress"]["crossed"], rows["egress"]["alerts"]) == ("actual 100%", "actual 100% sent")
    assert rows["home"]["crossed"] == ""
    told = " ".join(run("budget", "check", "--format", "table").stdout.split())
    assert "Crossed: egress (actual 100%). What to do: metering runbook budget-crossed" in told
    assert float(rows["home"]["actual"]) in (45.0, 54.0), "the dearest region has the allowance, and both cost the same"
    again = ask("budget", "update", "--region", "all")
    assert (again["files"], again["alerts"], again["sent"]) == (0, 0, 0)
    assert again["budgets"] == 2


def lines_of(*line: str) -> str:
    return " ".join(run(*line, "--format", "table").stdout.split())


def pending(stage: TwoRegions, size: int, *, account: str = PAYER) -> None:
    """Usage that is accepted and rolled up, but in no lake file."""
    stage.home.world.send([record(size, start_s=NOW_S, account=account)])


def test_budgets_say_up_to_when_they_counted_and_what_is_accepted_and_not_counted(stage: TwoRegions) -> None:
    """H-F2: 349 GB of a budget of 10 GB were not compacted, and nothing said that they were not counted."""
    ask("budget", "set", "small", "--account", PAYER, "--amount", "10 GB", "--threshold", "actual 80%")
    ask("budget", "update", "--region", "all")
    stage.home.world.clock.advance_s(60)
    pending(stage, gb("349"))
    left = {"bytes": str(gb("349")), "records": 1, "at_least": False}
    for line in (("budget", "list"), ("budget", "check"), ("budget", "forecast", "small"), ("anomalies",)):
        document = ask(*line)
        assert document.get("not_counted") == left, line
        assert document["counted_through"] == "2026-11-24T13:30:00Z"
        assert "Not counted: 374,735,896,576 bytes = 349 GB, accepted and in no sum yet." in lines_of(*line)
        assert "Counted through 2026-11-24T13:30:00Z" in lines_of(*line)
        assert "metering compact" in lines_of(*line)


def test_on_an_emulator_an_update_of_budgets_compacts_first(stage: TwoRegions) -> None:
    """H-F2: it said `0 lake files counted, alerts 0`."""
    ask("budget", "set", "small", "--account", ALONE, "--amount", "10 GB", "--threshold", "actual 80%", "--new-account")
    pending(stage, gb("349"), account=ALONE)
    for region in stage.regions.values():
        object.__setattr__(region, "emulated", True)
    counted = ask("budget", "update", "--region", "all")
    assert counted["alerts"] == 1
    assert counted["files"] > 0
    assert ask("budget", "list")["not_counted"] == {"bytes": "0", "records": 0, "at_least": False}


def test_on_aws_an_update_of_budgets_compacts_nothing(stage: TwoRegions) -> None:
    pending(stage, gb("349"))
    assert not stage.home.emulated
    ask("budget", "update", "--region", "all")
    assert ask("budget", "list")["not_counted"]["bytes"] == str(gb("349"))


def test_the_line_about_money_in_the_status_says_what_no_budget_has(stage: TwoRegions) -> None:
    """H-F2: it said `money ok counted up to 0 s ago`."""
    ask("budget", "update", "--region", "all")
    pending(stage, gb("349"))
    told = run("status", "--format", "json").stdout
    assert "not counted yet: 374,735,896,576 bytes = 349 GB" in told


def test_what_makes_no_sense_is_refused_in_words_and_nothing_is_set(stage: TwoRegions) -> None:
    for line, words in (
        (("--amount", "0 USD"), "is 0"),
        (("--amount", "-5 USD"), "below 0"),
        (("--amount", "5 USD", "--threshold", "actual 80%", "--threshold", "actual 80%"), "given twice"),
        (("--amount", "5 USD", "--threshold", "actual 5 TB"), "is in bytes"),
    ):
        assert words in refused("budget", "set", "egress", "--account", ALONE, *line)
    assert ask("budget", "list")["rows"] == []


def test_an_unknown_account_is_refused_unless_it_is_new(stage: TwoRegions) -> None:
    told = refused("budget", "set", "egress", "--account", UNKNOWN, "--amount", "5 USD")
    assert f"Account {UNKNOWN} is unknown" in told
    ask("budget", "set", "egress", "--account", UNKNOWN, "--amount", "5 USD", "--new-account")
    ask("budget", "set", "known", "--account", OTHER, "--amount", "5 USD")
    assert [row["budget"] for row in ask("budget", "list")["rows"]] == ["egress", "known"]


def test_a_budget_is_removed_once(stage: TwoRegions) -> None:
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "5 USD")
    assert ask("budget", "remove", "egress")["rows"] == []
    for line in (("remove", "egress"), ("check", "egress"), ("forecast", "egress")):
        assert "There is no budget egress" in refused("budget", *line)


def test_little_history_gives_no_forecast_and_says_so(stage: TwoRegions) -> None:
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "500 USD")
    ask("budget", "update", "--region", "all")
    result = run("budget", "forecast", "egress", "--format", "table")
    assert result.exit_code == 0
    assert "fewer than 3 days of history" in " ".join(result.stdout.split())
    assert ask("budget", "forecast", "egress")["rows"][0]["forecast"] is None


def test_anomalies_need_a_day_and_a_floor_that_are_some(stage: TwoRegions) -> None:
    assert run("anomalies", "--day", "yesterday").exit_code == 2
    assert run("anomalies", "--floor", "cheap").exit_code == 2
    assert ask("anomalies", "--day", "2026-11-20")["rows"] == []
