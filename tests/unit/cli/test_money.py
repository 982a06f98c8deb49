"""Prices, payers, budgets and accounts as commands: imports with diffs, overrides, and sums up to a given time."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from metering.billing.day_sums.days import AccountsReader, accounts_body, accounts_key
from metering.billing.day_sums.index import DayIndexes, KeptAccounts
from metering.billing.prices.store import PriceStore, sample_book
from metering.cli.billing import imports
from metering.cli.failures import CommandFailedError
from metering.operations.logged_errors import DeedTrail
from metering.units import DAY_S
from tests.cli.lively import Lively
from tests.support import offer_files
from tests.support.budget_world import keep_day_sums
from tests.support.command_line import AWAY, HOME, TwoRegions, ask, refused, run, typed_at
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.priced import gb
from tests.unit.cli.test_invoice import ALONE, OTHER, PAYER, billed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VIRGINIA = "HQEH3ZWJVT46JHRG"
OCTOBER_S = NOW_S - 30 * DAY_S


class Stage(TwoRegions):
    @property
    def books(self) -> PriceStore:
        return PriceStore(self.home.world.objects)

    def deeds(self) -> list[tuple[str, str]]:
        trail = DeedTrail(items=self.home.world.items)
        return [(deed.what, deed.subject) for deed in trail.between(0, NOW_S + 9999 * DAY_S)]


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    with made.typed():
        yield made


@pytest.fixture
def offers(tmp_path: Path) -> list[Path]:
    return offer_files.every_region(tmp_path / "offers")


def dearer(tmp_path: Path, begin: str) -> Path:
    """A later offer file of us-east-1, with a different first-tier price."""
    content = offer_files.offer("us-east-1", version="20261015000000")
    term = content["terms"]["OnDemand"][VIRGINIA][f"{VIRGINIA}.JRTCKXETXF"]
    term["effectiveDate"] = begin
    term["priceDimensions"][f"{VIRGINIA}.JRTCKXETXF.Q3Z75P77EN"]["pricePerUnit"]["USD"] = "0.1000000000"
    return offer_files.written(tmp_path, dearer=content)[0]


def test_an_import_shows_the_difference_writes_a_version_and_leaves_a_trail(stage: Stage, offers: list[Path]) -> None:
    answer = ask("prices", "import", *offers)
    assert (answer["book"], answer["version"], answer["against"]) == ("aws-list", 1, None)
    assert {row["change"] for row in answer["rows"]} == {"added"}
    book = stage.books.newest("aws-list")
    assert book is not None
    assert book.by_sku[VIRGINIA].usage_type == "DataTransfer-Out-Bytes"
    assert stage.deeds() == [("prices import", "aws-list 1")]


def test_the_same_files_again_write_nothing(stage: Stage, offers: list[Path]) -> None:
    ask("prices", "import", *offers)
    result = run("prices", "import", *offers)
    assert (result.exit_code, stage.books.versions("aws-list")) == (0, [1])
    assert "Nothing was written: version 1 says the same." in result.stderr


def test_a_price_that_changes_is_shown_with_what_it_was(stage: Stage, offers: list[Path], tmp_path: Path) -> None:
    ask("prices", "import", *offers)
    (row,) = ask("prices", "import", dearer(tmp_path, "2026-12-01T00:00:00Z"))["rows"]
    assert (row["change"], row["old"], row["new"], row["effective"]) == (
        "changed", "0.0900000000", "0.1000000000", "2026-12-01T00:00:00Z",
    )  # fmt: skip
    assert ask("prices", "diff")["rows"] == [row]
    assert ask("prices", "diff", "--old", "1", "--new", "2")["rows"] == [row]
    shown = {at: ask("prices", "show", "--sku", VIRGINIA, "--at", at)["rows"][0] for at in ("2026-11", "2026-12")}
    assert [each["price_usd"] for each in shown.values()] == ["0.0900000000", "0.1000000000"]


def test_a_dry_run_writes_nothing_and_asks_nobody(stage: Stage, offers: list[Path]) -> None:
    assert ask("prices", "import", *offers, "--dry-run")["rows"]
    assert stage.books.versions("aws-list") == []


def test_a_price_of_a_closed_month_is_refused_unless_repriced(stage: Stage, offers: list[Path], tmp_path: Path) -> None:
    ask("prices", "import", *offers)
    # Usage of any region, because invoices cover all regions.
    stage.send(AWAY, record(1, start_s=OCTOBER_S))
    stage.close(AWAY)
    path = dearer(tmp_path, "2026-10-01T00:00:00Z")
    result = run("prices", "import", path)
    assert (result.exit_code, stage.books.versions("aws-list")) == (1, [1])
    assert "Prices would change from 2026-10-01T00:00:00Z on, and 2026-10 is closed." in result.stderr
    assert "--effective 2026-11" in result.stderr
    assert run("prices", "import", path, "--effective", "2026-11").exit_code == 0
    assert run("prices", "import", path, "--reprice").exit_code == 0
    assert stage.books.versions("aws-list") == [1, 2, 3]


def test_a_version_that_somebody_wrote_meanwhile_is_not_lost(stage: Stage, offers: list[Path]) -> None:
    plan = imports.plan(stage.home, offers, book="aws-list", effective_s=None, partial=False)  # type: ignore[arg-type]  # as much of a connection as is used
    ask("prices", "import", offers[0])
    with pytest.raises(CommandFailedError, match="Version 1 of aws-list was written meanwhile"):
        imports.written(stage.home, plan)  # type: ignore[arg-type]  # as above
    assert stage.books.versions("aws-list") == [1]


def test_every_problem_of_files_is_told(stage: Stage, tmp_path: Path) -> None:
    content = offer_files.offer("us-east-1")
    path = f"terms/OnDemand/{VIRGINIA}/*/priceDimensions/*/unit"
    wrong = offer_files.changed(content, path, "TB")
    (file,) = offer_files.written(tmp_path, wrong=wrong)
    assert "the unit is 'TB', and not GB" in refused("prices", "import", file)
    checked = run("prices", "check", "--file", file, "--format", "json")
    assert checked.exit_code == 1
    assert [row["problem"] for row in json.loads(checked.stdout)["rows"]]
    assert stage.home.world.objects.keys("prices/") == ()


def test_files_without_a_problem_pass_the_check(offers: list[Path]) -> None:
    line = [part for path in offers for part in ("--file", path)]
    assert ask("prices", "check", *line)["rows"] == []


def test_a_version_index_says_whether_a_file_is_the_newest(stage: Stage, offers: list[Path], tmp_path: Path) -> None:
    (newer,) = offer_files.written(tmp_path, index=offer_files.version_index(offer_files.VERSION, "20261101000000"))
    result = run("prices", "import", *offers, newer, "--dry-run")
    assert result.exit_code == 0
    assert "the newest one is 20261101000000" in " ".join(result.stderr.split())
    (other,) = offer_files.written(tmp_path, index=offer_files.version_index("20200101000000"))
    assert "does not list its version" in refused("prices", "import", *offers, other)
    assert "only an index" in " ".join(run("prices", "import", other).stderr.split())
    assert stage.books.names() == []


def test_a_book_of_ours_is_shown_as_a_file_and_imported_again(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "book.json"
    assert run("prices", "show", "--prices", "sample", "--as-file", "--output", file).exit_code == 0
    ask("prices", "import", file, "--book", "acme")
    book = stage.books.newest("acme")
    assert book is not None
    assert book.by_sku == sample_book().by_sku
    for wrong in (["--effective", "2026-12"], [file]):
        assert run("prices", "import", file, "--book", "acme", *wrong).exit_code == 1
    assert run("prices", "import", file).exit_code == 0


def test_history_lists_every_version_of_every_book(stage: Stage, offers: list[Path], tmp_path: Path) -> None:
    ask("prices", "import", *offers)
    ask("prices", "import", dearer(tmp_path, "2026-12-01T00:00:00Z"))
    ask("prices", "import", *offers, "--book", "acme")
    rows = ask("prices", "history")["rows"]
    assert [(row["book"], row["version"]) for row in rows] == [("acme", 1), ("aws-list", 2), ("aws-list", 1)]
    newest = stage.books.newest("aws-list")
    assert newest is not None
    assert rows[1]["sha256"] == newest.sha256
    assert rows[1]["newest_price"] == "2026-12-01T00:00:00Z"


@pytest.mark.parametrize(("line", "told"), [
    (("show",), "There is no price book aws-list."),
    (("diff",), "There is no price book aws-list."),
    (("check",), "There is no price book aws-list."),
    (("show", "--prices", "nobodys", "--version", "3"), "There is no version 3 of price book nobodys."),
])  # fmt: skip
def test_a_book_that_was_never_imported_is_refused_in_words(stage: Stage, line: tuple[str, ...], told: str) -> None:
    assert told in refused("prices", *line)
    assert stage.books.names() == []


@pytest.mark.parametrize("line", [
    ("import", "offer.json", "--book", "sample"), ("import", "/nowhere.json"),
    ("import", "."), ("show", "--prices", "sample", "--at", "soon"), ("check", "--month", "2027-01"),
    ("check", "--month", "9999-12"), ("check", "--month", "November"), ("check", "--file", "/nowhere.json"),
    ("override", "set", "--from", "2026-12", "--price", "1"), ("override", "set", "--payer", "1", "--from", "2026-12"),
    ("override", "set", "--payer", "999988887777", "--from", "2026-12", "--price", "free"),
    ("override", "set", "--payer", "999988887777", "--from", "2026-12", "--percent-off", "101"),
    ("override", "set", "--payer", "999988887777", "--from", "2026-12", "--price", "1", "--percent-off", "1"),
    ("override", "set", "--payer", "999988887777", "--from", "2026-12", "--price", "1", "--to", "2026-11"),
    ("override", "set", "--payer", "9" * 12, "--account", "1" * 12, "--from", "2026-12", "--price", "1"),
])  # fmt: skip
@pytest.mark.usefixtures("stage")
def test_wrong_usage_ends_with_two(line: tuple[str, ...]) -> None:
    refused("prices", *line, code=2)


def test_offers_of_vpc_and_ec2_are_imported_and_what_is_not_read_is_named(stage: Stage, tmp_path: Path) -> None:
    beside = {"vpc": offer_files.vpc(), "ec2": offer_files.ec2()}
    files = offer_files.written(tmp_path, us_east_1=offer_files.offer("us-east-1"), **beside)
    result = run("prices", "import", *map(str, files), "--partial")
    assert result.exit_code == 0, f"no import prices TransitGateway-Bytes: {result.stderr}"
    told = " ".join(result.stderr.split())
    assert "Not read, because they are hours, or no usage type that is metered here: NatGateway-Hours" in told
    book = stage.books.newest("aws-list")
    assert book is not None
    assert {"TransitGateway-Bytes", "NatGateway-Bytes", "VpcEndpoint-Bytes"} <= book.by_usage_type.keys()
    assert "AmazonVPC us-east-1" in str(book.source)


@pytest.mark.usefixtures("stage")
def test_the_sample_says_where_its_prices_come_from_and_what_not_sold_here_means() -> None:
    shown = " ".join(run("prices", "show", "--prices", "sample", "--format", "table").stdout.split())
    assert "https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS-Sample-Data" in shown
    assert "From secondary sources: gateways, endpoints and peering in us-east-1" in shown
    assert "Not sold here means that AWS bills nothing under it" in shown


@pytest.mark.usefixtures("stage")
def test_the_sample_lists_its_versions_and_says_what_the_newest_one_added() -> None:
    assert [row["version"] for row in ask("prices", "history", "--prices", "sample")["rows"]] == [2, 1]
    added = ask("prices", "diff", "--prices", "sample")["rows"]
    assert {row["usage_type"] for row in added} >= {"TransitGateway-Bytes", "NatGateway-Bytes", "VpcPeering-In-Bytes"}


def test_the_sample_needs_no_import(stage: Stage) -> None:
    rows = ask("prices", "show", "--prices", "sample", "--usage-type", "DataTransfer-Out-Bytes")["rows"]
    assert [row["price_usd"] for row in rows] == ["0.0900000000", "0.0850000000", "0.0700000000", "0.0500000000"]
    assert stage.books.names() == []


def test_the_home_region_keeps_prices_whatever_region_is_named(stage: Stage, offers: list[Path]) -> None:
    for region in (AWAY, "all"):
        assert run("prices", "import", *offers, "--book", f"b-{region}", "--region", region).exit_code == 0
    assert stage.books.names() == ["b-all", "b-eu-west-1"]
    assert stage.regions[AWAY].world.objects.keys("prices/") == ()


def test_usage_of_a_month_without_a_price_is_named_over_all_regions(stage: Stage) -> None:
    stage.home.world.send([record(10), record(7, to="eu-west-1"), record(5, to="us-east-1")])
    stage.regions[AWAY].world.send([record(400, to="eu-south-1")])
    for region in stage.regions.values():
        region.world.compact_all()
    result = run("prices", "check", "--prices", "sample", "--all", "--format", "json")
    assert result.exit_code == 1, result.output
    answer = json.loads(result.stdout)
    states = {row["usage_type"]: (row["state"], row["bytes"]) for row in answer["rows"]}
    assert states["DataTransfer-Out-Bytes"] == ("priced", "10")
    assert states["USE1-EU-AWS-Out-Bytes"] == ("unpriced", "7")
    assert states["USE1-EUS1-AWS-Out-Bytes"] == ("unpriced", "400")
    assert states["C3DataTransfer-Out-Bytes"] == ("unrated", "5")
    assert (answer["unpriced_bytes"], answer["unrated_bytes"], answer["priced_bytes"]) == ("407", "5", "10")
    assert [row["state"] for row in answer["rows"]][:2] == ["unpriced", "unpriced"]
    without = json.loads(run("prices", "check", "--prices", "sample", "--format", "json").stdout)
    assert "priced" not in {row["state"] for row in without["rows"]}


def test_usage_before_the_first_price_of_its_product_has_none(stage: Stage, offers: list[Path]) -> None:
    stage.home.world.send([record(10), record(3, start_s=NOW_S - 10 * DAY_S)])
    stage.home.world.compact_all()
    ask("prices", "import", *offers, "--effective", "2026-11-20")
    result = run("prices", "check", "--all", "--format", "json")
    rows = {(row["state"], row["bytes"]) for row in json.loads(result.stdout)["rows"]}
    assert (result.exit_code, rows) == (1, {("unpriced", "3"), ("priced", "10")})


def test_usage_that_all_has_a_price_ends_well(stage: Stage) -> None:
    stage.home.world.send([record(10)])
    stage.home.world.compact_all()
    assert ask("prices", "check", "--prices", "sample")["rows"] == []
    assert ask("prices", "check", "--prices", "sample", "--month", "2026-09")["rows"] == []


def test_overrides_are_set_replaced_listed_and_removed(stage: Stage) -> None:
    payer = ("--payer", "999988887777", "--from", "2026-12")
    ask("prices", "override", "set", *payer, "--percent-off", "12.5", "--why", "contract")
    ask("prices", "override", "set", *payer, "--price", "0.05", "--to", "2027-01")
    ask("prices", "override", "set", "--account", "111122223333", "--from", "2026-12", "--no-allowance")
    rows = ask("prices", "override", "list")["rows"]
    assert [(row["payer"], row["account"], row["price_usd"], row["no_allowance"]) for row in rows] == [
        (None, "111122223333", None, True), ("999988887777", None, "0.0500000000", False),
    ]  # fmt: skip
    told = refused("prices", "override", "set", *payer[:2], "--from", "2026-11", "--price", "1")
    assert "two overrides overlap" in told
    ask("prices", "override", "remove", *payer)
    assert len(ask("prices", "override", "list")["rows"]) == 1
    assert "There is no override" in run("prices", "override", "remove", *payer).stderr
    assert len(stage.home.world.objects.keys("prices/overrides/")) == 4


def test_an_override_of_a_product_that_no_book_has_is_set_and_says_so(stage: Stage, offers: list[Path]) -> None:
    run("prices", "import", *map(str, offers), "--yes")
    line = ("--payer", "999988887777", "--price", "0.05", "--sku")
    known = offer_files.INTERNET_OUT["us-east-1"][0]
    wrong = run("prices", "override", "set", *line, "MISSPELLED1", "--from", "2026-12", "--yes")
    assert wrong.exit_code == 0
    assert "No price book has MISSPELLED1 now" in " ".join(wrong.stderr.split())
    assert "No price book" not in run("prices", "override", "set", *line, known, "--from", "2026-12", "--yes").stderr
    assert len(stage.home.world.objects.keys("prices/overrides/")) == 2


ACME = {"id": "999988887777", "name": "Acme", "issuer": "Cloud Team"}
WEB = {"id": "111122223333", "payer": "999988887777", "from": "2026-01-01T00:00:00Z", "to": None, "name": "web"}


def file_of(tmp_path: Path, *accounts: dict[str, Any], payers: list[dict[str, Any]] | None = None) -> Path:
    path = tmp_path / "payers.json"
    path.write_text(json.dumps({"payers": payers or [ACME], "accounts": accounts}), encoding="utf-8")
    return path


def test_a_file_is_set_shown_and_kept_in_versions(stage: Stage, tmp_path: Path) -> None:
    answer = ask("organization", "set", file_of(tmp_path, WEB))
    assert answer["version"] == 1
    assert answer["rows"] == [
        {
            "payer": "999988887777", "payer_name": "Acme", "issuer": "Cloud Team", "account": "111122223333",
            "account_name": "web", "from": "2026-01-01T00:00:00Z", "to": None,
        }
    ]  # fmt: skip
    ask("organization", "set", file_of(tmp_path))
    assert [row["account"] for row in ask("organization", "show")["rows"]] == [None]
    assert [row["account"] for row in ask("organization", "show", "--version", "1")["rows"]] == ["111122223333"]
    history = ask("organization", "history")["rows"]
    assert [(row["version"], row["accounts"]) for row in history] == [(2, 0), (1, 1)]
    assert stage.home.world.objects.keys("organization/") == ("organization/1.json", "organization/2.json")
    assert {what for what, _ in stage.deeds()} == {"organization set"}


def test_the_same_file_again_writes_nothing(stage: Stage, tmp_path: Path) -> None:
    ask("organization", "set", file_of(tmp_path, WEB))
    result = run("organization", "set", file_of(tmp_path, WEB))
    assert (result.exit_code, len(stage.home.world.objects.keys("organization/"))) == (0, 1)
    assert "Nothing was written: version 1 says the same." in result.stderr


@pytest.mark.parametrize(("accounts", "told"), [
    ([WEB, {**WEB, "from": "2026-06-01T00:00:00Z"}], "has payer 999988887777 twice"),
    ([{**WEB, "id": "11112222333"}], "is no account id"),
    ([{**WEB, "to": "2025-01-01T00:00:00Z"}], "it ends at"),
    ([{**WEB, "payer": "999988887778"}], "is not among the payers"),
])  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(
    stage: Stage, tmp_path: Path, accounts: list[dict[str, Any]], told: str
) -> None:
    assert told in refused("organization", "set", file_of(tmp_path, *accounts))
    assert stage.home.world.objects.keys("organization/") == ()


def test_overrides_of_a_payer_that_is_left_out_are_told(stage: Stage, tmp_path: Path) -> None:
    ask("prices", "override", "set", "--payer", "999988887778", "--from", "2026-12", "--price", "1")
    result = run("organization", "set", file_of(tmp_path, WEB))
    assert result.exit_code == 0
    assert "Overrides name payer 999988887778" in result.stderr
    assert stage.home.world.objects.keys("organization/")


@pytest.mark.parametrize(("line", "code"), [
    (("set", "/nowhere.json"), 2), (("show", "--version", "3"), 1), (("show", "--payer", "999988887778"), 1),
])  # fmt: skip
@pytest.mark.usefixtures("stage")
def test_what_does_not_exist_is_refused_in_words(line: tuple[str, ...], code: int) -> None:
    assert refused("organization", *line, code=code).startswith("Error: ")


# `metering budget` and `metering anomalies` from outside, over two regions in memory.

UNKNOWN = "999999999999"


@pytest.fixture
def budgeted() -> Iterator[TwoRegions]:
    made = billed()
    made.send(HOME, record(gb("600"), start_s=NOW_S, account=PAYER))
    made.send(AWAY, {**record(gb("300"), start_s=NOW_S, account=OTHER), "from": "eu-west-1"})
    with made.typed():
        yield made


def test_a_payers_budget_counts_the_usage_of_every_region_and_is_told_once(budgeted: TwoRegions) -> None:
    """900 GB cost 72 USD: 100 GB are free, and 800 GB cost 0.09 USD each."""
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


def pending(budgeted: TwoRegions, size: int, *, account: str = PAYER) -> None:
    """Send usage that is accepted and rolled up, but is in no lake file yet."""
    budgeted.home.world.send([record(size, start_s=NOW_S, account=account)])


def test_budgets_count_what_no_lake_file_and_no_run_of_the_biller_has(budgeted: TwoRegions) -> None:
    ask("budget", "set", "small", "--account", PAYER, "--amount", "1000 GB", "--threshold", "actual 80%")
    for size, regions in (("600", "all"), ("949", None)):
        [row] = ask("budget", "list")["rows"]
        assert row["actual"] == str(gb(size))
        pending(budgeted, gb("349"))
        if regions:
            # What the biller counts, counts no second time.
            ask("budget", "update", "--region", regions)
    for region in budgeted.regions.values():
        region.world.clock.advance_s(60)
    for line in (("budget", "list"), ("budget", "check"), ("budget", "forecast", "small"), ("anomalies",)):
        document = ask(*line)
        assert document["not_counted"] == {"bytes": "0", "records": 0, "at_least": False}, line
        assert document["counted_through"] == "2026-11-24T13:31:00Z"
    document = ask("budget", "check")
    assert (document["now"], document["as_of"]) == (True, "2026-11-24T13:31:00Z")
    [row] = document["rows"]
    assert (row["actual"], row["crossed"], row["alerts"]) == (str(gb("1298")), "actual 80%", "")
    assert "Counted: all that was accepted by 2026-11-24T13:31:00Z" in lines_of("budget", "list")


@pytest.fixture
def many_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each region has more accounts than a question reads."""
    monkeypatch.setattr("metering.wiring.biller.few_accounts", lambda _items, _most: False)


