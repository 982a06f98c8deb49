"""Parts that make, issue and verify invoices, over the regions of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.billing.invoices.composing import Composer
from metering.billing.invoices.credits import Crediting
from metering.billing.invoices.issuing import Issuer
from metering.billing.invoices.planning import Planner
from metering.billing.invoices.store import InvoiceStore
from metering.billing.invoices.verification import Verification
from metering.stores.retrying import Retrier
from metering.wiring.billing.costs import build_shelf

if TYPE_CHECKING:
    from metering.billing.invoices.ports import UsageSource
    from metering.wiring.region import RegionPorts

_ATTEMPTS = 5


def build_issuer(home: RegionPorts, usage: UsageSource) -> Issuer:
    """The parts that make drafts and issue invoices."""
    clock = SystemClock()
    composer, store = Composer(usage=usage, shelf=build_shelf(home)), InvoiceStore(home.objects)
    return Issuer(
        store=store,
        items=home.items,
        composer=composer,
        planner=Planner(store=store, composer=composer),
        clock=clock,
        retrier=Retrier(clock=clock, entropy=SystemEntropy(), attempts=_ATTEMPTS),
    )


def build_verification(issuer: Issuer) -> Verification:
    """The parts that make documents again."""
    return Verification(issuer=issuer, crediting=Crediting(issuer=issuer))
