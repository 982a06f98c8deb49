"""`metering cost` as a command, over two regions: costs equal the invoice's, and filters only remove rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest

from metering.billing.budgets.open_months import KeptPositions
from metering.billing.organization import OrganizationStore
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.book import Override
from metering.billing.prices.store import OverrideStore, PriceStore
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import positions
from metering.billing.usage.months import FEW_ACCOUNTS
from metering.errors import UnavailableError
from metering.hours import month_bounds_s
from metering.stores.objects import positions_key
from metering.units import DAY_S, HOUR_S
from metering.wiring.billing import month_usage
from tests.support import command_line
from tests.support.command_line import AWAY, HOME, REFUSED, TwoRegions
from tests.support.lake_world import HOUR, NOW_S, record
from tests.support.priced import gb
from tests.unit.cli.test_invoice import ALONE, ID, OCTOBER_S, OTHER, PAYER, billed, prices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OUT = "DataTransfer-Out-Bytes"
run = partial(command_line.run, "cost")
ask = partial(command_line.ask, "cost")
refused = partial(command_line.refused, "cost")
invoice = partial(command_line.ask, "invoice")


@pytest.fixture(autouse=True)
def costs() -> Iterator[TwoRegions]:
    made = billed()
    with made.typed():
        yield made


def told(*line: str) -> str:
    result = run(*line, "--format", "table", "--wide")
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_a_closed_month_costs_what_its_draft_and_its_invoice_say(costs: TwoRegions) -> None:
    costs.close()
    draft = ask("--month", "2026-10", "--payer", PAYER, "--group-by", "account_id,usage_type")
    # 900 GB. The 100 free GB are in the most expensive region, and both regions have one price.
    assert draft["total_usd"] == "72.00"
    rows = [(row["account_id"], row["cost_usd"], row["quantity_gb"]) for row in draft["rows"]]
    assert rows == [(PAYER, "54.0000000000", "600.0000000000"), (OTHER, "18.0000000000", "300.0000000000")]
    assert (draft["currency"], draft["price_book"]) == ("USD", {"name": "aws-list", "version": 1})
    assert draft["periods"] == {"2026-10": "draft"}
    assert draft["regions"] == [AWAY, HOME]
    issued = invoice("issue", "--month", "2026-10")["rows"]
    PriceStore(costs.home.world.objects).put(prices("0.50"))
    after = ask("--month", "2026-10", "--payer", PAYER, "--group-by", "account_id,usage_type")
    assert after["periods"] == {"2026-10": "invoice"}
    assert after["rows"] == draft["rows"]
    assert Decimal(after["total_usd"]) == Decimal(issued[0]["usd"])
    assert "2026-10: as invoiced." in told("--month", "2026-10")
    asked = ask("--month", "2026-10", "--payer", PAYER, "--prices", "aws-list")
    assert (asked["total_usd"], asked["periods"]) == ("400.00", {"2026-10": "draft"})
    assert ask("--month", "2026-10", "--payer", PAYER, "--prices", "aws-list@1")["total_usd"] == "72.00"
    unknown = refused("--month", "2026-10", "--prices", "aws-list@9")
    assert "There is no version 9 of price book aws-list." in unknown
    assert "metering prices history" in unknown


def test_late_rows_cost_what_the_next_invoice_bills_for_them(costs: TwoRegions) -> None:
    costs.close()
    invoice("issue", "--month", "2026-10")
    costs.send(HOME, record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER), record(gb("10"), account=PAYER))
    draft = invoice("draft", "--month", "2026-11", "--payer", PAYER)
    november = ask("--month", "2026-11", "--payer", PAYER, "--group-by", "account_id,corrects")
    assert Decimal(november["total_usd"]) == Decimal(draft["total"]["exact_usd"]) == Decimal("4.5")
    assert {(row["account_id"], bool(row["corrects"])) for row in november["rows"]} == {(PAYER, False), (OTHER, True)}
    by_day = ask("--month", "2026-11", "--payer", PAYER, "--group-by", "day,hour,region")
    assert by_day["total_usd"] == november["total_usd"]
    october = ask("--month", "2026-10", "--payer", PAYER)
    assert october["total_usd"] == "72.00"
    said = " ".join(run("--month", "2026-11", "--payer", PAYER, "--format", "table").stdout.split())
    assert "In the total: 4.50 USD for usage that came late for closed months" in said
    assert "To see them apart: --with-corrections" in said
    both = ask("--month", "2026-10", "--payer", PAYER, "--with-corrections")
    assert Decimal(both["total_usd"]) == Decimal("72") + Decimal("4.5")
    earlier = ask("--from", "2026-11-01", "--to", "2026-11-02", "--payer", PAYER)
    assert earlier["total_usd"] == "0.00"


def test_groups_filters_and_order_are_those_of_a_report_of_usage_and_more(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("12000"), start_s=NOW_S - DAY_S, account=PAYER), record(gb("7"), account=ALONE))
    tiers = ask("--group-by", "tier,payer", "--payer", PAYER)
    assert [row["tier"] for row in tiers["rows"]] == ["free (free)", "tier 1 (0-10240 GB)", "tier 2 (10240-51200 GB)"]
    assert [row["cost_usd"] for row in tiers["rows"]] == ["0.0000000000", "921.6000000000", "141.1000000000"]
    assert {row["payer"] for row in tiers["rows"]} == {PAYER}
    assert tiers["total_usd"] == "1062.70"
    top = ask("--group-by", "account_id", "--top", "1")
    assert [row["account_id"] for row in top["rows"]] == [PAYER]
    assert (top["rows_total"], top["others"]["cost_usd"]) == (2, "0.0000000000")
    assert "1 of 2 rows; the last line is the sum of the others." in told("--group-by", "account_id", "--top", "1")
    least = ask("--group-by", "account_id", "--sort", "cost_usd")
    assert [row["account_id"] for row in least["rows"]] == [ALONE, PAYER]
    assert ask("--account", ALONE)["total_usd"] == "0.00"
    assert ask("--service", "AmazonS3")["rows"] == []
    assert ask("--usage-type", OUT, "--group-by", "day,hour,from,to,service,month")["total_usd"] == "1062.70"
    assert ask("--account", ALONE, "--payer", PAYER)["rows"] == []
    berlin = ask("--group-by", "day", "--tz", "Europe/Berlin")
    assert berlin["total_usd"] == "1062.70"
    assert ask("--last", "2d")["total_usd"] == "1062.70"


def test_one_region_is_shown_at_the_positions_of_all(costs: TwoRegions) -> None:
    whole = ask("--month", "2026-10", "--group-by", "region", "--payer", PAYER)
    parts = {row["region"]: row["cost_usd"] for row in whole["rows"]}
    for name in (HOME, AWAY):
        one = ask("--month", "2026-10", "--payer", PAYER, "--region", name)
        assert one["rows"][0]["cost_usd"] == parts[name]
    assert sum(map(Decimal, parts.values())) == 72
    assert ask("--month", "2026-10", "--region", "all")["total_usd"] == "72.00"
    assert f"Only usage of {AWAY}, at the positions of all 2 regions." in told("--month", "2026-10", "--region", AWAY)
    assert "because a payer's tiers count over all" in told("--month", "2026-10")


def test_usage_without_a_price_has_no_cost_and_fails_strict(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("5"), account=ALONE, to="eu-west-1"), record(gb("2"), account=ALONE))
    answer = ask("--account", ALONE)
    rows = {row["usage_type"]: row for row in answer["rows"]}
    pair = rows["USE1-EU-AWS-Out-Bytes"]
    assert (pair["cost_usd"], pair["unpriced_bytes"], pair["unrated_bytes"]) == (None, str(gb("5")), "0")
    assert rows[OUT]["cost_usd"] == "0.0000000000"
    unpriced = {"service": "AmazonEC2", "usage_type": "USE1-EU-AWS-Out-Bytes", "bytes": str(gb("5"))}
    assert answer["unpriced"] == [unpriced]
    assert "Without a price, and not in the total: 5,368,709,120 bytes" in told("--account", ALONE)
    strict = run("--account", ALONE, "--strict", "--format", "csv")
    assert strict.exit_code == 1
    assert "USE1-EU-AWS-Out-Bytes of AmazonEC2 (5,368,709,120 bytes)" in strict.stderr
    assert run("--account", ALONE, "--usage-type", OUT, "--strict").exit_code == 0


def test_cents_come_first_then_what_has_no_price_then_all_digits(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("5"), account=ALONE, to="eu-west-1"), record(gb("600") + 1, account=ALONE))
    line = ("--account", ALONE, "--group-by", "usage_type,hour")
    text = told(*line)
    order = ["Total: 45.00 USD", "Without a price", "Exactly: 45.0000000000838", "ten decimals of a row"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "5,368,709,120 bytes = 5.00 GB, of 649,613,803,521 bytes = 605 GB in all. 1 usage type has none" in text
    assert "45.0000000001 " in text
    narrow = " ".join(run(*line, "--format", "table").stdout.split())
    assert "45.0000000001 " not in narrow
    assert "600.0000000009 45.00 " in narrow


def test_every_format_has_the_same_figures(costs: TwoRegions, tmp_path: Path) -> None:
    costs.send(HOME, record(gb("600") + 1, account=ALONE))
    line = ("--group-by", "account_id,hour")
    rows = ask(*line)["rows"]
    table = [*csv.DictReader(io.StringIO(run(*line, "--format", "csv").stdout))]
    assert [row["cost_usd"] for row in table] == [row["cost_usd"] for row in rows] == ["45.0000000001"]
    lines = [json.loads(text) for text in run(*line, "--format", "ndjson").stdout.splitlines()]
    assert lines == rows
    path = tmp_path / "cost.parquet"
    assert run(*line, "--output", str(path)).exit_code == 0
    assert [str(row["cost_usd"]) for row in pq.read_table(path).to_pylist()] == ["45.0000000001"]
    assert "which is 0.00000000001618" in told(*line)


def test_an_account_of_a_payer_is_rated_by_the_positions_that_are_kept_and_says_so(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("12000"), start_s=NOW_S - DAY_S, account=PAYER), record(gb("4000"), account=OTHER))
    exact = ask("--account", OTHER)
    assert exact["positions"] == {}
    objects = costs.home.world.objects
    book, organization = PriceStore(objects).newest("aws-list"), OrganizationStore(objects).newest()
    assert book is not None
    overrides = OverrideStore(objects).newest()
    sources = [region.world.source() for region in costs.regions.values()]
    with month_usage(sources, "2026-11", organization) as usage:
        found = positions(PayerPrices.of(book, organization, PAYER, ()), usage.of(PAYER))
    kept = KeptPositions(
        as_of="2026-11-24T13:00:00Z", through="", book=(book.name, book.version, book.sha256),
        overrides=overrides.version, organization=organization.version, regions=(AWAY, HOME), left_out=(),
        positions=found,
    )  # fmt: skip
    objects.put(positions_key("2026-11", PAYER), kept.to_json(), if_absent=False)
    by_kept = ask("--account", OTHER)
    assert by_kept["positions"] == {PAYER: "2026-11-24T13:00:00Z"}
    assert (by_kept["rows"], by_kept["total_usd"]) == (exact["rows"], exact["total_usd"])
    assert f"by the positions of payer {PAYER} as of 2026-11-24T13:00:00Z" in told("--account", OTHER)
    of_many = ask("--account", ",".join([OTHER, *(f"{number:012d}" for number in range(FEW_ACCOUNTS))]))
    assert (of_many["positions"], of_many["total_usd"]) == ({}, exact["total_usd"])
    costs.send(HOME, record(gb("1"), start_s=NOW_S - 2 * DAY_S, account=PAYER))
    assert ask("--account", OTHER, "--exact")["positions"] == {}
    of_october = kept.to_json().replace(b"2026-11", b"2026-10")
    objects.put(positions_key("2026-10", PAYER), of_october, if_absent=False)
    assert ask("--account", OTHER, "--month", "2026-10")["positions"] == {}
    old, few = replace(kept, as_of="2026-11-24T05:00:00Z"), replace(kept, regions=(HOME,))
    for each, found_by in ((old, {}), (few, {}), (kept, {PAYER: kept.as_of})):
        objects.put(positions_key("2026-11", PAYER), each.to_json(), if_absent=False)
        assert ask("--account", OTHER)["positions"] == found_by
    PriceStore(objects).put(prices("0.10"))
    assert ask("--account", OTHER)["positions"] == {}


@pytest.mark.parametrize(("line", "code", "words"), [
    (["--month", "2026-13"], 2, "2026-13 is not a time."),
    (["--month", "2026-11-01"], 2, "2026-11-01 is not a month."),
    (["--month", "2026-10", "--last", "7d"], 2, "cannot stand beside"),
    (["--month", "2026-12"], 2, "lies in the future"),
    (["--month", "9999-01"], 2, "lies outside the years"),
    (["--from", "9999-01"], 2, "lies outside the years"),
    (["--from", "2026-11-24T13:30:00Z"], 2, "is not on the hour"),
    (["--payer", "12"], 2, "is not a payer"),
    (["--account", "12"], 2, "is not an account"),
    (["--group-by", "colour"], 2, "is not one of the columns"),
    (["--sort", "records"], 2, "is not a column of this report"),
    (["--top", "0"], 2, "is not a number of rows"),
    (["--prices", "aws-list@x"], 2, "is no price book"),
    (["--prices", "mine"], 1, "There is no price book mine."),
    (["--prices", "aws-list@9"], 1, "aws-list"),
    (["--region", "sa-east-1"], 1, "Region sa-east-1 holds no data"),
    (["explain", "--account", PAYER, "--hour", "soon", "--usage-type", OUT], 2, "is no full hour"),
    (["explain", "--account", PAYER, "--hour", "2027-01-01T00:00:00Z", "--usage-type", OUT], 2, "future"),
    (["explain", "--account", "1", "--hour", "2026-11-01T00:00:00Z", "--usage-type", OUT], 2, "is not an account"),
])  # fmt: skip
def test_a_senseless_request_is_refused_in_words(costs: TwoRegions, line: list[str], code: int, words: str) -> None:
    assert words in refused(*line, code=code)


@pytest.mark.parametrize("line", [[], ["--account", PAYER], ["--region", HOME]])
def test_a_region_that_cannot_be_read_is_named_and_nothing_is_shown(costs: TwoRegions, line: list[str]) -> None:
    costs.silent[AWAY] = REFUSED
    assert f"region {AWAY} cannot be read" in refused(*line, "--format", "json")


@pytest.mark.parametrize("line", [[], ["--account", PAYER], ["--month", "2026-10"]])
def test_a_region_that_falls_silent_while_it_is_read_is_named(costs: TwoRegions, line: list[str]) -> None:
    def fall_silent(call: str) -> None:
        if call != "get":
            raise UnavailableError(call, "throttled")

    costs.regions[AWAY].world.items.on_call = fall_silent
    assert AWAY in refused(*line, "--format", "json")


def test_without_an_imported_book_a_command_says_what_to_do(costs: TwoRegions) -> None:
    objects = costs.home.world.objects
    objects.delete([info.key for info in objects.list("prices/")])
    told = refused()
    assert "metering prices import" in told
    assert "--prices sample" in told
    assert run("--prices", "sample").exit_code == 0


def test_an_hour_is_explained_as_arithmetic(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("10239") + gb("100"), start_s=NOW_S - DAY_S, account=PAYER))
    costs.send(HOME, record(gb("2"), account=PAYER), record(gb("2"), account=OTHER))
    hour = "2026-11-24T13:00:00Z"
    line = ("explain", "--account", PAYER, "--hour", hour, "--usage-type", OUT)
    document = ask(*line)
    assert (document["payer"], document["total_usd"]) == (PAYER, "0.175")
    [story] = document["lines"]
    assert story["before"] == {"paid_bytes": str(gb("10239")), "free_bytes": str(gb("100"))}
    pieces = [(piece["bytes"], piece["price_usd"], piece["exact_usd"]) for piece in story["pieces"]]
    assert pieces == [(str(gb("1")), "0.0900000000", "0.09"), (str(gb("1")), "0.0850000000", "0.085")]
    assert story["cuts"][1]["begins"]["into_bytes"] == str(gb("1"))
    assert document["batches"].startswith("metering trace --account")
    assert document["batches"].endswith("--hour 2026-11-24T13:00:00Z")
    page = told(*line)
    assert "1,073,741,824 bytes / 1,073,741,824 x 0.0850000000 USD = 0.085 USD" in page
    assert f"Before it, its payer had {gb('10239'):,} bytes" in page
    batches = command_line.run(*document["batches"].split()[1:])
    assert batches.exit_code == 0, batches.output
    other = ask("explain", "--account", OTHER, "--hour", hour, "--usage-type", OUT, "--service", "AmazonEC2")
    assert other["total_usd"] == "0.17"
    assert ask("explain", "--account", ALONE, "--hour", hour, "--usage-type", OUT)["lines"] == []


def test_an_account_with_a_price_of_its_own_is_rated_and_explained_by_it(costs: TwoRegions) -> None:
    costs.send(HOME, record(gb("300"), account=PAYER), record(gb("200"), account=OTHER))
    own = Override(account=OTHER, percent_off=50_000, no_allowance=True, from_s=0, why="agreed")
    OverrideStore(costs.home.world.objects).append(lambda overrides: (*overrides, own))
    rows = {row["account_id"]: row["cost_usd"] for row in ask("--group-by", "account_id")["rows"]}
    assert rows == {PAYER: "18.0000000000", OTHER: "9.0000000000"}
    assert ask("--account", OTHER)["total_usd"] == "9.00"
    line = ("explain", "--account", OTHER, "--hour", "2026-11-24T13:00:00Z", "--usage-type", OUT)
    [story] = ask(*line)["lines"]
    terms = "50.000 % off, no part of allowances"
    assert story["overrides"] == [{"of": f"account {OTHER}", "terms": terms, "why": "agreed"}]
    assert story["before"] == {"paid_bytes": str(gb("200")), "free_bytes": str(gb("100"))}
    [piece] = story["pieces"]
    assert (piece["price_usd"], piece["list_price_usd"]) == ("0.0450000000", "0.0900000000")
    assert f"Override of account {OTHER}: 50.000 % off, no part of allowances. agreed" in told(*line)


def test_usage_that_is_not_priced_is_explained_too(costs: TwoRegions) -> None:
    costs.send(HOME, record(5, account=ALONE, to="eu-west-1"))
    line = ("explain", "--account", ALONE, "--hour", "2026-11-24T13:00:00Z", "--usage-type", "USE1-EU-AWS-Out-Bytes")
    assert ask(*line)["lines"][0]["state"] == "unpriced"
    assert "Its cost is not 0, but unknown." in told(*line)


def test_costs_of_a_time_in_which_nothing_came_late_say_nothing_of_it() -> None:
    for line in (("--month", "2026-10"), ("--account", OTHER), ()):
        assert "came late" not in told(*line)


def test_a_chart_of_costs_is_in_usd() -> None:
    text = run("--month", "2026-10", "--group-by", "account_id", "--chart", "--format", "table").stdout
    assert "largest first:" in text
    assert " USD  █" in text


NOVEMBER_S = month_bounds_s("2026-11")[0]


def put_payers(stage: TwoRegions, *members: tuple[str, Membership]) -> None:
    """Put payers with their members, as a new version."""
    ids = sorted({payer_id for payer_id, _ in members})
    payers = tuple(
        Payer(payer_id=each, name=each, issuer="Metering", members=tuple(of for to, of in members if to == each))
        for each in ids
    )
    OrganizationStore(stage.home.world.objects).put(Organization(payers=payers))


def cost_of(row: str, *line: str) -> dict[str, Decimal]:
    rows = ask(*line, "--group-by", row)["rows"]
    return {each[row]: Decimal(each["cost_usd"] or 0) for each in rows}


def moved(stage: TwoRegions) -> None:
    """Move OTHER from PAYER to ALONE in November; October is already invoiced, and has late rows."""
    put_payers(
        stage, (PAYER, Membership(PAYER, 0, None)), (PAYER, Membership(OTHER, 0, NOVEMBER_S)),
        (ALONE, Membership(OTHER, NOVEMBER_S, None)), (ALONE, Membership(ALONE, 0, None)),
    )  # fmt: skip
    stage.close()
    invoice("issue", "--month", "2026-10")
    stage.send(
        HOME,
        record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER),
        record(gb("20000"), start_s=OCTOBER_S + 2 * HOUR_S, account=PAYER),
        record(gb("200"), account=OTHER),
    )


def test_late_rows_of_an_account_that_has_another_payer_now_are_in_its_costs(costs: TwoRegions) -> None:
    moved(costs)
    whole = cost_of("account_id", "--month", "2026-11")
    for line in (["--exact"], []):
        assert cost_of("account_id", "--month", "2026-11", "--account", OTHER, *line) == {OTHER: whole[OTHER]}
    by_payer = cost_of("payer", "--month", "2026-11")
    assert sum(by_payer.values()) == sum(whole.values())
    for payer_id, usd in by_payer.items():
        assert cost_of("payer", "--month", "2026-11", "--payer", payer_id) == {payer_id: usd}


def test_late_rows_of_a_payer_that_lost_an_account_since_are_in_its_costs(costs: TwoRegions) -> None:
    costs.close()
    invoice("issue", "--month", "2026-10")
    put_payers(costs, (PAYER, Membership(PAYER, 0, None)))
    costs.send(HOME, record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER), record(gb("10"), account=PAYER))
    by_payer = cost_of("payer", "--month", "2026-11")
    assert by_payer[PAYER] == Decimal("4.5")
    assert cost_of("payer", "--month", "2026-11", "--payer", PAYER) == {PAYER: by_payer[PAYER]}
    whole = cost_of("account_id", "--month", "2026-11")
    assert cost_of("account_id", "--month", "2026-11", "--account", OTHER) == {OTHER: whole[OTHER]}


def test_a_version_of_the_sample_that_there_is_not_is_refused(costs: TwoRegions) -> None:
    assert run("--prices", "sample@1").exit_code == 0
    assert "sample" in refused("--prices", "sample@99")


def test_a_month_stays_as_it_was_invoiced_when_what_it_corrects_is_credited_afterwards(costs: TwoRegions) -> None:
    moment = month_bounds_s("2026-12")[0] + 4 * DAY_S
    costs.close()
    invoice("issue", "--month", "2026-10")
    costs.send(HOME, record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER), record(gb("10"), account=PAYER))
    for region in costs.regions.values():
        region.world.clock.advance_s(moment - region.world.clock.now_ms() // 1000)
    costs.close(month="2026-11")
    with patch("time.time", lambda: moment), patch("time.time_ns", lambda: moment * 10**9):
        issued = invoice("issue", "--month", "2026-11")["rows"]
        PriceStore(costs.home.world.objects).put(prices("0.05"))
        invoice("credit", ID, "--because", "the price was wrong")
        after = ask("--month", "2026-11", "--payer", PAYER)
    assert after["periods"] == {"2026-11": "invoice"}
    assert [Decimal(each["usd"]) for each in issued] == [Decimal(after["total_usd"])] == [Decimal("4.5")]


def test_what_was_used_before_the_first_price_is_not_before_a_line_that_is_explained(costs: TwoRegions) -> None:
    book = prices()
    out = replace(book.products[0], versions=(replace(book.products[0].versions[0], from_s=HOUR - DAY_S),))
    products = (out, *book.products[1:])
    PriceStore(costs.home.world.objects).put(replace(book, products=products))
    for size, back in (("7", 40), ("120", 3), ("1", 0)):
        costs.send(HOME, record(gb(size), start_s=HOUR - back * HOUR_S, account=ALONE))
    hour = "2026-11-24T13:00:00Z"
    [story] = ask("explain", "--account", ALONE, "--hour", hour, "--usage-type", "DataTransfer-Out-Bytes")["lines"]
    assert story["before"] == {"paid_bytes": str(gb("20")), "free_bytes": str(gb("100"))}
    row = ask("--account", ALONE)["rows"][0]
    assert (row["cost_usd"], row["unpriced_bytes"]) == ("1.8900000000", str(gb("7")))


def test_a_payer_with_usage_of_no_bytes_keeps_no_month_a_draft(costs: TwoRegions) -> None:
    costs.send(HOME, record(0, start_s=OCTOBER_S, account=ALONE))
    costs.close()
    invoice("issue", "--month", "2026-10")
    assert ask("--month", "2026-10")["periods"] == {"2026-10": "invoice"}
