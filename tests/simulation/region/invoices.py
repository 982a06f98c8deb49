"""Invoices in a simulated region: production code over the stores of one process, any of whose calls can fail."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from metering.billing.budgets.biller import Biller, Home
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.billing.budgets.open_months import Terms
from metering.billing.day_sums.days import AccountsReader, DayHead, SummedMonth
from metering.billing.day_sums.keeper import DaySumKeeper
from metering.billing.invoices.composing import Composer
from metering.billing.invoices.credits import Crediting, Verification
from metering.billing.invoices.document import InvoiceStore
from metering.billing.invoices.inputs import RateShelf
from metering.billing.invoices.issuing import Asked, Issuer, IssueRefusedError
from metering.billing.invoices.planning import Planner
from metering.billing.organization import OrganizationStore
from metering.billing.payers import Organization
from metering.billing.prices.store import AllBooks, Overrides, OverrideStore, PriceStore
from metering.billing.usage.months import RegionMonth, UsageLine, line_of
from metering.hours import month_of
from metering.ledger.notes.money import ALERTS_PK, StoredAlert
from metering.ledger.periods import read_frozen_month
from metering.stores.writes import ItemStore, Table
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import MINUTE_MS
from tests.support.budget_world import OwnSums
from tests.support.memory.frozen import PlainFrozenFiles, PlainTotals
from tests.support.memory.rows import PlainLake
from tests.support.priced import US_TIERS, MemoryMonth, allowance, book, product

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.day_sums.index import DayIndex
    from metering.stores.clock import Alerts, Clock
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total
    from tests.simulation.region.ports import Process
    from tests.simulation.region.world import World
    from tests.support.memory.clock import MemoryAlerts

PAYER = "111111111111"
_REGION = "us-west-2"
# Usage types that occur in the scenario's contents.
SCENARIO_TYPES = tuple(f"USW2-DataTransfer-Out-Bytes-{number}" for number in range(3))
_PRICES = ("0.09", "0.08", "0.0713")
_EPOCH_MS = 30 * MINUTE_MS


class FrozenUsage:
    """A `UsageSource` that reads the closed months of one region through the stores of a process."""

    regions = (_REGION,)
    left_out: dict[str, str] = {}  # noqa: RUF012  # no region is ever left out

    def __init__(self, process: Process) -> None:
        self._process = process

    def month(self, month: str) -> Sequence[RegionMonth]:
        process = self._process
        frozen = read_frozen_month(process.items, process.objects, month)
        if frozen is None:
            return [MemoryMonth(region=_REGION, month=month)]
        files = PlainFrozenFiles(process.objects)
        rows = [row for hour in frozen.hours for row in files.hour(frozen, hour.hour_s)]
        return [
            MemoryMonth(
                region=_REGION,
                month=month,
                usage=tuple(line_of(key, total) for key, total in rows if key.corrects_s is None),
                late_lines=tuple(line_of(key, total) for key, total in rows if key.corrects_s is not None),
                digest=frozen.digest,
            )
        ]

    def damages(self, month: str) -> Iterator[str]:
        del month
        return iter(())


def issuer(process: Process) -> Issuer:
    shelf = RateShelf(
        books=AllBooks(imported=PriceStore(process.objects)),
        overrides=OverrideStore(process.objects),
        organizations=OrganizationStore(process.objects),
    )
    composer, store = Composer(usage=FrozenUsage(process), shelf=shelf), InvoiceStore(process.objects)
    return Issuer(
        store=store,
        items=process.items,
        composer=composer,
        planner=Planner(store=store, composer=composer),
        clock=process,
        retrier=jobs.retrier(process),
    )


def crediting(process: Process) -> Crediting:
    return Crediting(issuer=issuer(process))


def problems(process: Process, invoice_id: str) -> list[str]:
    parts = issuer(process)
    return Verification(issuer=parts, crediting=Crediting(issuer=parts)).verify(invoice_id)


def put_prices(objects: ObjectStore, first: str, usage_types: Iterable[str] = SCENARIO_TYPES) -> None:
    """Put a version of the price book whose first tier has the price `first`."""
    tiers = (("10240", first), *US_TIERS[1:])
    types = {f"SKU{number}": usage_type for number, usage_type in enumerate(sorted(usage_types))}
    sold = [product(sku, usage_type, tiers) for sku, usage_type in types.items()]
    PriceStore(objects).put(replace(book(sold, allowance("100", *types)), name="aws-list"))


class Billing:
    """Invoices, late rows and credit notes in a history, made at any time by processes that may be killed.

    Args:
        world: The region.
        seed: Seed of a separate random stream for invoices only.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._chance = random.Random(f"billing {seed}")
        self.happens = self._chance.random() < 0.4
        self._started = 0

    def live(self, start_ms: int) -> None:
        """Change prices, and start two processes that invoice closed months."""
        if not self.happens:
            return
        self._put_prices()
        self._world.scheduler.at(start_ms + self._chance.randrange(_EPOCH_MS), self._put_prices)
        for _ in range(2):
            self._started += 1
            process = self._world.process(f"issuer {self._started}")
            body = jobs.job(process, partial(self._bill, process))
            self._world.scheduler.spawn(body, delay_ms=self._chance.randrange(_EPOCH_MS))

    def check(self, process: Process) -> None:
        """Check a region at rest: all usage is invoiced, each document is exact, and each byte is billed once.

        Raises:
            ViolationError: One of these conditions does not hold.
        """
        if not self.happens:
            return
        self._bill(process)
        store = InvoiceStore(process.objects)
        # If a month has late rows of a month that is still closing, it cannot be invoiced before that close.
        months = [month for month in sorted(self._world.watch.frozen) if store.inputs(month) is not None]
        documents = [each for month in months for each in store.list(month)]
        for each in documents:
            wrong = problems(process, each.id)
            if wrong:
                raise ViolationError(f"invoices: {each.id}: {wrong[0]}")
        billed: Counter[str] = Counter()
        for line in (line for each in documents for line in each.all_lines):
            billed[line.month] += line.bytes
        used: Counter[str] = Counter()
        for booked in (line for month in months for line in _booked(process, month)):
            used[month_of(booked.hour_s)] += booked.bytes
        if +billed != +used:
            raise ViolationError(f"invoices have {dict(billed)} bytes, and closed months {dict(used)}")
        self._world.faults.histogram["invoices and credit notes"] += len(documents)

    def _put_prices(self) -> None:
        types = {row.usage_type for content in self._world.contents.values() for row in content.rows}
        put_prices(self._world.objects, self._chance.choice(_PRICES), types)

    def _bill(self, process: Process) -> None:
        """Invoice each closed month, in order, and issue credit notes for changed prices."""
        for month in sorted(self._world.watch.frozen):
            with suppress(IssueRefusedError):
                for issued in issuer(process).issue(Asked(month=month)):
                    with suppress(IssueRefusedError):
                        crediting(process).credit(issued.invoice.id, "Prices have changed.")


