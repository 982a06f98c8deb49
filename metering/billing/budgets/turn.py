"""One look at everything that the biller of the home region judges: budgets, unusual days, positions, figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.budgets.anomalies import anomalies_of
from metering.billing.budgets.blockers import blocked, unpriced_in
from metering.billing.budgets.evaluation import Evaluation, period_at
from metering.billing.budgets.kept_positions import KeptPositions, moment
from metering.billing.budgets.messages import Setting, anomaly_alert, budget_alert, more_anomalies_alert
from metering.hours import date_of, hour_of, month_bounds_s, month_of
from metering.stores.bucket import positions_key
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.budgets.alerts import AlertBook
    from metering.billing.budgets.budget import Budget
    from metering.billing.budgets.open_months import OpenMonths, ReadRegion
    from metering.ledger.notes.biller import BillerFigures
    from metering.ledger.notes.budgets import StoredAlert
    from metering.stores.objects import ObjectStore

# A month that has ended is judged until it is closed in every region. That is 72 hours after its end, unless something
# is wrong with its count, and then there is an alarm about that.
_MONTH_LASTS_S = 5 * DAY_S
# Messages of one day and region about unusual usage. If there are more, one message names the rest.
MOST_MESSAGES = 20
# Alerts of this long are figures of the watch.
_REMEMBERED_S = 2 * DAY_S


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One look at everything, at home."""

    months: OpenMonths
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
        """An alert for each threshold that is crossed, and how many budgets were judged."""
        # Where the watch has not measured yet, what is counted so far is all that is known.
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

    def unusual(self, region: ReadRegion, figures: BillerFigures) -> list[StoredAlert]:
        """Messages about the last whole day of a region, unless an earlier run has looked at it."""
        book, day_s, name = self.months.terms.book, region.last_whole_day(), region.region
        if book is None or day_s is None or figures.looked.get(name, "") >= date_of(day_s):
            return []
        found = anomalies_of(region.month(date_of(day_s)[:7]), day_s, book)
        told = [anomaly_alert(each, self.setting) for each in found[:MOST_MESSAGES]]
        if len(found) > MOST_MESSAGES:
            told.append(more_anomalies_alert(name, day_s, len(found) - MOST_MESSAGES, self.setting))
        return told

    def keep_positions(self, objects: ObjectStore) -> None:
        """Put the positions of payers of several accounts, so that one account can be priced alone."""
        book = self.months.terms.book
        if book is None:
            return
        for payer in self.months.terms.organization.payers:
            if len(payer.members) < 2:
                continue
            for name in self._open_months():
                costs = self.months.costs_of(payer.payer_id, name)
                if costs is None or not costs.usage.days():
                    continue
                kept = KeptPositions(
                    as_of=moment(self.now_s),
                    through=moment(self.months.through_s),
                    book=(book.name, book.version, book.sha256),
                    overrides=self.months.terms.overrides.version,
                    organization=self.months.terms.organization.version,
                    regions=tuple(region.region for region in self.months.regions),
                    left_out=self.left_out,
                    positions=costs.positions,
                )
                objects.put(positions_key(name, payer.payer_id), kept.to_json(), if_absent=False)

    def figures(self, before: BillerFigures, book: AlertBook, since: str) -> BillerFigures:
        """Figures for the watch."""
        unpriced = unpriced_in(self.months, self._recent_months())
        stuck = blocked(
            self.months,
            self._recent_months(),
            left_out=self.left_out,
            unpriced=unpriced,
            now_s=self.now_s,
        )
        recent_s = self.now_s - _REMEMBERED_S
        days = {region.region: region.last_whole_day() for region in self.months.regions}
        looked = {name: date_of(day_s) for name, day_s in days.items() if day_s is not None}
        return replace(
            before,
            unpriced_bytes=unpriced.total_bytes,
            unpriced_types=unpriced.types,
            blocked_months=tuple(stuck),
            why=next(iter(stuck.values()), ""),
            crossed_s=tuple(alert.made_s for alert in book.known(since) if alert.made_s >= recent_s),
            left_out=self.left_out,
            looked={**before.looked, **looked},
        )

    def _open_months(self) -> list[str]:
        return [name for name in self._recent_months() if not self.months.is_closed(name)]

    def _recent_months(self) -> list[str]:
        """This month and the last one, in order."""
        this = month_of(hour_of(self.now_s))
        first_s, _ = month_bounds_s(this)
        return [month_of(first_s - HOUR_S), this]
