"""The biller maintains its region's day sums; in the home region it also evaluates budgets and finds unusual days.

A run may stop at any call and be repeated: day sums and their index change together, an alert is put only once, and a
message is resent until SNS accepts it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.budgets import open_months
from metering.billing.budgets.budget import Budget, BudgetStore
from metering.billing.budgets.evaluation import Evaluation, anomalies_of, period_at
from metering.billing.budgets.messages import AlertBook, Setting, anomaly_alert, budget_alert, more_anomalies_alert
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, UnavailableError
from metering.hours import date_of, hour_of, month_bounds_s, month_of
from metering.ledger.notes import watch
from metering.ledger.notes.money import BILLER_KEY, BillerFigures, StoredAlert
from metering.ledger.periods import periods_of
from metering.stores.objects import ObjectStore, positions_key
from metering.stores.writes import ItemStore, Put, Table
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from metering.billing.budgets.evaluation import Series
    from metering.billing.causes.growth import Grown
    from metering.billing.causes.keeper import CauseKeeper
    from metering.billing.day_sums.keeper import DaySumKeeper, Kept
    from metering.stores.clock import Alerts, Clock, Deadline

# A month that has ended is evaluated until it is closed in every region. A month is closed 72 hours after its end,
# unless its count has a problem, which raises a separate alarm.
_MONTH_LASTS_S = 5 * DAY_S
# Maximum number of messages about unusual usage per day and region. If there are more, one more message lists the rest.
MOST_MESSAGES = 20
# The watch's figures include alerts up to this age.
_REMEMBERED_S = 2 * DAY_S


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One evaluation of all budgets and all regions, made in the home region."""

    months: open_months.OpenMonths
    budgets: Sequence[Budget]
    left_out: tuple[str, ...]
    now_s: int
    stage: str
    home: str

    @property
    def setting(self) -> Setting:
        book = self.months.terms.book
        return Setting(
            stage=self.stage,
            home=self.home,
            now_s=self.now_s,
            through_s=self.months.through_s,
            prices="" if book is None else f"{book.name} {book.version}",
            reach=self.months.reach,
            left_out=self.left_out,
        )

    def alerts(self) -> tuple[list[StoredAlert], int]:
        """Alerts of crossed thresholds, and the number of budget periods evaluated."""
        # Without a measurement of the watch, only the usage counted so far is known.
        evaluation = Evaluation(months=self.months, through_s=self.months.through_s or self.now_s)
        found: list[StoredAlert] = []
        judged = 0
        for budget in self.budgets:
            asks = any(threshold.measure == "forecast" for threshold in budget.thresholds)
            for epoch_s in (self.now_s - (_MONTH_LASTS_S if budget.period == "month" else DAY_S), self.now_s):
                period = period_at(budget, epoch_s)
                ended = epoch_s != self.now_s
                if self.months.is_closed(period.month) or (ended and period == period_at(budget, self.now_s)):
                    continue
                standing = evaluation.standing(budget, period, forecast=asks and not self.left_out)
                found += (budget_alert(standing, threshold, self.setting) for threshold in standing.crossed)
                judged += 1
        return found, judged

    def unusual(self, region: open_months.ReadRegion, figures: BillerFigures) -> list[StoredAlert]:
        """Alerts about unusual usage on a region's last whole day; none if an earlier run has checked that day."""
        book, day_s, name = self.months.terms.book, region.last_whole_day(), region.region
        if book is None or day_s is None or figures.looked.get(name, "") >= date_of(day_s):
            return []
        found = anomalies_of(region.month(date_of(day_s)[:7]), day_s, book)
        causes = self._causes(region, day_s, {each.series for each in found[:MOST_MESSAGES]})
        told = [anomaly_alert(each, self.setting, causes.get(each.series, ())) for each in found[:MOST_MESSAGES]]
        if len(found) > MOST_MESSAGES:
            told.append(more_anomalies_alert(name, day_s, len(found) - MOST_MESSAGES, self.setting))
        return told

    def _causes(
        self, region: open_months.ReadRegion, day_s: int, series: Collection[Series]
    ) -> Mapping[tuple[str, str], list[Grown]]:
        """Causes that grew most since the week before; empty if they are unknown, because the message is due."""
        if not series:
            return {}
        # Arrow is slow to import, and unusual days are rare.
        from metering.billing.causes.growth import grown

        try:
            return grown(region.sums.objects, day_s, day_s - 7 * DAY_S, series, self.months.terms.owners)
        except (UnavailableError, LedgerCorruptError, ObjectMissingError, ObjectDamagedError):
            return {}

    def keep_positions(self, objects: ObjectStore) -> None:
        """Store the tier positions of payers with several accounts, so that one account can be priced alone."""
        book = self.months.terms.book
        if book is None:
            return
        for payer in self.months.terms.organization.payers:
            if len(payer.members) < 2:
                continue
            for name in self._recent_months():
                costs = None if self.months.is_closed(name) else self.months.costs_of(payer.payer_id, name)
                if costs is None or not costs.usage.days():
                    continue
                kept = open_months.KeptPositions(
                    as_of=open_months.moment(self.now_s),
                    through=open_months.moment(self.months.through_s),
                    book=(book.name, book.version, book.sha256),
                    overrides=self.months.terms.overrides.version,
                    organization=self.months.terms.organization.version,
                    regions=tuple(region.region for region in self.months.regions),
                    left_out=self.left_out,
                    positions=costs.positions,
                )
                objects.put(positions_key(name, payer.payer_id), kept.to_json(), if_absent=False)

    def figures(self, before: BillerFigures, book: AlertBook, since: str) -> BillerFigures:
        unpriced = open_months.unpriced_in(self.months, self._recent_months())
        sizes = [(sold, size) for solds in unpriced.values() for sold, size in solds.items()]
        stuck = open_months.blocked(
            self.months, self._recent_months(), left_out=self.left_out, unpriced=unpriced, now_s=self.now_s
        )
        recent_s = self.now_s - _REMEMBERED_S
        days = {region.region: region.last_whole_day() for region in self.months.regions}
        looked = {name: date_of(day_s) for name, day_s in days.items() if day_s is not None}
        return replace(
            before,
            unpriced_bytes=sum(size for _, size in sizes),
            unpriced_types=len({sold.usage_type for sold, _ in sizes}),
            blocked_months=tuple(stuck),
            why=next(iter(stuck.values()), ""),
            crossed_s=tuple(alert.made_s for alert in book.known(since) if alert.made_s >= recent_s),
            left_out=self.left_out,
            looked={**before.looked, **looked},
        )

    def _recent_months(self) -> list[str]:
        """Previous month and current month, in this order."""
        this = month_of(hour_of(self.now_s))
        first_s, _ = month_bounds_s(this)
        return [month_of(first_s - HOUR_S), this]