def _booked(process: Process, month: str) -> Iterator[UsageLine]:
    for region in FrozenUsage(process).month(month):
        yield from region.hour_lines()
        yield from (late.line for late in region.late())


REGION = "us-west-2"


class ProcessAlerts:
    """Topics as one process uses them; calls to the topics can fail like other calls."""

    def __init__(self, process: Process, topic: MemoryAlerts) -> None:
        self._process = process
        self._topic = topic

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        self._process.write("alerts.send", partial(self._topic.send, severity, subject, fields))


def set_budgets(items: ItemStore, clock: Clock) -> None:
    """Set two budgets: a single byte crosses the first, and no usage can reach the second."""
    store = BudgetStore(items=items, clock=clock)
    for name, amount in (("crossed", "1 bytes"), ("far", "999999999999999 EB")):
        store.set(budget_of(name, amount=amount, thresholds=["actual 100%"], scope=Scope(region=REGION)))


def biller(process: Process, topic: MemoryAlerts) -> Biller:
    totals = PlainTotals(process.objects, PlainLake(process.objects))
    alerts: Alerts = ProcessAlerts(process, topic)
    home = Home(
        objects=process.objects,
        alerts=alerts,
        regions=lambda: [OwnSums(region=REGION, objects=process.objects, totals=totals)],
        terms=lambda: Terms(book=None, overrides=Overrides(), organization=Organization()),
    )
    keeper = DaySumKeeper(items=process.items, objects=process.objects, totals=totals, clock=process, shards=1)
    return Biller(items=process.items, keeper=keeper, clock=process, stage="local", region=REGION, home=home)


def kept(items: ItemStore) -> list[StoredAlert]:
    return [StoredAlert.from_item(item) for item in items.query(Table.LEDGER, ALERTS_PK)]


def sums(objects: ObjectStore, index: DayIndex, month: str) -> list[DayHead]:
    """Counted bytes of each day of a month."""
    totals = PlainTotals(objects, PlainLake(objects))
    region = SummedMonth(region=REGION, month=month, index=index, objects=objects, totals=totals)
    return [head for day_s in region.days if (head := region.head(day_s)) is not None]


def accounts(objects: ObjectStore, index: DayIndex, month: str) -> dict[str, Total]:
    found = index.accounts_of(month)
    if found is None:
        return {}
    reader = AccountsReader(objects.get(found.key), found.key)
    return {each.account_id: each.whole for each in reader.accounts()}