@pytest.mark.usefixtures("many_accounts")
def test_with_many_accounts_budgets_say_when_they_counted_and_what_is_not_counted(budgeted: TwoRegions) -> None:
    ask("budget", "set", "small", "--account", PAYER, "--amount", "10 GB", "--threshold", "actual 80%")
    ask("budget", "update", "--region", "all")
    budgeted.home.world.clock.advance_s(60)
    pending(budgeted, gb("349"))
    left = {"bytes": str(gb("349")), "records": 1, "at_least": False}
    for line in (("budget", "list"), ("budget", "check"), ("budget", "forecast", "small"), ("anomalies",)):
        document = ask(*line)
        assert document.get("not_counted") == left, line
        assert document.get("now", False) is False
        assert document["counted_through"] == "2026-11-24T13:30:00Z"
        assert "Not counted: 374,735,896,576 bytes = 349 GB, accepted and in no sum yet." in lines_of(*line)
        assert "Counted through 2026-11-24T13:30:00Z" in lines_of(*line)
        assert "metering compact" in lines_of(*line)
    assert "Counted: what the compactor had published by 2026-11-24T13:30:00Z" in lines_of("budget", "list")


def test_the_list_of_budgets_says_what_is_spent_and_how_much_that_is_of_the_amount(budgeted: TwoRegions) -> None:
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "90 USD")
    ask("budget", "set", "home", "--payer", PAYER, "--in-region", HOME, "--amount", "1200 GB")
    ask("budget", "update", "--region", "all")
    document = ask("budget", "list")
    rows = {row["budget"]: row for row in document["rows"]}
    assert (rows["egress"]["actual"], rows["egress"]["used_percent"]) == ("72.0000000000", "80.0")
    assert (rows["home"]["actual"], rows["home"]["used_percent"]) == (str(gb("600")), "50.0")
    assert (rows["egress"]["period"], rows["egress"]["thresholds"].split(", ")[0]) == ("month", "actual 80%")
    assert document["as_of"] == "2026-11-24T13:30:00Z"
    assert "used %" in lines_of("budget", "list")
    assert " 90.00 72.00 80.0 " in f"{lines_of('budget', 'list')} "
    assert "72.0000000000" in lines_of("budget", "list", "--wide")
    assert "72.00 " in lines_of("budget", "check")


