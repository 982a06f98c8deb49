"""Usage of all regions of a stage for commands on money, with those that cannot be read named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.cli.connecting import connect
from metering.cli.fleet import fleet_of
from metering.errors import MeteringError, OperationFailedError, SettingsError

if TYPE_CHECKING:
    from metering.cli.command import Session
    from metering.wiring.connection import RegionConnection


def readable_regions(session: Session, home: RegionConnection) -> tuple[list[RegionConnection], dict[str, str]]:
    """Regions that hold data of the stage: those that answer, sorted by name, and those that do not, with the reason.

    Args:
        session: Names the stage.
        home: Its home region, as `billing_home` gives it.
    """
    fleet = fleet_of(session, names_home=False)
    states = {state.region: state for state in fleet.states.everything()}
    if home.region != fleet.home or not states.keys() - {home.region}:
        return [home], {}
    found, left_out = [home], dict[str, str]()
    for name in sorted(states.keys() - {home.region}):
        try:
            found.append(_answering(session, name))
        except OperationFailedError as error:
            # A region that was never built completely has no data.
            if states[name].holds_data or not isinstance(error.__cause__, SettingsError):
                left_out[name] = str(error)
        except MeteringError as error:
            left_out[name] = str(error)
    return sorted(found, key=lambda region: region.region), left_out


def _answering(session: Session, name: str) -> RegionConnection:
    from metering.adapters.aws.errors import refusals_explained
    from metering.ledger.periods import period_key
    from metering.stores.writes import Table

    with refusals_explained():
        region = connect(endpoint=session.endpoint, region=name, stage=session.stage)
        # Its stacks are known; now its ledger must answer, too.
        region.items.get(Table.LEDGER, period_key("2026-11"))
        return region