# Covers this month and the last two.
_SENT_FOR_S = 62 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BillerResult:
    """Result of a run.

    Attributes:
        files: Number of lake files counted.
        behind_s: Age of the oldest compactor run that is not counted; 0 if all runs are counted.
        budgets: Number of budget periods evaluated; 0 outside the home region.
        made, sent: Number of new alerts, and of messages that SNS accepted.
        unusual: Number of unusual days that this run found, counted per series.
        cause_files: Number of lake files whose causes were counted.
        causes_behind_s: Age of the oldest run whose causes are not counted; 0 if all are.
        causes_lost: The last causes that differed from the lake, or were lost.
        left_out: Regions that did not respond.
    """

    files: int
    behind_s: int
    budgets: int = 0
    made: int = 0
    sent: int = 0
    unusual: int = 0
    cause_files: int = 0
    causes_behind_s: int = 0
    causes_lost: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Dependencies of the home region's biller. `regions`: all regions with data of the stage, this one included."""

    objects: ObjectStore
    alerts: Alerts
    regions: Callable[[], Iterable[open_months.RegionSums]]
    terms: Callable[[], open_months.Terms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Biller:
    """The biller job of one region.

    Attributes:
        causes: Keeper of the region's causes.
        home: Dependencies for the home region; None in other regions, which only maintain sums.
    """

    items: ItemStore
    keeper: DaySumKeeper
    clock: Clock
    stage: str
    region: str
    causes: CauseKeeper | None = None
    home: Home | None = None

    def run(self, deadline: Deadline) -> BillerResult:
        """Add new usage to the day sums; in the home region, also evaluate budgets and unusual days; then add causes.

        Causes come last, so that nothing about them delays an alert.

        Raises:
            UnavailableError: A call failed; the next run finishes the work.
            LedgerCorruptError: A stored object cannot be read.
        """
        now_s = self._now_s()
        kept = self.keeper.keep(deadline, complete_through_s=self._complete_through_s(), closed=self._closed(now_s))
        result = BillerResult(files=kept.files, behind_s=kept.behind_s)
        before = self._figures(now_s)
        figures = replace(before, finished_s=now_s, counted_s=kept.index.counted_s)
        if self.home is not None:
            result, figures = self._tell(self.home, kept, result, figures)
        if self.causes is not None:
            # If the causes are not counted, the alarm of a biller that falls behind must say so.
            self._put(replace(figures, counted_s=before.counted_s))
            causes = self.causes.keep(deadline, kept)
            result = replace(
                result, cause_files=causes.files, causes_behind_s=causes.behind_s, causes_lost=causes.index.lost
            )
            figures = replace(figures, counted_s=min(figures.counted_s, causes.index.counted_s))
        self._put(figures)
        return result

    def _put(self, figures: BillerFigures) -> None:
        self.items.put(Put(table=Table.LEDGER, item=figures.to_item()))

    def _tell(
        self, home: Home, kept: Kept, result: BillerResult, figures: BillerFigures
    ) -> tuple[BillerResult, BillerFigures]:
        book = AlertBook(items=self.items, alerts=home.alerts, clock=self.clock)
        since = month_of(hour_of(figures.finished_s - _SENT_FOR_S))
        # Alerts that an earlier run could not send are sent first, because nothing below may delay them.
        sent = book.send(since)
        regions, left_out = open_months.read_regions(home.regions())
        budgets = BudgetStore(items=self.items, clock=self.clock).list()
        months = open_months.OpenMonths(objects=home.objects, regions=regions, terms=home.terms(), budgets=budgets)
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
        made = sum(book.make(alert.as_sent() if figures.quiet else alert) for alert in (*alerts, *unusual))
        sent += book.send(since)
        turn.keep_positions(home.objects)
        months.summaries.keep()
        return (
            replace(result, budgets=judged, made=made, sent=len(sent), unusual=len(unusual), left_out=tuple(left_out)),
            replace(turn.figures(figures, book, since), quiet=figures.quiet and kept.behind_s > 0),
        )

    def _figures(self, now_s: int) -> BillerFigures:
        item = self.items.get(Table.LEDGER, BILLER_KEY)
        if item is None:
            return BillerFigures(first_s=now_s, finished_s=0, counted_s=0)
        return BillerFigures.from_item(item)

    def _complete_through_s(self) -> int:
        """The watch's last measured `complete_through`. It stays true."""
        item = self.items.get(Table.LEDGER, watch.COMPLETENESS_KEY)
        return 0 if item is None else watch.Completeness.from_item(item).through_s

    def _closed(self, now_s: int) -> dict[str, str]:
        """Closed months of the last two years, with the keys of their manifests."""
        year, month = map(int, month_of(hour_of(now_s)).split("-"))
        last = year * 12 + month - 1
        names = [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in range(last - 24, last + 1)]
        periods = periods_of(self.items, names).values()
        return {period.month: period.frozen_key for period in periods if period.state == "closed"}

    def _now_s(self) -> int:
        return self.clock.now_ms() // 1000
