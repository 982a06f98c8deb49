"""`metering organization`: who pays for which accounts, in versions that never change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.home import billing_home, home_ground
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from metering.billing.organization.payers import Organization

organization = typer.Typer(
    help="Payers and their accounts, effective by the hour, in versions that never change.", no_args_is_help=True
)

_EXAMPLES = """Example:

    metering organization set payers.json
"""


@command(organization, "set", reads=True, changes=True, everywhere=True, epilog=_EXAMPLES)
def set_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON: payers, and accounts with their hours.")],
) -> None:
    """Set who pays for which accounts: the whole of it, as the next version. What contradicts itself is refused.

    The file has `payers` (id, name, issuer) and `accounts` (id, payer, from, to, name): an account belongs to a payer
    from a full hour on, until `to` if it has one. An account without a payer is its own payer. The same content again
    writes nothing.
    """
    from metering.billing.organization.document import read_organization
    from metering.reports.prices.payers import organization_answer
    from metering.wiring.billing.stores import build_organization, build_overrides

    # Whoever may not change the stage is told before the file is read.
    home = billing_home(session)
    if not file.is_file():
        raise WrongUsageError(f"{file} is no file.", "Name a JSON file; see: metering organization set --help")
    made = read_organization(file.read_bytes(), file.name)
    store = build_organization(home)
    before = store.newest()
    known = {payer.payer_id for payer in made.payers}
    for lost in sorted({each.payer for each in build_overrides(home).newest().overrides if each.payer} - known):
        say(f"Overrides name payer {lost}, which this organization does not have.", "yellow")
    accounts = len({member.account_id for payer in made.payers for member in payer.members})
    with session.deed(
        what="organization set",
        subject=f"version {before.version + 1}",
        consequence=f"{len(made.payers)} payers pay for {accounts} accounts; issued invoices stay as they are.",
        ground=home_ground(session, home),
    ) as done:
        written = store.put(made)
        done.result = f"version {written.version}, {written.sha256[:16]}"
    if written.version == before.version:
        say(f"Nothing was written: version {before.version} says the same.")
    session.write(organization_answer(written))


@command(organization, "show", reads=True, everywhere=True)
def show(
    session: Session,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", min=1, help="Default: the version in force.")
    ] = None,
    payer: Annotated[str | None, typer.Option("--payer", metavar="ID", help="Only this payer.")] = None,
) -> None:
    """Show payers and accounts, and from when to when each account belongs to its payer."""
    from dataclasses import replace

    from metering.reports.prices.payers import organization_answer

    found = _found(session, version)
    if payer is not None:
        chosen = tuple(each for each in found.payers if each.payer_id == payer)
        if not chosen:
            raise CommandFailedError(f"The organization has no payer {payer}.", "List them: metering organization show")
        found = replace(found, payers=chosen)
    session.write(organization_answer(found))


@command(organization, "history", reads=True, everywhere=True)
def history(session: Session) -> None:
    """List the versions, the newest first: when each was written, and its digest."""
    from metering.reports.prices.payers import organizations_answer
    from metering.wiring.billing.stores import build_organization

    store = build_organization(billing_home(session))
    session.write(organizations_answer([(store.get(number), at_s) for number, at_s in reversed(store.listed())]))


def _found(session: Session, version: int | None) -> Organization:
    from metering.errors import ObjectMissingError
    from metering.wiring.billing.stores import build_organization

    store = build_organization(billing_home(session))
    try:
        return store.newest() if version is None else store.get(version)
    except ObjectMissingError as error:
        raise CommandFailedError(
            f"There is no version {version} of the organization.", "List them: metering organization history"
        ) from error
