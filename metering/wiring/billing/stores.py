"""Stores of money: price books, overrides and payers. They are in the bucket of the stage's home region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from metering.billing.organization.store import OrganizationStore
from metering.billing.prices.store import OverrideStore, PriceStore

if TYPE_CHECKING:
    from metering.stores.objects import ObjectStore


class WithObjects(Protocol):
    """A region whose bucket can be read."""

    @property
    def objects(self) -> ObjectStore: ...


def build_prices(home: WithObjects) -> PriceStore:
    """Price books, from the home region."""
    return PriceStore(home.objects)


def build_overrides(home: WithObjects) -> OverrideStore:
    """Overrides, from the home region."""
    return OverrideStore(home.objects)


def build_organization(home: WithObjects) -> OrganizationStore:
    """Payers and their accounts, from the home region."""
    return OrganizationStore(home.objects)
