"""`metering reports` from outside: a question is saved, its report is made, shown and written to files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.fleet.regions import LedgerRegionStates
from metering.ledger.notes.watch import Completeness
from metering.operations.logged_errors import DeedTrail
from metering.stores.writes import Put, Table
from metering.units import DAY_S, GIB, HOUR_S
from tests.support.command_line import AWAY, HOME, TwoRegions, ask, refused, run
from tests.support.lake_world import ACCOUNT, NOW_S, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIDNIGHT_S = NOW_S - NOW_S % DAY_S


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoRegions]:
    made = TwoRegions()
    made.send(HOME, record(5 * GIB, start_s=MIDNIGHT_S - 2 * HOUR_S))
    made.home.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=NOW_S).to_item()))
    monkeypatch.setattr("time.time", lambda: NOW_S)
    with made.typed():
        yield made


def test_a_report_is_saved_made_shown_and_removed(regions: TwoRegions, tmp_path: Path) -> None:
    assert "No report is saved" in run("reports", "list", "--format", "table").stdout
    [row] = ask("reports", "add", "accounts", "--every", "day", "--group-by", "account_id", "--top", "3")["rows"]
    assert row == {
        "report": "accounts", "every": "day", "last": None, "state": "not due yet",
        "question": "metering report usage --group-by account_id --top 3", "refused": None, "document": None,
    }  # fmt: skip
    assert "There is no report accounts yet" in refused("reports", "show", "accounts")
    regions.home.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=MIDNIGHT_S - 1).to_item()))
    regions.home.clock.advance_s(MIDNIGHT_S + HOUR_S - NOW_S)
    assert "1 report waits until all that was sent before its midnight is counted" in run("reports", "make").stderr
    regions.home.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=MIDNIGHT_S).to_item()))
    [row] = ask("reports", "make")["rows"]
    assert (row["last"], row["state"], row["refused"]) == ("2026-11-24", "made", None)
    [shown] = ask("reports", "show", "accounts")["rows"]
    assert (shown["date"], shown["from"], shown["to"]) == ("2026-11-24", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z")
    page, rows = tmp_path / "page.html", tmp_path / "rows.csv"
    told = run("reports", "show", "accounts", "--html", page, "--csv", rows)
    assert told.exit_code == 0
    assert "the report of 2026-11-24" in told.stderr
    assert page.read_bytes() == regions.home.objects.get(shown["page"])
    assert rows.read_text().splitlines()[1] == f"{ACCOUNT},{5 * GIB},1,0"
    assert "no report accounts of 2026-11-23" in refused("reports", "show", "accounts", "--date", "2026-11-23")
    assert ask("reports", "remove", "accounts")["rows"] == []
    assert ask("reports", "show", "accounts")["rows"] == [shown]
    assert "There is no saved report other" in refused("reports", "remove", "other")
    assert "There is no saved report other" in refused("reports", "show", "other")
    trail = DeedTrail(items=regions.home.items)
    assert {deed.what for deed in trail.between(0, NOW_S + DAY_S)} == {"reports add", "reports remove"}


def test_costs_of_a_stage_with_two_regions_are_refused_with_the_reason(regions: TwoRegions) -> None:
    for state in regions.states.everything():
        LedgerRegionStates(lambda: regions.home.items).save(state)
    ask("reports", "add", "bill", "--cost", "--every", "month", "--prices", "sample")
    [row] = ask("reports", "make")["rows"]
    assert row["state"] == "refused"
    assert "tiers count over all regions" in row["refused"]
    [shown] = ask("reports", "show", "bill")["rows"]
    assert shown["page"] is None
    assert "was refused: Costs are not known here" in refused("reports", "show", "bill", "--html", "page.html")
    assert "is not the home region" in refused("reports", "add", "bill", "--cost", "--every", "month", "--region", AWAY)


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        (("a", "--every", "hour"), "not one of day, week, month", 1),
        (("A", "--every", "day"), "is not 1 to 64", 1),
        (("a", "--every", "day", "--payer", ACCOUNT), "--payer is about costs", 2),
        (("a", "--every", "day", "--prices", "sample"), "--prices is about costs", 2),
        (("a", "--every", "day", "--cost", "--prices", "@"), "is no price book", 2),
        (("a", "--every", "day", "--group-by", "colour"), "is not one of the columns", 2),
        (("a", "--every", "day", "--account", "1"), "an account has 12 digits", 2),
        (("a", "--every", "day", "--from", "today"), "begins after the report", 2),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_and_not_saved(
    regions: TwoRegions, line: tuple[str, ...], words: str, code: int
) -> None:
    assert words in refused("reports", "add", *line, code=code)
    assert ask("reports", "list")["rows"] == []
