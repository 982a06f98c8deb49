"""An in-memory home region with a price book, and the region's biller, made of production code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.budgets.biller import Biller, BillerResult, Home
from metering.billing.budgets.budget import Budget, BudgetStore, Scope, budget_of
from metering.billing.budgets.open_months import OpenMonths, Terms, read_regions
from metering.billing.day_sums.keeper import DaySumKeeper, Kept
from metering.billing.payers import Organization
from metering.billing.prices.store import Overrides, sample_book
from metering.ledger.format_version import RESTORED_FORMAT, LedgerFormat
from metering.ledger.notes.money import ALERTS_PK, StoredAlert
from metering.ledger.notes.watch import Completeness
from metering.stores.writes import Put, Table
from metering.wiring.restore import restoration
from tests.support.lake_world import ACCOUNT, World, record
from tests.support.memory.clock import MemoryAlerts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from metering.billing.day_sums.index import DayIndex
    from metering.billing.prices.book import PriceBook
    from metering.lake.ports import TotalsReader
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import Item

GB = 2**30
REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSums:
    """A `RegionSums`."""

    region: str
    objects: ObjectStore
    totals: TotalsReader

    def is_current(self, _index: DayIndex) -> bool:
        return True


class CalledAlerts(MemoryAlerts):
    """Topics with hooks on calls, like those of the stores; a hook can simulate a crash before or after a call."""

    def __init__(self, on_call: Callable[[str], None], on_reply: Callable[[str], None]) -> None:
        super().__init__()
        self._on_call = on_call
        self._on_reply = on_reply

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        self._on_call("alerts.send")
        super().send(severity, subject, fields)
        self._on_reply("alerts.send")


class BudgetWorld(World):
    """A home region without other regions. Set the attributes before you make the biller."""

    def __init__(self, *, book: PriceBook | None = None, organization: Organization | None = None) -> None:
        super().__init__()
        self.book: PriceBook | None = book or replace(sample_book(), name="aws-list")
        self.overrides = Overrides()
        self.organization = organization or Organization()
        self.topic: MemoryAlerts = MemoryAlerts()
        self.others: list[OwnSums] = []
        self.complete_through(self.clock.now_ms() // 1000)

    def complete_through(self, through_s: int) -> None:
        """Figures of the watch."""
        self.items.put(Put(table=Table.LEDGER, item=Completeness(through_s=through_s).to_item()))

    def use(self, size: int, **fields: int | str) -> None:
        self.send([record(size, **fields)])  # type: ignore[arg-type]  # the fields of a record
        self.compact_all()

    def set(self, name: str = "egress", **fields: object) -> Budget:
        given: dict[str, object] = {"amount": "1 USD", "thresholds": ["actual 80%"], "scope": Scope(account=ACCOUNT)}
        budget = budget_of(name, **{**given, **fields})  # type: ignore[arg-type]  # the fields of a budget
        self.budgets().set(budget)
        return budget

    def budgets(self) -> BudgetStore:
        return BudgetStore(items=self.items, clock=self.clock)

    def keeper(self, *, most_files: int = 2_000) -> DaySumKeeper:
        return keeper_of(self, most_files=most_files)

    def keep(self) -> Kept:
        return self.keeper().keep(self.deadline())

    def sums(self, region: str = REGION) -> OwnSums:
        """The region's day sums, under the name of any region."""
        return OwnSums(region=region, objects=self.objects, totals=self.make_jobs().totals)

    @property
    def terms(self) -> Terms:
        return Terms(book=self.book, overrides=self.overrides, organization=self.organization)

    def months(self, *budgets: Budget) -> OpenMonths:
        regions, _ = read_regions([self.sums(), *self.others])
        return OpenMonths(objects=self.objects, regions=regions, terms=self.terms, budgets=budgets)

    def biller(self, *, at_home: bool = True) -> Biller:
        """The biller, as in another process."""
        own = self.sums()
        home = Home(
            objects=self.objects, alerts=self.topic, regions=lambda: [own, *self.others], terms=lambda: self.terms
        )
        return Biller(
            items=self.items,
            keeper=self.keeper(),
            clock=self.clock,
            stage="local",
            region=REGION,
            home=home if at_home else None,
        )

    def bill(self) -> BillerResult:
        return self.biller().run(self.deadline())

    def alerts_made(self) -> list[StoredAlert]:
        return [StoredAlert.from_item(item) for item in self.items.everything(Table.LEDGER) if item["pk"] == ALERTS_PK]


def keeper_of(world: World, *, most_files: int = 2_000) -> DaySumKeeper:
    """The keeper of day sums, as in another process on the same stores."""
    return DaySumKeeper(
        items=world.items,
        objects=world.objects,
        totals=world.make_jobs().totals,
        clock=world.clock,
        shards=world.settings.shards,
        most_files=most_files,
    )


def keep_day_sums(world: World) -> None:
    keeper_of(world).keep(world.deadline())


def restore_ledger(world: World, items: Iterable[Item], *, since_ms: int) -> None:
    """Restore the ledger to earlier items, adopt what was committed since a time, and roll it up."""
    old = world.items
    world.items = old.restored(items)
    own = LedgerFormat(number=RESTORED_FORMAT, written_by="0.3.0", usage_generation=2, generation=2, state="adopting")
    world.items.put(Put(table=Table.LEDGER, item=own.to_item()))
    restoration(world.make_jobs(), generation=2, since_ms=since_ms, old=old, threads=1).run()
    world.jobs, world.aggregator = world.make_jobs(), world.parts().worker()
    world.roll_up()
