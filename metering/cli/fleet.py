"""The fleet on which region commands work, and `--region all`: every region that holds data of the stage."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from metering.cli import connecting
from metering.cli.command import Session, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.stages import SettingsOptions, asked_for, home_region, settings_explained
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.fleet.settings import bases
from metering.hours import rfc3339
from metering.reports.answer import Answer, regions_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from metering.cli import deeds
    from metering.fleet.settings.layers import Asked
    from metering.wiring import connection
    from metering.wiring.fleet import Fleet


_NOTHING = SettingsOptions()


def fleet_of(
    session: Session,
    *,
    options: SettingsOptions = _NOTHING,
    no_pager: bool = False,
    verbose: bool = False,
    names_home: bool = True,
) -> Fleet:
    """Build the fleet of the session's stage. If `--region` is given, its region is used as the home region.

    On an emulator, deploying a stage that is meant for an AWS account is a rehearsal.

    Args:
        session: Stage and endpoint.
        options: Settings given on the command line.
        no_pager: Whether a region may be ready even if no subscription to its `page` topic is confirmed.
        verbose: Say each resource.
        names_home: Whether the region of `--region`, if given, replaces the stage's home region.

    Raises:
        WrongUsageError: The settings file or an option is invalid.
    """
    return _fleet(session, asked_for(session.stage, options), no_pager=no_pager, verbose=verbose, names_home=names_home)


def _fleet(
    session: Session,
    asked: Asked,
    *,
    no_pager: bool,
    verbose: bool,
    names_home: bool = True,
    assembly: Path | None = None,
    without_home: str = "",
    restores: str = "",
) -> Fleet:
    # This import is slow, as in `connect`.
    from metering.wiring.fleet import Fleet, silent

    named = session.named_region
    home = without_home or (
        named
        if names_home and named is not None and named != "all"
        else home_region(session.stage, endpoint=lambda: session.endpoint, asked=asked)
    )
    return Fleet(
        asked=asked,
        home=home,
        endpoint=session.endpoint,
        on_emulator=lambda: session.emulated,
        environ=os.environ,
        no_pager=no_pager,
        say=say_of,
        say_resource=say_of if verbose else silent,
        reaching_home=partial(connecting.reaching, session.endpoint, home),
        assembly=str(assembly.resolve()) if assembly is not None else "",
        without_home=bool(without_home),
        restores=restores,
    )


def deploying_fleet(
    session: Session,
    *,
    options: SettingsOptions = _NOTHING,
    no_pager: bool = False,
    verbose: bool = False,
    names_home: bool = True,
    assembly: Path | None = None,
    without_home: str = "",
    restores: str = "",
) -> Fleet:
    """Build the fleet like `fleet_of`, and check the fleet's settings against the deployed settings.

    `restores` is a region whose ledger a restore makes. If this is the home region, its deployed ledger may be gone.
    `without_home` is a region that is deployed to while the home region is away; nothing is asked of the home region.

    Raises:
        WrongUsageError: The settings are wrong.
        CommandFailedError: The stage is for emulators only, and no emulator responds; or the stage does not run in
            `without_home`, or that is the home region itself.
    """
    from metering.fleet.settings.layers import check_alone

    asked = asked_for(session.stage, options)
    with settings_explained():
        # This check precedes any question and any request.
        check_alone(asked)
    _refuse_aws(session, emulated=_is_for_emulators(asked))
    fleet = _fleet(
        session, asked, no_pager=no_pager, verbose=verbose, names_home=names_home, assembly=assembly,
        without_home=without_home, restores=restores,
    )  # fmt: skip
    if fleet.home != restores:
        # A ledger in a newer format needs a newer version of this program, and its settings may need one, too.
        fleet.home_items()
    with settings_explained():
        _refuse_aws(session, emulated=fleet.config.emulated)
    if without_home:
        _check_runs_alone(fleet)
    return fleet


def _check_runs_alone(fleet: Fleet) -> None:
    region, stacks = fleet.home, fleet.ports.builder.stacks()
    if fleet.ports.stacks.describe(region, stacks.pipeline) is None:
        raise CommandFailedError(
            f"Stage {stacks.stage} does not run in {region}.", "Without the home region, no region can be built."
        )
    if region == fleet.rules.home or fleet.ports.deployed.kept_states(region):
        raise CommandFailedError(
            f"{region} is the home region of stage {stacks.stage}.", "Leave --without-home out, and deploy to it."
        )


def _is_for_emulators(asked: Asked) -> bool:
    """Whether the settings file, options or base mark the stage as emulated; deployed settings are not checked here."""
    values = {**(asked.table.values if asked.table is not None else {}), **asked.options}
    base = bases.STAGES.get(asked.table.like if asked.table is not None else asked.stage, {})
    return values.get("emulated", base.get("emulated")) is True


def _refuse_aws(session: Session, *, emulated: bool) -> None:
    if emulated and not session.emulated:
        raise CommandFailedError(
            f"Stage {session.stage} runs on an emulator, and {session.endpoint or 'AWS'} is none.",
            "Name an emulator with --endpoint, or another --stage.",
        )


def changes_of(fleet: Fleet, regions: Iterable[str]) -> list[str]:
    """Changes that the next deployment of the given regions would make to settings, one sentence per change.

    Raises:
        WrongUsageError: The settings are invalid, or cannot be changed in a deployed stage.
    """
    from metering.fleet.settings.regions import told

    with settings_explained():
        return told([fleet.settings.change(region) for region in regions])


def home_of(session: Session, fleet: Fleet) -> deeds.Ground:
    """Where deeds on regions are recorded: in the home region's ledger, as soon as it exists."""
    return session.ground(fleet.home, caller=fleet.caller, items=fleet.home_items)


