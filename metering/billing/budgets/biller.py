"""The biller: keeps the day sums of its region, and at home judges budgets and looks for unusual days.

Whatever it does may be done again: sums change with their index, an alert is put once, and a message is sent until the
topic has answered. It may end at any call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.budgets.alerts import AlertBook
from metering.billing.budgets.open_months import OpenMonths, Terms, read_regions
from metering.billing.budgets.store import BudgetStore
from metering.billing.budgets.turn import Turn
from metering.hours import hour_of, month_of
from metering.ledger.notes.biller import BILLER_KEY, BillerFigures
from metering.ledger.notes.completeness import COMPLETENESS_KEY, Completeness
from metering.ledger.periods import periods_of
from metering.stores.writes import Put, Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.billing.budgets.open_months import RegionSums
    from metering.billing.day_sums.keeper import DaySumKeeper, Kept
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.telemetry import Alerts

# Alerts of this month and of the last two are sent until the topic has answered.
_SENT_FOR_S = 62 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BillerResult:
    """Result of a run.

    Attributes:
        files: Lake files that were counted.
        behind_s: Age of the oldest run of the compactor that is not counted; 0 if all are.
        budgets: Budgets that were judged, each in each of its periods; 0 in a region that is not home.
        made, sent: Alerts that are new, and messages that a topic answered.
        unusual: Unusual days of series that were found in this run.
        left_out: Regions that gave no answer.
    """

    files: int
    behind_s: int
    budgets: int = 0
    made: int = 0
    sent: int = 0
    unusual: int = 0
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What the biller of the home region works with, beside its own sums.

    Attributes:
        regions: All regions that hold data of the stage, this one included.
        terms: Reads the newest prices and payers.
    """

    objects: ObjectStore
    alerts: Alerts
    regions: Callable[[], Iterable[RegionSums]]
    terms: Callable[[], Terms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Biller:
    """The job of one region.

    Attributes:
        home: None in a region that is not the home region: it keeps sums only.
    """

    items: ItemStore
    keeper: DaySumKeeper
    clock: Clock
    stage: str
    region: str
    home: Home | None = None

    def run(self, deadline: Deadline) -> BillerResult:
        """Count what is new, and at home tell what it means.

        Raises:
            UnavailableError: A call failed; the next run does what is left.
            LedgerCorruptError: Something that is kept cannot be read.
        """
        now_s = self._now_s()
        kept = self.keeper.keep(deadline, complete_through_s=self._complete_through_s(), closed=self._closed(now_s))
        result = BillerResult(files=kept.files, behind_s=kept.behind_s)
        figures = replace(self._figures(now_s), finished_s=now_s, counted_s=kept.index.counted_s)
        if self.home is not None:
            result, figures = self._tell(self.home, kept, result, figures)
        self.items.put(Put(table=Table.LEDGER, item=figures.to_item()))
        return result

    def _tell(
        self, home: Home, kept: Kept, result: BillerResult, figures: BillerFigures
    ) -> tuple[BillerResult, BillerFigures]:
        book = AlertBook(items=self.items, alerts=home.alerts, clock=self.clock)
        since = month_of(hour_of(figures.finished_s - _SENT_FOR_S))
        # What an earlier run could not send comes first: nothing below may keep it back.
        sent = book.send(since)
        regions, left_out = read_regions(home.regions())
        budgets = BudgetStore(items=self.items, clock=self.clock).list()
        months = OpenMonths(objects=home.objects, regions=regions, terms=home.terms(), budgets=budgets)
        turn = Turn(
            months=months,
            budgets=budgets,
            left_out=tuple(left_out),
            now_s=figures.finished_s,
            stage=self.stage,
            home=self.region,
        )
        alerts, judged = turn.alerts()
        unusual = [alert for region in regions for alert in turn.unusual(region, figures)]
        made = sum(book.make(alert) for alert in (*alerts, *unusual))
        sent += book.send(since)
        turn.keep_positions(home.objects)
        months.summaries.keep()
        return (
            replace(
                result,
                budgets=judged,
                made=made,
                sent=len(sent),
                unusual=len(unusual),
                left_out=tuple(left_out),
            ),
            turn.figures(figures, book, since),
        )

    def _figures(self, now_s: int) -> BillerFigures:
        item = self.items.get(Table.LEDGER, BILLER_KEY)
        return (
            BillerFigures(first_s=now_s, finished_s=0, counted_s=0) if item is None else BillerFigures.from_item(item)
        )

    def _complete_through_s(self) -> int:
        """As the watch last measured it: it stays true, so it may be read late."""
        item = self.items.get(Table.LEDGER, COMPLETENESS_KEY)
        return 0 if item is None else Completeness.from_item(item).through_s

    def _closed(self, now_s: int) -> dict[str, str]:
        """Closed months of the last two years, with the keys of their manifests."""
        year, month = map(int, month_of(hour_of(now_s)).split("-"))
        last = year * 12 + month - 1
        names = [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(last - 24, last + 1)]
        periods = periods_of(self.items, names).values()
        return {period.month: period.frozen_key for period in periods if period.state == "closed"}

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000
