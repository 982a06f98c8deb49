"""`metering cost` where payers, prices or documents changed after usage: a filter only ever takes rows away."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from unittest.mock import patch

from metering.billing.organization import Membership, Organization, OrganizationStore, Payer
from metering.billing.prices.store import PriceStore
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import HOUR, record
from tests.support.priced import gb
from tests.unit.cli.test_cost import ask, costs, invoice, run  # noqa: F401  # a fixture
from tests.unit.cli.test_invoice import (
    ALONE,
    HOME,
    ID,
    OCTOBER_S,
    OTHER,
    PAYER,
    Stage,
    prices,
    stage,  # noqa: F401  # a fixture
)

NOVEMBER_S = month_bounds_s("2026-11")[0]


def put_payers(stage: Stage, *members: tuple[str, Membership]) -> None:  # noqa: F811
    """Payers with their members, as a new version."""
    ids = sorted({payer_id for payer_id, _ in members})
    payers = tuple(
        Payer(payer_id=each, name=each, issuer="Metering", members=tuple(of for to, of in members if to == each))
        for each in ids
    )
    OrganizationStore(stage.home.world.objects).put(Organization(payers=payers))


def cost_of(row: str, *line: str) -> dict[str, Decimal]:
    rows = ask(*line, "--group-by", row)["rows"]
    return {each[row]: Decimal(each["cost_usd"] or 0) for each in rows}


def moved(stage: Stage) -> None:  # noqa: F811
    """OTHER belongs to PAYER until November, and to ALONE from then on; October is invoiced, and has late rows."""
    put_payers(
        stage,
        (PAYER, Membership(PAYER, 0, None)),
        (PAYER, Membership(OTHER, 0, NOVEMBER_S)),
        (ALONE, Membership(OTHER, NOVEMBER_S, None)),
        (ALONE, Membership(ALONE, 0, None)),
    )
    stage.close()
    invoice("issue", "--month", "2026-10")
    stage.send(
        HOME,
        record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER),
        record(gb("20000"), start_s=OCTOBER_S + 2 * HOUR_S, account=PAYER),
        record(gb("200"), account=OTHER),
    )


def test_late_rows_of_an_account_that_has_another_payer_now_are_in_its_costs(costs: Stage) -> None:  # noqa: F811
    moved(costs)
    whole = cost_of("account_id", "--month", "2026-11")
    for line in (["--exact"], []):
        assert cost_of("account_id", "--month", "2026-11", "--account", OTHER, *line) == {OTHER: whole[OTHER]}
    by_payer = cost_of("payer", "--month", "2026-11")
    assert sum(by_payer.values()) == sum(whole.values())
    for payer_id, usd in by_payer.items():
        assert cost_of("payer", "--month", "2026-11", "--payer", payer_id) == {payer_id: usd}


def test_late_rows_of_a_payer_that_lost_an_account_since_are_in_its_costs(costs: Stage) -> None:  # noqa: F811
    costs.close()
    invoice("issue", "--month", "2026-10")
    put_payers(costs, (PAYER, Membership(PAYER, 0, None)))
    costs.send(HOME, record(gb("50"), start_s=OCTOBER_S + HOUR_S, account=OTHER), record(gb("10"), account=PAYER))
    by_payer = cost_of("payer", "--month", "2026-11")
    assert by_payer[PAYER] == Decimal("4.5")
    assert cost_of("payer", "--month", "2026-11", "--payer", PAYER) == {PAYER: by_payer[PAYER]}
    whole = cost_of("account_id", "--month", "2026-11")
    assert cost_of("account_id", "--month", "2026-11", "--account", OTHER) == {OTHER: whole[OTHER]}


def test_a_version_of_the_sample_that_there_is_not_is_refused(costs: Stage) -> None:  # noqa: F811
    assert run("--prices", "sample@1").exit_code == 0
    result = run("--prices", "sample@99")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "sample" in result.stderr


def test_a_month_stays_as_it_was_invoiced_when_what_it_corrects_is_credited_afterwards(costs: Stage) -> None:  # noqa: F811
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


def test_what_was_used_before_the_first_price_is_not_before_a_line_that_is_explained(costs: Stage) -> None:  # noqa: F811
    book = prices()
    out = replace(book.products[0], versions=(replace(book.products[0].versions[0], from_s=HOUR - DAY_S),))
    products = (out, *book.products[1:])
    PriceStore(costs.home.world.objects).put(replace(book, products=products))
    costs.send(HOME, *(record(gb(size), start_s=HOUR - back * HOUR_S, account=ALONE)
                       for size, back in (("7", 40), ("120", 3), ("1", 0))))  # fmt: skip
    hour = "2026-11-24T13:00:00Z"
    [story] = ask("explain", "--account", ALONE, "--hour", hour, "--usage-type", "DataTransfer-Out-Bytes")["lines"]
    assert story["before"] == {"paid_bytes": str(gb("20")), "free_bytes": str(gb("100"))}
    row = ask("--account", ALONE)["rows"][0]
    assert (row["cost_usd"], row["unpriced_bytes"]) == ("1.8900000000", str(gb("7")))


def test_a_payer_with_usage_of_no_bytes_keeps_no_month_a_draft(costs: Stage) -> None:  # noqa: F811
    costs.send(HOME, record(0, start_s=OCTOBER_S, account=ALONE))
    costs.close()
    invoice("issue", "--month", "2026-10")
    assert ask("--month", "2026-10")["periods"] == {"2026-10": "invoice"}
