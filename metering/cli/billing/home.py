"""Where money is kept: the home region of a stage, whatever region a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.cli.all_regions import all_connections
from metering.cli.fleet import fleet_of
from metering.cli.places import ALL_REGIONS
from metering.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from metering.cli.command import Session
    from metering.cli.deeds import Ground
    from metering.wiring.connection import RegionConnection


def billing_home(session: Session) -> RegionConnection:
    """Connect to the home region: price books, payers, budgets and invoices of all regions are there.

    A stage on an emulator may live in one region that is not its home: then it is that region.

    Raises:
        CommandFailedError: The home region gives no answer, or the stage is not deployed there.
    """
    from metering.cli.connecting import no_answer, not_deployed
    from metering.wiring.billing.stores import billing_home as connect_home

    fleet = fleet_of(session, names_home=False)
    if session.region_name == fleet.home:
        return session.region()
    try:
        return connect_home(fleet)
    except UnavailableError as error:
        raise no_answer(error, endpoint=session.endpoint, region=fleet.home) from error
    except SettingsError as error:
        if session.region_name != ALL_REGIONS and session.emulated:
            return session.region()
        raise not_deployed(error, region=fleet.home, stage=session.stage) from error


def billing_regions(session: Session, home: RegionConnection) -> list[RegionConnection]:
    """Connect to every region whose usage the home region bills, sorted by name.

    Args:
        session: Names the stage.
        home: The home region, as `billing_home` gives it.

    Raises:
        CommandFailedError: A region that holds data gives no answer.
    """
    fleet = fleet_of(session, names_home=False)
    others = {state.region for state in fleet.states.everything()} - {home.region}
    if home.region != fleet.home or not others:
        return [home]
    return [home if each.region == home.region else each for each in all_connections(session)]


def home_ground(session: Session, home: RegionConnection) -> Ground:
    """Ground of a deed on money: done in the home region, and remembered by its ledger."""
    from metering.cli.deeds import Ground

    return Ground(
        stage=session.stage,
        region=home.region,
        endpoint=session.endpoint,
        emulated=session.emulated,
        caller=home.caller,
        items=lambda: home.items,
    )
