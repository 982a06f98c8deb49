"""Where money is kept: the home region of a stage, whatever region a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.cli.all_regions import all_connections
from metering.cli.places import ALL_REGIONS

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
    asked = None if session.region_name == ALL_REGIONS else session.region_name
    return session.regions.billing_home(asked, emulated=lambda: session.emulated)


def billing_regions(session: Session, home: RegionConnection) -> list[RegionConnection]:
    """Connect to every region whose usage the home region bills, sorted by name.

    Args:
        session: Names the stage.
        home: The home region, as `billing_home` gives it.

    Raises:
        CommandFailedError: A region that holds data gives no answer.
    """
    if session.regions.is_alone(home):
        return [home]
    return [home if each.region == home.region else each for each in all_connections(session)]


def readable_regions(session: Session, home: RegionConnection) -> tuple[list[RegionConnection], dict[str, str]]:
    """Regions that hold data of the stage: those that answer, sorted by name, and those that do not, with the reason.

    Args:
        session: Names the stage.
        home: Its home region, as `billing_home` gives it.
    """
    from metering.ledger.periods import period_key
    from metering.stores.writes import Table

    # Its stacks are known; its ledger must answer, too.
    regions, silent = session.regions.readable(
        home, lambda region: region.items.get(Table.LEDGER, period_key("2026-11"))
    )
    return regions, {name: str(error) for name, error in silent.items()}


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
