"""The biller in a simulated region: the production job over one process's stores and topics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from metering.billing.budgets.biller import Biller, Home
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.billing.budgets.open_months import Terms
from metering.billing.day_sums.accounts import AccountsReader
from metering.billing.day_sums.days import DayHead, SummedMonth
from metering.billing.day_sums.keeper import DaySumKeeper
from metering.billing.organization import Organization
from metering.billing.prices.store import Overrides
from metering.ledger.notes.money import ALERTS_PK, StoredAlert
from metering.stores.writes import Table
from metering.usage.totals import Total
from tests.support.budget_world import OwnSums
from tests.support.memory.frozen import PlainTotals
from tests.support.memory.lake import PlainLake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.day_sums.index import DayIndex
    from metering.stores.clock import Alerts, Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from tests.simulation.region.ports import Process
    from tests.support.memory.alerts import MemoryAlerts

REGION = "us-west-2"


class ProcessAlerts:
    """Topics as one process sees them: a call to them can fail like any other."""

    def __init__(self, process: Process, topic: MemoryAlerts) -> None:
        self._process = process
        self._topic = topic

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        self._process.write("alerts.send", partial(self._topic.send, severity, subject, fields))


def set_budgets(items: ItemStore, clock: Clock) -> None:
    """A budget that one byte crosses, and a budget out of reach."""
    store = BudgetStore(items=items, clock=clock)
    for name, amount in (("crossed", "1 bytes"), ("far", "999999999999999 EB")):
        store.set(budget_of(name, amount=amount, thresholds=["actual 100%"], scope=Scope(region=REGION)))


def biller(process: Process, topic: MemoryAlerts) -> Biller:
    """The production biller."""
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
    """Every alert document."""
    return [StoredAlert.from_item(item) for item in items.query(Table.LEDGER, ALERTS_PK)]


def sums(objects: ObjectStore, index: DayIndex, month: str) -> list[DayHead]:
    """Counted bytes of each day of a month."""
    totals = PlainTotals(objects, PlainLake(objects))
    region = SummedMonth(region=REGION, month=month, index=index, objects=objects, totals=totals)
    return [head for day_s in region.days if (head := region.head(day_s)) is not None]


def accounts(objects: ObjectStore, index: DayIndex, month: str) -> dict[str, Total]:
    """The biller's usage of accounts in a month."""
    found = index.accounts_of(month)
    if found is None:
        return {}
    reader = AccountsReader(objects.get(found.key), found.key)
    return {each.account_id: Total(each.bytes, each.records) for each in reader.accounts()}
