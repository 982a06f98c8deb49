"""Budgets from words: what makes no sense is refused, and everything is said at once."""

from __future__ import annotations

import pytest

from metering.billing.budgets.budget import (
    MOST_THRESHOLDS,
    BudgetRefusedError,
    Scope,
    amount_of,
    budget_of,
    threshold_of,
)
from metering.billing.money import EXACT_A_USD
from metering.errors import LedgerCorruptError
from metering.ledger.notes.money import StoredBudget
from metering.stores.writes import Put, Table
from tests.support.budget_world import BudgetWorld

WHO = Scope(account="123456789012")


def problems(**fields: object) -> tuple[str, ...]:
    given: dict[str, object] = {"name": "egress", "amount": "1 USD", "thresholds": ["actual 80%"], "scope": WHO}
    given |= fields
    name = given.pop("name")
    with pytest.raises(BudgetRefusedError) as refused:
        budget_of(name, **given)  # type: ignore[arg-type]  # what no person should type
    return refused.value.problems


@pytest.mark.parametrize(
    ("text", "unit", "value", "said"),
    [
        ("500 USD", "USD", 500 * EXACT_A_USD, "500 USD"),
        ("0.0000000001 usd", "USD", EXACT_A_USD // 10**10, "0.0000000001 USD"),
        ("0010.50 USD", "USD", 21 * EXACT_A_USD // 2, "10.5 USD"),
        ("10 TB", "bytes", 10 * 2**40, "10 TB"),
        ("4096 bytes", "bytes", 4096, "4096 bytes"),
        ("99999999999999999999 bytes", "bytes", 10**20 - 1, "99999999999999999999 bytes"),
    ],
)
def test_an_amount_has_one_spelling(text: str, unit: str, value: int, said: str) -> None:
    amount = amount_of(text)
    assert (amount.unit, amount.value, amount.text) == (unit, value, said)
    assert amount_of(amount.text) == amount


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 USD", "is 0"),
        ("0.00 USD", "is 0"),
        ("-5 USD", "below 0"),
        ("-1 TB", "below 0"),
        ("0 TB", "is 0"),
        ("1e400 USD", "not a price"),
        ("NaN USD", "not a price"),
        ("1.00000000001 USD", "not a price"),
        ("5 EUR", "not an amount"),
        ("five", "not an amount"),
        ("", "not an amount"),
        ("5", "not an amount"),
    ],
)
def test_an_amount_that_is_none_is_refused(text: str, why: str) -> None:
    assert why in problems(amount=text)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("actual 80%", "actual 80%"),
        (" forecast  100% ", "forecast 100%"),
        ("actual 99.50%", "actual 99.5%"),
        ("actual 0.001%", "actual 0.001%"),
        ("actual 250%", "actual 250%"),
        ("actual 5 USD", "actual 5 USD"),
        ("forecast 10 GB", "forecast 10 GB"),
    ],
)
def test_a_threshold_has_one_spelling(text: str, said: str) -> None:
    threshold = threshold_of(text)
    assert threshold.text == said
    assert threshold_of(said) == threshold


@pytest.mark.parametrize(
    "text", ["80%", "actual", "actual 80", "actual 0%", "actual -5%", "actual 1.2345%", "actual 0 USD", "guess 5%", ""]
)
def test_a_threshold_that_is_none_is_refused(text: str) -> None:
    assert problems(thresholds=[text])


def test_a_threshold_is_reached_by_the_very_amount_and_not_by_less() -> None:
    """90 % of 1 USD, to the last digit of an exact cost."""
    threshold, amount = threshold_of("actual 90%"), EXACT_A_USD
    assert threshold.crossed(9 * EXACT_A_USD // 10, amount)
    assert not threshold.crossed(9 * EXACT_A_USD // 10 - 1, amount)
    absolute = threshold_of("actual 0.9 USD")
    assert absolute.crossed(9 * EXACT_A_USD // 10, amount)
    assert not absolute.crossed(9 * EXACT_A_USD // 10 - 1, amount)


def test_a_threshold_that_is_given_twice_is_refused_however_it_is_written() -> None:
    assert problems(thresholds=["actual 80%", "actual 80.0%"]) == ("the threshold 'actual 80%' is given twice",)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    said = problems(
        name="No Name",
        amount="0 USD",
        thresholds=["actual 5 TB", "soon"],
        scope=Scope(payer="1234", account="12345678901x"),
        period="year",
        severity="loud",
    )
    assert len(said) == 7
    assert "the payer '1234' is not an account id of 12 digits" in said


def test_a_budget_about_nothing_or_without_thresholds_is_refused() -> None:
    assert "it is about nothing" in problems(scope=Scope())[0]
    assert "nobody would hear" in problems(thresholds=[])[0]
    many = [f"actual {percent}%" for percent in range(1, MOST_THRESHOLDS + 2)]
    assert "at most" in problems(thresholds=many)[0]


def test_a_threshold_in_another_unit_is_refused() -> None:
    assert "is in bytes, and the budget in USD" in problems(thresholds=["actual 5 TB"])[0]


def test_a_budget_comes_back_as_it_was_set_until_it_is_removed() -> None:
    world = BudgetWorld()
    made = budget_of(
        "egress",
        amount="12.5 USD",
        thresholds=["actual 80%", "forecast 9 USD"],
        scope=Scope(payer="123456789012", region="us-east-1", usage_type="DataTransfer-Out-Bytes"),
        period="day",
        severity="page",
    )
    store = world.budgets()
    store.set(made)
    assert (store.list(), store.get("egress")) == ([made], made)
    store.remove("egress")
    assert (store.list(), store.get("egress")) == ([], None)


def test_a_stored_budget_that_makes_no_sense_is_named() -> None:
    world = BudgetWorld()
    broken = StoredBudget(name="egress", document={"amount": "1 USD"}, set_s=1)
    world.items.put(Put(table=Table.LEDGER, item=broken.to_item()))
    with pytest.raises(LedgerCorruptError, match="egress"):
        world.budgets().list()