def test_unusual_days_are_judged_by_the_book_that_is_named(budgeted: TwoRegions) -> None:
    ask("budget", "update", "--region", "all")
    assert ask("anomalies", "--prices", "sample")["prices"] == "sample 2"
    assert ask("anomalies", "--prices", "sample@1")["prices"] == "sample 1"
    assert ask("anomalies")["prices"] == "aws-list 1"
    assert "There is no price book contract" in refused("anomalies", "--prices", "contract")
    assert "is no price book" in refused("anomalies", "--prices", "@", code=2)


def test_on_an_emulator_an_update_of_budgets_compacts_first(budgeted: TwoRegions) -> None:
    ask("budget", "set", "small", "--account", ALONE, "--amount", "10 GB", "--threshold", "actual 80%", "--new-account")
    pending(budgeted, gb("349"), account=ALONE)
    for region in budgeted.regions.values():
        object.__setattr__(region, "emulated", True)
    counted = ask("budget", "update", "--region", "all")
    assert counted["alerts"] == 1
    assert counted["files"] > 0
    assert ask("budget", "list")["not_counted"] == {"bytes": "0", "records": 0, "at_least": False}


@pytest.mark.usefixtures("many_accounts")
def test_on_aws_an_update_of_budgets_compacts_nothing(budgeted: TwoRegions) -> None:
    pending(budgeted, gb("349"))
    assert not budgeted.home.emulated
    ask("budget", "update", "--region", "all")
    assert ask("budget", "list")["not_counted"]["bytes"] == str(gb("349"))


