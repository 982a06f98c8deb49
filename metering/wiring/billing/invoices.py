"""Parts that make, issue and verify invoices, over the regions of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.billing.closing.verification import frozen_damages
from metering.billing.invoices.composing import Composer
from metering.billing.invoices.credits import Crediting
from metering.billing.invoices.issuing import Issuer
from metering.billing.invoices.planning import Planner
from metering.billing.invoices.rates import AllBooks, RateShelf
from metering.billing.invoices.store import InvoiceStore
from metering.billing.invoices.verification import Verification
from metering.ledger.frozen_months import read_frozen_month
from metering.reports.source import naming
from metering.stores.retrying import Retrier
from metering.wiring.billing.stores import build_organization, build_overrides, build_prices
from metering.wiring.billing.usage import StageUsage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.invoices.ports import UsageSource
    from metering.billing.usage.ports import HoursDone
    from metering.wiring.connection import RegionConnection
    from metering.wiring.region import RegionPorts

_ATTEMPTS = 5


class InvoiceUsage(StageUsage):
    """Usage of every month of a stage, as invoices need it. Close it. Mutable.

    Args:
        regions: Every region that holds data of the stage and can be read.
        left_out: Regions that cannot be read now, and why.
        on_hour: As `StageUsage` has it.
    """

    def __init__(
        self,
        regions: Sequence[RegionConnection],
        *,
        left_out: Mapping[str, str],
        on_hour: HoursDone = lambda _region, _done, _of: None,
    ) -> None:
        super().__init__(regions, left_out=left_out, on_hour=on_hour)
        self._connections = regions

    def damages(self, month: str) -> Iterator[str]:
        """What of a closed month is not as its regions froze it, with the object's name. Reads all of its objects."""
        for region in self._connections:
            with naming(region.region):
                frozen = read_frozen_month(region.items, region.objects, month)
                if frozen is not None:
                    for problem in frozen_damages(region.jobs.frozen_files, frozen):
                        yield f"{region.region}: {problem}"


def build_issuer(home: RegionPorts, usage: UsageSource) -> Issuer:
    """The parts that make drafts and issue invoices."""
    clock = SystemClock()
    shelf = RateShelf(
        books=AllBooks(imported=build_prices(home)),
        overrides=build_overrides(home),
        organizations=build_organization(home),
    )
    composer, store = Composer(usage=usage, shelf=shelf), InvoiceStore(home.objects)
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
