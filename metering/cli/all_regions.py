"""`--region all`: every region that holds data of the stage, ready or taken out of service."""

from metering.cli.command import Session
from metering.cli.connecting import connect
from metering.cli.failures import CommandFailedError
from metering.cli.fleet import fleet_of
from metering.wiring.connection import RegionConnection

ALL = "all"


def asks_for_all(session: Session) -> bool:
    """Whether `--region all` was given."""
    return session.region_name == ALL


def connections(session: Session) -> list[RegionConnection]:
    """Connect to the region that was asked for, or to all of them, sorted by name.

    Raises:
        CommandFailedError: A region that holds data gives no answer, or the stage is not deployed anywhere.
    """
    if not asks_for_all(session):
        return [session.region()]
    fleet = fleet_of(session)
    states = {state.region: state for state in fleet.states.everything()}
    found: list[RegionConnection] = []
    for name in sorted({fleet.rules.home, *states}):
        try:
            found.append(connect(endpoint=session.endpoint, region=name, stage=session.stage))
        except CommandFailedError:
            # A region that was never built completely has no data. All others must answer, or totals would be short.
            if name in states and states[name].holds_data:
                raise
    if not found:
        raise CommandFailedError(
            f"Stage {session.stage} is not deployed in any region.",
            f"Build one: metering region add {fleet.rules.home}",
        )
    return found


def left_out(session: Session) -> dict[str, list[str]]:
    """Parts of the service that regions run without, because the region does not offer them."""
    return {state.region: list(state.left_out) for state in fleet_of(session).states.everything() if state.left_out}