def test_the_line_about_money_in_the_status_says_what_no_budget_has(budgeted: TwoRegions) -> None:
    ask("budget", "update", "--region", "all")
    pending(budgeted, gb("349"))
    told = run("status", "--format", "json").stdout
    assert "not counted yet: 374,735,896,576 bytes = 349 GB" in told


def test_what_makes_no_sense_is_refused_in_words_and_nothing_is_set(budgeted: TwoRegions) -> None:
    for line, words in (
        (("--amount", "0 USD"), "is 0"),
        (("--amount", "-5 USD"), "below 0"),
        (("--amount", "5 USD", "--threshold", "actual 80%", "--threshold", "actual 80%"), "given twice"),
        (("--amount", "5 USD", "--threshold", "actual 5 TB"), "is in bytes"),
    ):
        assert words in refused("budget", "set", "egress", "--account", ALONE, *line)
    assert ask("budget", "list")["rows"] == []


def test_an_unknown_account_is_refused_unless_it_is_new(budgeted: TwoRegions) -> None:
    told = refused("budget", "set", "egress", "--account", UNKNOWN, "--amount", "5 USD")
    assert f"Account {UNKNOWN} is unknown" in told
    ask("budget", "set", "egress", "--account", UNKNOWN, "--amount", "5 USD", "--new-account")
    ask("budget", "set", "known", "--account", OTHER, "--amount", "5 USD")
    assert [row["budget"] for row in ask("budget", "list")["rows"]] == ["egress", "known"]


