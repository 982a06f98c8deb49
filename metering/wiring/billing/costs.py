"""Parts that rate usage for reports of costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.budgets.kept_positions import read_positions
from metering.billing.invoices.composing import Composer
from metering.billing.invoices.planning import Planner
from metering.billing.invoices.rates import AllBooks, RateShelf
from metering.billing.invoices.store import InvoiceStore
from metering.wiring.billing.stores import build_organization, build_overrides, build_prices

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.budgets.kept_positions import KeptPositions
    from metering.billing.invoices.ports import UsageSource
    from metering.stores.objects import ObjectStore
    from metering.wiring.billing.stores import WithObjects


def build_shelf(home: WithObjects) -> RateShelf:
    """Price books, overrides and payers of the home region."""
    return RateShelf(
        books=AllBooks(imported=build_prices(home)),
        overrides=build_overrides(home),
        organizations=build_organization(home),
    )


def build_planner(home: WithObjects, usage: UsageSource, shelf: RateShelf) -> Planner:
    """Finds what months are rated with."""
    return Planner(store=InvoiceStore(home.objects), composer=Composer(usage=usage, shelf=shelf))


def kept_positions(objects: ObjectStore) -> Callable[[str, str], KeptPositions | None]:
    """Positions that the biller keeps in the home region, by month and payer."""
    return lambda month, payer_id: read_positions(objects, month, payer_id)
