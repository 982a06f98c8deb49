"""Stores of money: price books, overrides and payers. They are in the bucket of the stage's home region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from metering.adapters.aws.stacks import stack_outputs
from metering.billing.organization.store import OrganizationStore
from metering.billing.prices.store import OverrideStore, PriceStore
from metering.wiring.connection import RegionConnection

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore
    from metering.wiring.fleet import Fleet


class WithObjects(Protocol):
    """A region whose bucket can be read."""

    @property
    def objects(self) -> ObjectStore: ...


def billing_home(fleet: Fleet) -> RegionConnection:
    """Connection to the home region of a fleet.

    Raises:
        SettingsError: The stage is not deployed there.
        UnavailableError: The region gives no answer.
    """
    clients = fleet.clients_of(fleet.home)
    return RegionConnection(clients=clients, names=stack_outputs(clients, fleet.asked.stage))


def build_prices(home: WithObjects) -> PriceStore:
    """Price books, from the home region."""
    return PriceStore(home.objects)


def build_overrides(home: WithObjects) -> OverrideStore:
    """Overrides, from the home region."""
    return OverrideStore(home.objects)


def build_organization(home: WithObjects) -> OrganizationStore:
    """Payers and their accounts, from the home region."""
    return OrganizationStore(home.objects)