def test_a_budget_is_removed_once(budgeted: TwoRegions) -> None:
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "5 USD")
    assert ask("budget", "remove", "egress")["rows"] == []
    for line in (("remove", "egress"), ("check", "egress"), ("forecast", "egress")):
        assert "There is no budget egress" in refused("budget", *line)


def test_little_history_gives_no_forecast_and_says_so(budgeted: TwoRegions) -> None:
    ask("budget", "set", "egress", "--payer", PAYER, "--amount", "500 USD")
    ask("budget", "update", "--region", "all")
    result = run("budget", "forecast", "egress", "--format", "table")
    assert result.exit_code == 0
    assert "fewer than 3 days of history" in " ".join(result.stdout.split())
    assert ask("budget", "forecast", "egress")["rows"][0]["forecast"] is None


def test_a_first_version_shows_its_first_rows_on_a_table_and_a_next_one_all(
    stage: Stage, offers: list[Path], tmp_path: Path
) -> None:
    rows = ask("prices", "import", *offers, "--dry-run")["rows"]
    told = " ".join(run("prices", "import", *offers, "--format", "table").stdout.split())
    assert (told.count("added "), len(rows) > 40) == (12, True)
    assert f"{len(rows)} added. The first 12 are shown; all of them: metering prices show" in told
    cheaper = run("prices", "import", *offers[:1], "--book", "aws-list", "--dry-run", "--format", "table").stdout
    assert "are shown" not in cheaper


