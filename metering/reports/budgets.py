"""Answers about budgets and unusual days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.budgets.evaluation import LEAST_WEEKS, Anomaly, Standing, query_of
from metering.billing.budgets.open_months import moment
from metering.billing.money import rounded, usd_text
from metering.hours import date_of
from metering.reports.accounts import reach_document, reach_lines
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column
from metering.units import DAY_S, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.billing.budgets.budget import Budget, Unit
    from metering.billing.day_sums.index import Reach
    from metering.ledger.notes.money import StoredAlert


_ABOUT = (
    Column(name="budget", text="copied", priority=KEEP),
    Column(name="scope", text="prose"),
    Column(name="period", text="copied", priority=KEEP),
)
_AMOUNT = (Column(name="unit", priority=KEEP), Column(name="amount", text="number", priority=KEEP))
_BUDGETS = (
    *_ABOUT,
    *_AMOUNT,
    Column(name="thresholds", text="prose"),
    Column(name="severity", priority=ROOMY),
)
_STANDINGS = (
    *_ABOUT,
    *_AMOUNT,
    Column(name="actual", text="number", priority=KEEP),
    Column(name="used_percent", text="number", title="used %"),
    Column(name="forecast", text="number"),
    Column(name="forecast_low", text="number", title="10 %", priority=ROOMY),
    Column(name="forecast_high", text="number", title="90 %", priority=ROOMY),
    Column(name="crossed", text="prose"),
    Column(name="alerts", text="prose", priority=ROOMY),
)
_NAMED = 5
"""Usage types without a price that are named."""
FORECAST = "A forecast is an estimate: expected bytes, run through the tiers. The interval holds 80 % of such days."


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How far what is counted goes.

    Attributes:
        as_of_s: Everything that was published by this time is counted; 0 if nothing was ever counted.
        through_s: Up to when the count of all regions is complete; 0 if it is not known.
        reach: Up to when all that was accepted is counted, and what is not.
        prices: Name and version of the price book; empty if there is none.
        left_out: Regions that gave no answer.
        unpriced: Usage types without a price, with their bytes in the months that are shown.
    """

    as_of_s: int
    through_s: int
    reach: Reach
    prices: str
    left_out: Sequence[str] = ()
    unpriced: Mapping[str, int] | None = None

    def meta(self) -> dict[str, object]:
        return {
            "as_of": moment(self.as_of_s),
            "complete_through": moment(self.through_s),
            **reach_document(self.reach),
            "prices": self.prices,
            "left_out": list(self.left_out),
            "unpriced": [{"usage_type": name, "bytes": str(size)} for name, size in (self.unpriced or {}).items()],
        }

    def footer(self) -> tuple[str, ...]:
        lines = [
            f"Counted: what the compactor had published by {moment(self.as_of_s)}, of usage that is complete through "
            f"{moment(self.through_s) or 'an unknown time'}. `metering cost` has newer usage too. To count what was "
            "published since: metering budget update"
            if self.as_of_s
            else "Nothing is counted yet: the biller has not run. To run it now: metering budget update",
            *reach_lines(self.reach),
        ]
        if self.left_out:
            lines.append(f"Without {', '.join(self.left_out)}, which gave no answer: the figures are too low.")
        if not self.prices:
            lines.append("No price book was imported, so nothing has a cost: metering prices import --help")
        if self.unpriced:
            names = sorted(self.unpriced)
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            lines.append(
                f"Without a price, and in no cost: {exact_and_size(sum(self.unpriced.values()))} of "
                f"{', '.join(names[:_NAMED])}{more}. See all of it: metering prices check"
            )
        return tuple(lines)


def number_text(value: int, unit: Unit) -> str:
    """An amount without its unit: USD to ten decimals, or the exact bytes."""
    return str(value) if unit == "bytes" else usd_text(rounded(value))


def budgets_answer(budgets: Sequence[Budget], reach: Reach | None = None) -> Answer:
    """Every budget that is set, and how far the usage goes that they are judged by, if that was asked."""
    return Answer(
        columns=_BUDGETS,
        rows=[
            {
                **_about(each, each.period),
                "thresholds": ", ".join(threshold.text for threshold in each.thresholds),
                "severity": each.severity,
            }
            for each in budgets
        ],
        meta={} if reach is None else reach_document(reach),
        title="Budgets",
        empty="No budget is set. To set one: metering budget set --help",
        footer=() if reach is None or not budgets else tuple(reach_lines(reach)),
    )


