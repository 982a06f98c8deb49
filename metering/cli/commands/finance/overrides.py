"""`metering prices override`: other prices of a payer or an account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.home import billing_home, home_ground
from metering.cli.billing.moments import full_hour
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.tree.groups import CommandGroup

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.prices.book import Override
    from metering.billing.prices.overrides import Overrides

override = typer.Typer(
    cls=CommandGroup,
    help="Other prices of a payer or an account: set them, list them, remove them.",
    no_args_is_help=True,
)

PayerOption = Annotated[str | None, typer.Option("--payer", metavar="ID", help="Of this payer and its accounts.")]
AccountOption = Annotated[str | None, typer.Option("--account", metavar="ID", help="Of this account alone.")]
SkuOption = Annotated[
    list[str] | None, typer.Option("--sku", metavar="SKU", help="Only this product; may be given again. Default: all.")
]
FromOption = Annotated[
    str,
    typer.Option("--from", metavar="TIME", help="From this full hour on, such as 2026-12-01T00:00:00Z; or 2026-12."),
]

_EXAMPLES = """Examples:

    metering prices override set --payer 999988887777 --percent-off 12.5 --from 2026-12 --why discount
    metering prices override set --account 111122223333 --sku HQEH3ZWJVT46JHRG --price 0.05 --from 2026-12
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """Whom and what an override is about."""

    payer: str
    account: str
    skus: frozenset[str]
    from_s: int

    def is_of(self, other: Override) -> bool:
        return (self.payer, self.account, self.skus, self.from_s) == (
            other.payer, other.account, other.skus, other.from_s,
        )  # fmt: skip


@command(override, "list", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """List all overrides, of the past and of the future."""
    from metering.reports.prices.payers import overrides_answer
    from metering.wiring.billing.stores import build_overrides

    session.write(overrides_answer(build_overrides(billing_home(session)).newest()))


@command(override, "set", reads=True, changes=True, everywhere=True, epilog=_EXAMPLES)
def set_(
    session: Session,
    start: FromOption,
    why: Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Words for people, kept with it.")] = None,
    payer: PayerOption = None,
    account: AccountOption = None,
    sku: SkuOption = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Not included. Default: for ever.")] = None,
    price: Annotated[
        str | None, typer.Option("--price", metavar="USD", help="Price of a GB in every tier, at most 10 decimals.")
    ] = None,
    percent_off: Annotated[
        str | None, typer.Option("--percent-off", metavar="N", help="Percent off each price, at most 3 decimals.")
    ] = None,
    no_allowance: Annotated[
        bool, typer.Option("--no-allowance", help="Its bytes take no part of what is free.")
    ] = False,
) -> None:
    """Set other prices of a payer or an account, effective from a full hour. What overlaps is refused.

    One that begins at the same hour for the same products is replaced. The price of an account beats that of its payer.
    """
    from metering.billing.documents.written import percent_of
    from metering.billing.money import price_of
    from metering.billing.prices.book import Override

    asked = _asked(payer, account, sku, start)
    made = Override(
        payer=asked.payer,
        account=asked.account,
        skus=asked.skus,
        from_s=asked.from_s,
        to_s=None if end is None else full_hour(end, "--to"),
        price=_number(price_of, price, "--price"),
        percent_off=_number(percent_of, percent_off, "--percent-off"),
        no_allowance=no_allowance,
        why=why or "",
    )
    _check_alone(made)
    _tell_unknown(session, asked.skus)
    _change(session, "set", made, lambda before: (*(each for each in before if not asked.is_of(each)), made))


@command(override, "remove", reads=True, changes=True, everywhere=True)
def remove(
    session: Session,
    start: FromOption,
    payer: PayerOption = None,
    account: AccountOption = None,
    sku: SkuOption = None,
) -> None:
    """Remove an override, as if it had never been; to end one at an hour, set it again with --to.

    Invoices that were issued keep the version that they were made with.
    """
    from metering.billing.prices.overrides import named
    from metering.wiring.billing.stores import build_overrides

    asked = _asked(payer, account, sku, start)
    found = [each for each in build_overrides(billing_home(session)).newest().overrides if asked.is_of(each)]
    if not found:
        raise CommandFailedError(
            "There is no override of this payer or account, of these products, from this hour.",
            "List them: metering prices override list",
        )
    say(f"Found: {named(found[0])}.")
    _change(session, "remove", found[0], lambda before: tuple(each for each in before if not asked.is_of(each)))


def _tell_unknown(session: Session, skus: frozenset[str]) -> None:
    """Say which products are in no book: an override of a misspelled one changes nothing, and nobody would notice."""
    from metering.wiring.billing.stores import build_prices

    if not skus:
        return
    store = build_prices(billing_home(session))
    known = {sku for book in map(store.newest, store.names()) if book is not None for sku in book.by_sku}
    if unknown := sorted(skus - known):
        say(f"No price book has {', '.join(unknown)} now: the override changes nothing of it until one has.", "yellow")


def _change(
    session: Session,
    word: str,
    override: Override,
    change: Callable[[tuple[Override, ...]], tuple[Override, ...]],
) -> None:
    from metering.billing.prices.overrides import named
    from metering.reports.prices.payers import overrides_answer
    from metering.wiring.billing.stores import build_overrides

    home = billing_home(session)
    with session.deed(
        what=f"prices override {word}",
        subject=override.payer or override.account,
        consequence=f"It is {'set' if word == 'set' else 'removed'}: {named(override)}.",
        ground=home_ground(session, home),
    ) as done:
        after: Overrides = build_overrides(home).append(change)
        done.result = f"version {after.version}"
    session.write(overrides_answer(after))


def _asked(payer: str | None, account: str | None, skus: list[str] | None, start: str) -> _Asked:
    if (payer is None) == (account is None):
        raise WrongUsageError("An override is of one payer or of one account.", "Give --payer or --account.")
    return _Asked(payer or "", account or "", frozenset(skus or ()), full_hour(start, "--from"))


def _number(read: Callable[[str], int], text: str | None, option: str) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise WrongUsageError(f"{option}: {error}.") from error


def _check_alone(override: Override) -> None:
    from metering.billing.prices.overrides import override_problems

    if problems := override_problems([override]):
        raise WrongUsageError(f"The override is refused: {'; '.join(problems)}.")