def test_anomalies_need_a_day_and_a_floor_that_are_some(budgeted: TwoRegions) -> None:
    assert run("anomalies", "--day", "yesterday").exit_code == 2
    assert run("anomalies", "--floor", "cheap").exit_code == 2
    assert ask("anomalies", "--day", "2026-11-20")["rows"] == []


# `metering accounts` from outside, and `metering reconcile`, which checks the same data.

SECOND, MONTH = "210987654321", "2026-11"


@pytest.fixture
def region() -> Iterator[Lively]:
    made = Lively(world=World())
    made.world.send([record(2**70 >> 8), record(5, account=SECOND)])
    made.world.compact_all()
    with typed_at(lambda **_place: made):
        yield made


def test_it_says_up_to_when_it_counted_and_what_is_accepted_and_in_no_list_yet(region: Lively) -> None:
    keep_day_sums(region.world)
    region.world.clock.advance_s(60)
    region.world.send([record(7)])
    region.world.send([record(4, account=SECOND)], rolled_up=False)
    answer = json.loads(run("accounts", "--format", "json").stdout)
    assert answer.get("not_counted") == {"bytes": "11", "records": 2, "at_least": False}
    assert answer["counted_through"] == "2026-11-24T13:30:00Z"
    told = " ".join(run("accounts", "--format", "table").stdout.split())
    assert "Not counted: 11 bytes, accepted and in no sum yet." in told


