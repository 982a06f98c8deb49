"""`--region all`: every region that holds data of the stage, ready or taken out of service.

A command that reads asks `everywhere` for its answer, and says how one region answers. Regions are read one after the
other. If one of them gives no answer, the command fails and names it: an answer without it would be too small.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.places import ALL_REGIONS
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.reports.regions_answer import regions_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.cli.command import Session
    from metering.reports.answer import Answer
    from metering.wiring.connection import RegionConnection

_TOO_LITTLE = "Nothing is shown, because it would be too little. Run it again, or name one region with --region."


def asks_for_all(session: Session) -> bool:
    """Whether `--region all` was given."""
    return session.given_region == ALL_REGIONS


def connections(session: Session) -> list[RegionConnection]:
    """Connect to the region that was asked for, or to all of them, sorted by name.

    Raises:
        CommandFailedError: A region that holds data gives no answer, or the stage is not deployed anywhere.
    """
    return all_connections(session) if asks_for_all(session) else [session.region()]


def all_connections(session: Session) -> list[RegionConnection]:
    """Connect to all regions of the stage that hold data, sorted by name.

    Raises:
        CommandFailedError: One of them gives no answer, or the stage is not deployed anywhere.
    """
    found: list[RegionConnection] = []
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
    session: Session, ask: Callable[[RegionConnection], Answer], *, newest: str = "", most: int | None = None
) -> Answer:
    """The answer of the region that was asked for; of all regions, their rows with a column `region`.

    Args:
        session: Names the region, or all.
        ask: Reads one region.
        newest: See `regions_answer`.
        most: Rows to keep of all regions, where `ask` gives no more of one.

    Raises:
        CommandFailedError: A region gives no answer, or has none.
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
    """Name the region in the error of what is asked of it.

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
    """What begins a message about a region, where several are read."""
    return f"{region}: " if asks_for_all(session) else ""


def _failed(region: str, error: MeteringError) -> CommandFailedError:
    silent = next((each for each in (error, error.__cause__) if isinstance(each, UnavailableError)), None)
    if silent is not None:
        return CommandFailedError(f"Region {region} gives no answer ({silent.detail}).", _TOO_LITTLE)
    return CommandFailedError(f"{region}: {error}", error.advice if isinstance(error, OperationFailedError) else "")
