"""`metering token`: tokens of the HTTP API. They are made here and nowhere else: the API itself cannot write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.all_regions import everywhere
from metering.cli.command import Session, command, say
from metering.cli.failures import WrongUsageError
from metering.ledger.notes.tokens import Role
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.operations.tokens import TokenBook
    from metering.reports.answer import Answer
    from metering.wiring.connection import RegionConnection

token = typer.Typer(
    help="Tokens of the HTTP API: who may ask it for what, until when.",
    no_args_is_help=True,
)

_CREATE = """Examples:

    metering token create --role customer --account 123456789012 --days 30 --label "portal of Acme"

    metering token create --role analyst

Roles:

- customer: usage of its own accounts, and their costs as `--costs` says.
- analyst: usage of all accounts, or of those that are named.
- operator: also sources, quarantine and reconciliation.
"""
_MOST_DAYS = 366


@command(token, "create", reads=True, changes=True, epilog=_CREATE)
def create(
    session: Session,
    role: Annotated[Role, typer.Option("--role", metavar="|".join(Role), help="What its holder may ask for.")],
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account", metavar="ID", help="Only this account; may be given again. A customer's token needs one."
        ),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", min=1, max=_MOST_DAYS, metavar="DAYS", help="When it expires.", show_default=True)
    ] = 30,
    label: Annotated[str | None, typer.Option("--label", metavar="TEXT", help="What you call it in the list.")] = None,
    costs: Annotated[
        bool,
        typer.Option(
            "--costs",
            help="Also costs of accounts whose payer has others. At a shared tier, a price tells what others use.",
        ),
    ] = False,
) -> None:
    """Make a token for the HTTP API of this region, and show it once.

    The ledger keeps a hash of its secret, so nobody can show it again: make another one if it is lost.
    Whoever has it sends it as a header: Authorization: Bearer mtr_...
    """
    from metering.operations.tokens import token_problems
    from metering.reports.operators.tokens_answer import made_answer

    accounts = sorted(set(account)) if account else None
    problems = token_problems(role=role, accounts=accounts, life_s=days * DAY_S, label=label or "")
    if problems:
        raise WrongUsageError(" ".join(problems), "No token was made. See: metering token create --help")
    region = session.region()
    seen = "all accounts" if accounts is None else f"{len(accounts)} accounts" if accounts[1:] else accounts[0]
    told = " Costs at shared tiers tell it what the payer's other accounts use." if accounts and costs else ""
    with session.deed(
        what="token create",
        subject=role.value,
        consequence=f"Whoever has it may ask the HTTP API for the usage of {seen} for {days} days.{told}",
    ) as done:
        made = _book(region).create(
            role=role,
            accounts=accounts,
            life_s=days * DAY_S,
            made_by=region.caller(),
            label=label or "",
            costs=costs,
        )
        done.result = f"token {made.stored.token_id}"
    session.write(made_answer(made.text, made.stored, now_s=_now_s(region)))
    say("It is shown this once. To end it before it expires: metering token revoke " + made.stored.token_id)


@command(token, "list", reads=True, everywhere=True, epilog="Example:\n\n    metering token list --format table")
def list_(session: Session) -> None:
    """List tokens, the newest first, with what their holders may see. No secret is shown: none is kept.

    A token that expired stays in the list for some days.
    """
    from metering.reports.operators.tokens_answer import tokens_answer

    def known(region: RegionConnection) -> Answer:
        return tokens_answer(_book(region).list(), now_s=_now_s(region))

    session.write(everywhere(session, known))


@command(token, "revoke", reads=True, changes=True, epilog="Example:\n\n    metering token revoke 5d41402abc4b2a76")
def revoke(
    session: Session,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id: the part after mtr_.")],
) -> None:
    """Revoke a token. The HTTP API refuses it within a minute.

    One that is revoked already stays as it is. A whole token is taken by its id.
    """
    from metering.reports.operators.tokens_answer import token_answer

    region = session.region()
    book = _book(region)
    found = book.find(token_id)
    seen = "all accounts" if found.accounts is None else f"{len(found.accounts)} accounts"
    with session.deed(
        what="token revoke",
        subject=found.token_id,
        consequence=f"The HTTP API refuses this {found.role.value}'s token for {seen} within a minute, for good.",
    ) as done:
        revoked = book.revoke(found.token_id, revoked_by=region.caller())
        done.result = "it was revoked already" if found.revoked_s else "revoked"
    session.write(token_answer(revoked, now_s=_now_s(region)))


def _book(region: RegionConnection) -> TokenBook:
    from metering.operations.tokens import TokenBook

    return TokenBook(items=region.items, clock=region.clock)


def _now_s(region: RegionConnection) -> int:
    return region.clock.now_ms() // 1000