def test_who_asks_for_some_accounts_is_told_nothing_of_the_others(region: Lively) -> None:
    keep_day_sums(region.world)
    region.world.send([record(7)])
    for line in (("--account", ACCOUNT), ("--prefix", "21")):
        answer = json.loads(run("accounts", *line, "--format", "json").stdout)
        assert "not_counted" not in answer
        assert answer["counted_through"] == "2026-11-24T13:30:00Z"


def test_it_lists_the_accounts_of_the_month_that_runs(region: Lively) -> None:
    keep_day_sums(region.world)
    answer = json.loads(run("accounts", "--format", "json").stdout)
    assert (answer["month"], answer["periods"]) == (MONTH, {MONTH: "open"})
    assert answer["rows"] == [
        {
            "account_id": account, "bytes": size, "records": 1, "first_hour": "2026-11-24T13:00:00Z",
            "last_hour": "2026-11-24T13:00:00Z", "processed_bytes": "0",
        }
        for account, size in ((ACCOUNT, str(2**62)), (SECOND, "5"))
    ]  # fmt: skip
    rows = [*csv.DictReader(io.StringIO(run("accounts", "--top", "1", "--format", "csv").stdout))]
    assert [(row["account_id"], row["bytes"]) for row in rows] == [(ACCOUNT, str(2**62)), ("others", "5")]


