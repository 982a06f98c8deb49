"""`metering upgrade`: what another version would change where the stage is deployed, and the way to it or back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.adapters.checkout import checkout_dir
from metering.cli.command import Session, command, say
from metering.cli.commands.platform.plan import check_formats, deployed_version, plan_lines
from metering.cli.commands.platform.states import ended, fail_unless_ready, tell_changes, write_states
from metering.cli.failures import CommandFailedError
from metering.cli.fleet import deploying_fleet, home_of
from metering.cli.stages.options import (
    FileOption,
    NoPagerOption,
    SetOption,
    SettingsOptions,
    UnsetOption,
    VerboseOption,
    settings_explained,
)
from metering.errors import FormatTooNewError
from metering.fleet.survey import Surveyed, deployed_regions, to_deploy
from metering.fleet.versions import Direction, own_release
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column

if TYPE_CHECKING:
    from metering.wiring.fleet import Fleet

upgrade_app = typer.Typer()

_EXAMPLES = """Examples:

    metering upgrade --stage prod --region all --check
    metering upgrade --stage prod --region eu-west-1
    metering upgrade --stage prod --region all
"""

_COLUMNS = (
    Column(name="region", text="copied", priority=KEEP),
    Column(name="state", text="copied", about="of its last deployment"),
    Column(name="deployed", text="copied", priority=KEEP, about="version there"),
    Column(name="deployed_format", title="its format", kind="integer", priority=ROOMY, about="of the data there"),
    Column(name="this", text="copied", about="version of this checkout"),
    Column(name="this_format", title="this format", kind="integer", priority=ROOMY, about="newest that it knows"),
    Column(name="way", text="copied", priority=KEEP),
    Column(name="settings", text="copied", about="against what the next deployment brings"),
    Column(name="deploys", kind="flag", priority=KEEP, about="`metering upgrade` deploys there"),
)


@command(upgrade_app, "upgrade", reads=True, everywhere=True, changes=True, checkout=True, epilog=_EXAMPLES)
def upgrade(
    session: Session,
    check: Annotated[bool, typer.Option("--check", help="Only show; exit 1 if a region would be changed.")] = False,
    settings: SetOption = None,
    unset: UnsetOption = None,
    settings_file: FileOption = None,
    no_pager: NoPagerOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring the regions where the stage is deployed to the version of this checkout, newer or older.

    It goes wave by wave. Default is the home region; --region names another, or all. An older version is a rollback,
    which is refused if it does not know the format of the data. What an earlier run began is continued.
    """
    options = SettingsOptions.of(settings, unset, settings_file)
    fleet = deploying_fleet(session, options=options, no_pager=no_pager, verbose=verbose, names_home=False)
    with settings_explained():
        surveyed = _surveyed(session, fleet)
    names = to_deploy(surveyed)
    changes = tell_changes(fleet, names)
    if check:
        session.write(Answer(columns=_COLUMNS, rows=[_row(each, names) for each in surveyed]))
        if names:
            raise typer.Exit(1)
        return
    check_formats(surveyed)
    chosen = [each for each in surveyed if each.region in names]
    if not chosen:
        say(f"Nothing to do: version {own_release()} is deployed, with the same settings.")
        return
    checkout_dir()
    for line in plan_lines(fleet, chosen, len(chosen)):
        say(line)
    back = any(each.way is Direction.ROLLBACK for each in chosen)
    with session.deed(
        what="upgrade",
        subject=f"{own_release().version}: {', '.join(names)}",
        consequence=f"{'This is a ROLLBACK to an older version. ' if back else ''}The functions there are replaced; "
        f"data is kept, and batches are processed meanwhile. {changes}",
        ground=home_of(session, fleet),
    ) as done:
        result = fleet.manager.redeploy(names)
        done.result, done.failed = ended(result.built), not result.succeeded
    write_states(session, result.built)
    fail_unless_ready(result.built)


def _surveyed(session: Session, fleet: Fleet) -> list[Surveyed]:
    """What is deployed in the regions that were asked for."""
    asked = session.named_region or fleet.home
    try:
        known = deployed_regions(fleet.states, home=fleet.home)
    except FormatTooNewError as error:
        # The states of all regions are in a ledger that this version does not know.
        raise CommandFailedError(
            f"{fleet.home}: {error}",
            "There is no rollback across data formats: see docs/operator-guide.md under Rollback and Restore.",
        ) from error
    found = [fleet.survey(name, phase) for name, phase in known if asked in {name, "all"}]
    there = [each for each in found if each.exists]
    if not there:
        raise CommandFailedError(
            f"Stage {session.stage} is not deployed in {asked}.", "Deploy it first: metering deploy --help"
        )
    return there


def _row(surveyed: Surveyed, names: list[str]) -> dict[str, Cell]:
    return {
        "region": surveyed.region,
        "state": "" if surveyed.phase is None else surveyed.phase.value,
        "deployed": deployed_version(surveyed) if surveyed.way else "",
        "deployed_format": surveyed.data_format,
        "this": str(surveyed.own),
        "this_format": surveyed.own.data_format,
        "way": "" if surveyed.way is None else surveyed.way.value,
        "settings": "same" if surveyed.same_settings else "differ",
        "deploys": surveyed.region in names,
    }
