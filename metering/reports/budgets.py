"""Answers about budgets and unusual days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from metering.billing.budgets import open_months
from metering.billing.budgets.evaluation import LEAST_WEEKS, Anomaly, Standing, query_of
from metering.billing.money import rounded, usd_text
from metering.hours import date_of
from metering.reports import answer
from metering.reports.accounts import reach_document, reach_lines
from metering.units import DAY_S, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from metering.billing.budgets import forecasts
    from metering.billing.budgets.budget import Budget, Threshold, Unit
    from metering.billing.day_sums.index import Reach
    from metering.ledger.notes.money import StoredAlert

T = TypeVar("T")


def _about(budget: Callable[[T], Budget], period: Callable[[T], str]) -> answer.Fields[T]:
    return (
        *answer.copied("budget", of=lambda it: budget(it).name, priority=answer.KEEP),
        *answer.prose("scope", of=lambda it: str(budget(it).scope)),
        *answer.copied("period", of=period, priority=answer.KEEP),
        *answer.short("unit", of=lambda it: budget(it).amount.unit, priority=answer.KEEP),
        *answer.amount("amount", of=lambda it: _amount(budget(it), budget(it).amount.value), priority=answer.KEEP),
    )


def _of_forecast(
    name: str, read: Callable[[forecasts.Forecast], int], *, title: str = "", priority: int = answer.USUAL
) -> answer.Fields[Standing]:
    def text(it: Standing) -> str | None:
        return _amount(it.budget, read(it.forecast)) if it.forecast and it.forecast.known else None

    return answer.amount(name, of=text, title=title, priority=priority)


def _texts(thresholds: Iterable[Threshold]) -> list[str]:
    return [each.text for each in thresholds]


def _rules(budget: Callable[[T], Budget]) -> answer.Fields[T]:
    return (
        *answer.prose("thresholds", of=lambda it: _texts(budget(it).thresholds)),
        *answer.short("severity", of=lambda it: budget(it).severity, priority=answer.ROOMY),
    )


_BUDGETS: answer.RowType[Budget] = answer.RowType(_about(lambda it: it, lambda it: it.period), _rules(lambda it: it))
_SPENT: answer.Fields[Standing] = (
    *answer.amount("actual", of=lambda it: _amount(it.budget, it.actual), priority=answer.KEEP, title="spent"),
    *answer.number(
        "used_percent",
        of=lambda it: _percent(it.actual, it.budget.amount.value),
        priority=answer.KEEP,
        title="used %",
    ),
)
_PROCESSED: answer.Fields[Standing] = answer.exact(
    "processed_bytes", title="processed", priority=answer.ROOMY + 1, about="processing, a second count, not in spent"
)
_LISTED: answer.RowType[Standing] = answer.RowType(
    _about(lambda it: it.budget, lambda it: it.budget.period), _SPENT, _rules(lambda it: it.budget), _PROCESSED
)
_STANDINGS: answer.Fields[Standing] = (
    *_about(lambda it: it.budget, lambda it: it.period.name),
    *_SPENT,
    *_of_forecast("forecast", lambda it: it.value),
    *_of_forecast("forecast_low", lambda it: it.low, title="10 %", priority=answer.ROOMY),
    *_of_forecast("forecast_high", lambda it: it.high, title="90 %", priority=answer.ROOMY),
    *answer.prose("crossed", of=lambda it: _texts(it.crossed)),
)
_NAMED = 5
"""Usage types without a price that are named."""
FORECAST = "A forecast is an estimate: expected bytes, run through the tiers. The interval holds 80 % of such days."


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How complete the counted usage is.

    Attributes:
        as_of_s: All usage published by this time, or accepted by this time (`now`), is counted; 0 if nothing is.
        through_s: Time through which the counts of all regions are complete; 0 if unknown.
        reach: Time through which all accepted usage is counted, and the usage not counted yet.
        prices: Name and version of the price book; empty without a price book.
        unpriced: Usage types without a price, with their bytes in the months shown.
    """

    as_of_s: int
    through_s: int
    reach: Reach
    prices: str
    left_out: Sequence[str] = ()
    unpriced: Mapping[str, int] | None = None
    now: bool = False

    def meta(self) -> dict[str, object]:
        return {
            "as_of": open_months.moment(self.as_of_s),
            "complete_through": open_months.moment(self.through_s),
            **reach_document(self.reach),
            "now": self.now,
            "prices": self.prices,
            "left_out": list(self.left_out),
            "unpriced": [{"usage_type": name, "bytes": str(size)} for name, size in (self.unpriced or {}).items()],
        }

    def footer(self) -> tuple[str, ...]:
        through = f"usage that is complete through {open_months.moment(self.through_s) or 'an unknown time'}."
        lines = [
            f"Counted: all that was accepted by {open_months.moment(self.as_of_s)}, of {through} Alerts follow the "
            "biller, which counts what the compactor has published: metering budget update"
            if self.now
            else f"Counted: what the compactor had published by {open_months.moment(self.as_of_s)}, of {through} "
            "`metering cost` has newer usage too. To count what was published since: metering budget update"
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


_NONE = "No budget is set. To set one: metering budget set --help"


def budgets_answer(budgets: Sequence[Budget]) -> answer.Answer:
    """Budgets as they are set."""
    return _BUDGETS.answer(budgets, title="Budgets", empty=_NONE)


def budget_list_answer(standings: Sequence[Standing], counted: Counted) -> answer.Answer:
    """All budgets, each with what is spent in its period so far, and how complete that count is."""
    return _LISTED.answer(
        standings,
        meta=counted.meta(),  # type: ignore[arg-type]  # texts and lists of texts
        title="Budgets",
        empty=_NONE,
        footer=counted.footer() if standings else (),
    )


def standings_answer(standings: Sequence[Standing], alerts: Sequence[StoredAlert], counted: Counted) -> answer.Answer:
    """The state of budgets, and the alerts that were sent about these budgets."""
    told: answer.Fields[Standing] = answer.prose("alerts", of=lambda it: _told(it, alerts), priority=answer.ROOMY)
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
    return answer.RowType(_STANDINGS, told, _PROCESSED).answer(
        standings,
        meta=counted.meta(),  # type: ignore[arg-type]  # texts and lists of texts
        title="Budgets",
        empty=_NONE,
        footer=(*counted.footer(), *said),
    )


def _amount(budget: Budget, value: int | None) -> str | None:
    return None if value is None else number_text(value, budget.amount.unit)


def _told(standing: Standing, alerts: Sequence[StoredAlert]) -> list[str]:
    return [
        f"{each.fields.get('threshold', '')} {each.state}"
        for each in alerts
        if each.period == standing.period.name and each.fields.get("budget") == standing.budget.name
    ]


def _percent(part: int | None, whole: int) -> str | None:
    """A percentage with one decimal, rounded half up."""
    if part is None or whole == 0:
        return None
    sign, tenths = ("-" if part < 0 else ""), (2_000 * abs(part) + whole) // (2 * whole)
    return f"{sign}{tenths // 10}.{tenths % 10}"


_ANOMALIES: answer.RowType[Anomaly] = answer.RowType(
    answer.copied("region"),
    answer.copied("day", of=lambda it: date_of(it.day_s), priority=answer.KEEP),
    answer.copied("account_id", of=lambda it: it.series.account_id, priority=answer.KEEP),
    answer.copied("usage_type", of=lambda it: it.series.usage_type, priority=answer.KEEP),
    answer.short("service", of=lambda it: it.kind.service),
    answer.copied("from", of=lambda it: it.kind.from_location, priority=answer.ROOMY),
    answer.copied("to", of=lambda it: it.kind.to_location, priority=answer.ROOMY),
    answer.sized("bytes", priority=answer.KEEP),
    answer.sized("usual_bytes", of=lambda it: it.expected, title="usual"),
    answer.amount("above_usd", of=lambda it: usd_text(rounded(it.excess)), title="above, USD at list price"),
    answer.integer("weeks", priority=answer.ROOMY),
)


def anomalies_answer(
    found: Sequence[Anomaly], *, stage: str, days: Sequence[int], book: str, reach: Reach
) -> answer.Answer:
    """Unusual days of time series, the highest cost first, with the commands that show the resources."""
    return _ANOMALIES.answer(
        found,
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