@pytest.mark.usefixtures("region")
def test_before_the_biller_ran_it_says_so_and_shows_nothing() -> None:
    told = refused("accounts", "--format", "json")
    assert "The accounts of us-east-1 were not summed yet." in told
    assert "metering budget update" in told


def test_a_question_without_sense_is_refused_with_every_problem() -> None:
    told = refused("accounts", "--month", "2027-01", "--sort", "size", "--account", "1", code=2)
    for words in ("--month 2027-01 has not begun.", "--sort size is not a column", "--account 1 is not an account"):
        assert words in told


def test_reconcile_fails_if_the_list_differs_from_the_lake(region: Lively) -> None:
    world = region.world
    keep_day_sums(world)
    assert run("reconcile", "--deep", "--format", "json").exit_code == 0
    indexes = DayIndexes(objects=world.objects)
    index = indexes.newest()
    before = index.accounts[MONTH]
    reader = AccountsReader(world.objects.get(before.key), before.key)
    first, second = reader.accounts()
    body = accounts_body(MONTH, reader.hours, [first._replace(bytes=first.bytes + 1), second])
    key = accounts_key(MONTH, body)
    world.objects.put(key, body, if_absent=False)
    assert indexes.put(index.following({}, {MONTH: KeptAccounts(key=key, days=before.days)}))

    result = run("reconcile", "--deep", "--format", "json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["rows"]
    assert [(row["between"], row["key"]) for row in rows] == [
        ("accounts/rows", "accounts of 2026-11"), ("accounts/rows", f"account {ACCOUNT} of 2026-11"),
    ]  # fmt: skip
    assert [int(row["expected_bytes"]) - int(row["found_bytes"]) for row in rows] == [1, 1]
    assert "The lists of accounts differ from the lake in 2 places" in " ".join(result.stderr.split())
