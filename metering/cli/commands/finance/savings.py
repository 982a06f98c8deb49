"""`metering savings` and `metering what-if`: what changes of a network would save. Nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.costing import savings_here
from metering.cli.command import Session, command
from metering.cli.commands.finance.cost import PricesOption
from metering.cli.failures import WrongUsageError
from metering.cli.options import argument, option
from metering.reports.savings.rules import savings_rules

if TYPE_CHECKING:
    from metering.reports.savings.rules import SavingsRule

savings_app, what_if_app = typer.Typer(), typer.Typer()

_RULES = ", ".join(savings_rules())
MonthOption = Annotated[str | None, option("--month", "YYYY-MM", "Billing month. Default: the current month.")]


@command(
    savings_app, "savings", "metering savings", "metering savings --month 2026-10 --rule gateway-endpoint --top 0",
    reads=True, everywhere=True,
)  # fmt: skip
def savings(
    session: Session,
    *,
    month: MonthOption = None,
    rule: Annotated[list[str] | None, option("--rule", "NAME", f"Only this rule (repeatable): {_RULES}.")] = None,
    top: Annotated[int, option("--top", "N", "The largest N savings; 0 for all.", min=0)] = 20,
    prices: PricesOption = None,
) -> None:
    """List what changes of the network would save, by causes of the month's bytes. Nothing is changed.

    Each saving is the cost of the payer's whole month as it was, less its cost as it would be, rated as `metering cost`
    does. Each stands alone: savings of one place by two rules do not add up. `at most` marks an upper bound. Hours of
    added gateways and endpoints are not taken off, because price books have no prices of hours.
    """
    from metering.wiring.answers.savings import Asked

    rules = [_rule(name) for name in dict.fromkeys(rule or savings_rules())]
    session.write(savings_here(session, Asked(rules, month, top), prices=prices))


@command(
    what_if_app, "what-if", "metering what-if gateway-endpoint",
    "metering what-if nat-per-zone --month 2026-10 --hourly-usd 0.045", reads=True, everywhere=True,
)  # fmt: skip
def what_if(
    session: Session,
    rule: Annotated[str, argument("RULE", f"The rule: {_RULES}.")],
    *,
    month: MonthOption = None,
    hourly_usd: Annotated[
        str | None, option("--hourly-usd", "PRICE", "Price of an hour of what is added in one zone, taken off.")
    ] = None,
    prices: PricesOption = None,
) -> None:
    """Show a month as it was, and as it would be if a rule were applied wherever it fits. Nothing is changed.

    A payer has a row with both costs of its month. Below are what to check before the change, and the bytes that the
    rule cannot judge. In JSON, `changed` has each usage type, as it was and as it would be.
    """
    from metering.billing.money import price_of
    from metering.wiring.answers.savings import Asked

    try:
        hourly = None if hourly_usd is None else price_of(hourly_usd)
    except ValueError as error:
        raise WrongUsageError(f"--hourly-usd: {error}.", "Write it as 0.045") from error
    asked = Asked([_rule(rule)], month, hourly=hourly)
    session.write(savings_here(session, asked, prices=prices))


def _rule(name: str) -> SavingsRule:
    if name not in savings_rules():
        raise WrongUsageError(f"{name} is no rule.", f"The rules: {_RULES}.")
    return savings_rules()[name]