def say_of(region: str, message: str) -> None:
    """Print a line on stderr about a region or, if the name is empty, about all regions."""
    say(f"{region}: {message}" if region else message)


# With `--region all`, a command passes to `everywhere` a function that returns the result for one region. If a region
# does not respond, the command fails and names the region, because the total of the other regions would be too small.


_TOO_LITTLE = "Nothing is shown, because it would be too little. Run it again, or name one region with --region."


def asks_for_all(session: Session) -> bool:
    """Whether `--region all` was given."""
    return session.given_region == connecting.ALL_REGIONS


def say_what_is_kept(regions: Iterable[connection.RegionConnection], from_s: int) -> None:
    """Tell where a range begins that was asked for from the first row on, if S3 has deleted older rows."""
    for region in regions:
        if not from_s and (kept_s := region.jobs.view.kept(0)):
            say(
                f"{region.region}: rows before {rfc3339(kept_s)} are not kept any more (lake_retention_days), so this "
                "begins there."
            )


def connections(session: Session) -> list[connection.RegionConnection]:
    """Connect to the region of `--region`, or with `--region all` to all regions, sorted by name.

    Raises:
        CommandFailedError: A region that holds data does not respond, or the stage is not deployed in any region.
    """
    return all_connections(session) if asks_for_all(session) else [session.region()]


def all_connections(session: Session) -> list[connection.RegionConnection]:
    """Connect to all regions of the stage that hold data, sorted by name.

    Raises:
        CommandFailedError: A region does not respond, or the stage is not deployed in any region.
    """
    found: list[connection.RegionConnection] = []
    stage = session.regions
    for name in stage.names:
        with answering(name):
            found += stage.reached(name)
    if not found:
        raise CommandFailedError(
            f"Stage {session.stage} is not deployed in any region.",
            f"Deploy it to its home region: metering deploy --stage {session.stage}",
        )
    return found


def everywhere(
    session: Session, ask: Callable[[connection.RegionConnection], Answer], *, newest: str = "", most: int | None = None
) -> Answer:
    """The answer of the requested region; if all regions are requested, the rows of all, with a column `region`.

    Args:
        session: Names the region or `all`.
        ask: Reads one region.
        newest: Column by which the rows of all regions are sorted, newest first; if empty, rows stay grouped by region.
        most: Maximum number of rows in total; `ask` returns at most as many rows for each region.

    Raises:
        CommandFailedError: A region does not respond, or no region has data.
    """
    if not asks_for_all(session):
        return ask(session.region())
    parts: dict[str, Answer] = {}
    for region in connections(session):
        with answering(region.region):
            parts[region.region] = ask(region)
    return regions_answer(parts, newest=newest, most=most)


@contextmanager
def answering(region: str) -> Iterator[None]:
    """Add the region's name to the errors of calls to this region.

    Raises:
        CommandFailedError: It failed.
    """
    from metering.adapters.aws.errors import refusals_explained

    try:
        with refusals_explained():
            yield
    except WrongUsageError:
        raise
    except MeteringError as error:
        raise _failed(region, error) from error


def of_region(session: Session, region: str) -> str:
    """Prefix for a message about a region; empty if only one region is read."""
    return f"{region}: " if asks_for_all(session) else ""


def _failed(region: str, error: MeteringError) -> CommandFailedError:
    silent = next((each for each in (error, error.__cause__) if isinstance(each, UnavailableError)), None)
    if silent is not None:
        return CommandFailedError(f"Region {region} gives no answer ({silent.detail}).", _TOO_LITTLE)
    return CommandFailedError(f"{region}: {error}", error.advice if isinstance(error, OperationFailedError) else "")