def standings_answer(standings: Sequence[Standing], alerts: Sequence[StoredAlert], counted: Counted) -> Answer:
    """Where budgets stand, and what was told about them."""
    rows = [_standing(each, alerts) for each in standings]
    asked = [each.forecast for each in standings if each.forecast is not None]
    said = [FORECAST] if any(each.known for each in asked) else []
    if any(not each.known for each in asked):
        said.append("Where no forecast stands, there are fewer than 3 days of history.")
    without = max((each.payers_without for each in asked), default=0)
    if without:
        said.append(
            f"Payers with fewer than 3 days of history, up to {without:,} a budget, are in forecasts with what they "
            "used so far."
        )
    crossed = [
        f"{each.budget.name} ({', '.join(one.text for one in each.crossed)})" for each in standings if each.crossed
    ]
    if crossed:
        said.insert(0, f"Crossed: {'; '.join(crossed)}. What to do: metering runbook budget-crossed")
    return Answer(
        columns=_STANDINGS,
        rows=rows,
        meta=counted.meta(),  # type: ignore[arg-type]  # texts and lists of texts
        title="Budgets",
        empty="No budget is set. To set one: metering budget set --help",
        footer=(*counted.footer(), *said),
    )


def _about(budget: Budget, period: str) -> dict[str, Cell]:
    unit = budget.amount.unit
    return {
        "budget": budget.name,
        "scope": str(budget.scope),
        "period": period,
        "unit": unit,
        "amount": number_text(budget.amount.value, unit),
    }


def _standing(standing: Standing, alerts: Sequence[StoredAlert]) -> dict[str, Cell]:
    budget, forecast = standing.budget, standing.forecast
    unit = budget.amount.unit
    known = forecast is not None and forecast.known
    told = [
        alert for alert in alerts if alert.period == standing.period.name and alert.fields.get("budget") == budget.name
    ]
    return {
        **_about(budget, standing.period.name),
        "actual": None if standing.actual is None else number_text(standing.actual, unit),
        "used_percent": None if standing.actual is None else _percent(standing.actual, budget.amount.value),
        "forecast": number_text(forecast.value, unit) if known and forecast else None,
        "forecast_low": number_text(forecast.low, unit) if known and forecast else None,
        "forecast_high": number_text(forecast.high, unit) if known and forecast else None,
        "crossed": ", ".join(threshold.text for threshold in standing.crossed),
        "alerts": ", ".join(f"{alert.fields.get('threshold', '')} {alert.state}" for alert in told),
    }


def _percent(part: int, whole: int) -> str | None:
    """A percentage with one decimal, rounded half up."""
    if whole == 0:
        return None
    sign, tenths = ("-" if part < 0 else ""), (2_000 * abs(part) + whole) // (2 * whole)
    return f"{sign}{tenths // 10}.{tenths % 10}"


_COLUMNS = (
    Column(name="region", text="copied"),
    Column(name="day", text="copied", priority=KEEP),
    Column(name="account_id", text="copied", priority=KEEP),
    Column(name="usage_type", text="copied", priority=KEEP),
    Column(name="service"),
    Column(name="from", text="copied", priority=ROOMY),
    Column(name="to", text="copied", priority=ROOMY),
    Column(name="bytes", kind="bytes", priority=KEEP),
    Column(name="usual_bytes", kind="bytes", title="usual"),
    Column(name="above_usd", text="number", title="above, USD at list price"),
    Column(name="weeks", kind="integer", priority=ROOMY),
)


def anomalies_answer(found: Sequence[Anomaly], *, stage: str, days: Sequence[int], book: str, reach: Reach) -> Answer:
    """Unusual days of series, the dearest first, with what to type to see whose resources they are of."""
    return Answer(
        columns=_COLUMNS,
        rows=[
            {
                "region": each.region,
                "day": date_of(each.day_s),
                "account_id": each.series.account_id,
                "usage_type": each.series.usage_type,
                "service": each.kind.service,
                "from": each.kind.from_location,
                "to": each.kind.to_location,
                "bytes": each.bytes,
                "usual_bytes": each.expected,
                "above_usd": usd_text(rounded(each.excess)),
                "weeks": each.weeks,
            }
            for each in found
        ],
        meta={"days": [date_of(day_s) for day_s in days], "prices": book, **reach_document(reach)},
        title="Unusual days",
        empty="Nothing unusual.",
        footer=(
            f"A day is compared with the same day of up to eight weeks before; of fewer than {LEAST_WEEKS} weeks "
            "nothing is said.",
            *reach_lines(reach),
        ),
        commands=tuple(_look(each, stage) for each in found[:3]),
    )


def _look(anomaly: Anomaly, stage: str) -> str:
    day, after = date_of(anomaly.day_s), date_of(anomaly.day_s + DAY_S)
    place = f"--region {anomaly.region} --stage {stage}"
    return f'metering query --from {day} --to {after} {place} "{query_of(anomaly)}"'
