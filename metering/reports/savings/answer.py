"""Answers about savings: what each rule finds, and a month as it was and as it would be."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.money import rounded, usd_text
from metering.reports.answer import (
    KEEP,
    ROOMY,
    Answer,
    Fields,
    Json,
    RowType,
    cents,
    copied,
    exact,
    integer,
    money,
    sized,
)
from metering.reports.costs.rows import Figures, total_of
from metering.reports.operators.ingest_answer import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.reports.savings.rewriting import Case, Rewriting
    from metering.reports.savings.rules import SavingsRule
    from metering.usage.totals import UsageType

UNKNOWN = (
    "Not known here: policies, DNS, IPv6, private contracts, and what a change itself costs. Rules overlap, so their "
    "savings do not add up. Nothing is changed."
)
"""What no rule knows."""


class Month(NamedTuple):
    """The month of an answer: its hours so far, whether it is closed in all regions, and the price book in words.

    `hourly` is the price of an hour of what a rule adds, in 1e-10 USD; None if unknown.
    """

    name: str
    hours: int
    final: bool
    prices: str
    hourly: int | None = None


class Finding(NamedTuple):
    """A case, and the sums of its payer's month by usage type, as it was and as it would be. Amounts: 1e-10 USD."""

    case: Case
    types: Mapping[UsageType, tuple[Figures, Figures]]
    month: Month

    @property
    def bytes(self) -> int:
        return self.case.places.total()

    @property
    def totals(self) -> tuple[Figures, Figures]:
        return total_of(was for was, _ in self.types.values()), total_of(would for _, would in self.types.values())

    @property
    def hours(self) -> int:
        """Hours that are charged in addition."""
        return len(self.case.zones) * self.month.hours

    @property
    def hours_cost(self) -> int:
        """Cost of these hours; 0 if their price is unknown."""
        return self.hours * (self.month.hourly or 0)

    @property
    def saving(self) -> int | None:
        """Saving less the cost of hours; None if moved bytes have no price. Totals are those that `cost` prints."""
        was, would = self.totals
        moved = any(one.unpriced != other.unpriced for one, other in self.types.values())
        return None if moved else rounded(was.exact) - rounded(would.exact) - self.hours_cost

    @property
    def breakeven_hour(self) -> int | None:
        """Price of an hour at which nothing is saved; None without hours."""
        return None if self.saving is None or not self.hours else (self.saving + self.hours_cost) // self.hours

    @property
    def breakeven_bytes(self) -> int | None:
        """Bytes at which nothing is saved, at the mean saving of a byte; None without a price of an hour."""
        saved = (self.saving or 0) + self.hours_cost
        return -(-self.bytes * self.hours_cost // saved) if self.hours_cost and saved > 0 else None


def _usd(units: int | None) -> Decimal | None:
    return None if units is None else Decimal(usd_text(units))


def _cost(figures: Figures) -> Decimal | None:
    return _usd(rounded(figures.exact)) if figures.known else None


_FIELDS: Fields[Finding] = (
    *copied("rule", of=lambda it: it.case.rule.name, priority=KEEP),
    *copied("place", of=lambda it: sorted(it.case.places), priority=KEEP),
    *copied("gateways", of=lambda it: sorted(it.case.gateways), priority=ROOMY),
    *copied("payer", of=lambda it: it.case.payer_id, priority=ROOMY),
    *sized("bytes"),
    *cents("saving_usd", of=lambda it: _usd(it.saving), priority=KEEP),
    *copied("bound", of=lambda it: "at most" if it.case.assumed_bytes else "exact", priority=KEEP),
    *integer("added_hours", of=lambda it: it.hours or None, about="charged in addition, of all zones together"),
    *money("breakeven_hour_usd", of=lambda it: _usd(it.breakeven_hour), about="price of an hour that saves nothing"),
    *exact("breakeven_bytes", priority=ROOMY, about="bytes that save nothing, at the price of an hour"),
)
_FINDINGS: RowType[Finding] = RowType(_FIELDS)
_WHOLES: RowType[Finding] = RowType(
    _FIELDS,
    money("added_hours_usd", of=lambda it: _usd(it.hours_cost)),
    money("cost_usd", of=lambda it: _cost(it.totals[0]), about="of the payer's month, as it was"),
    money("cost_would_usd", of=lambda it: _cost(it.totals[1]), about="of the month, as it would be"),
)


def savings_answer(done: Rewriting, findings: Sequence[Finding], month: Month, *, top: int | None = None) -> Answer:
    """Findings with a saving, or with an unknown one because moved bytes have no price; the largest first."""
    saving = sorted(
        (each for each in findings if each.saving is None or each.saving > 0),
        key=lambda each: (-(each.saving or 0), each.case.rule.name, sorted(each.case.places)),
    )
    shown = saving[: top or None]
    more = len(saving) - len(shown)
    rules = list({each.case.rule.name: each.case.rule for each in shown}.values())
    return _FINDINGS.answer(
        shown,
        meta={**_meta(done, rules, month), "more": more},
        title=f"What could be saved in {month.name}",
        empty="Nothing to save was found.",
        footer=(*([f"{more} more: --top 0"] if more else []), *_footer(done, rules, shown, month)),
        commands=tuple(f"metering what-if {rule.name} --month {month.name}" for rule in rules),
    )


def what_if_answer(done: Rewriting, wholes: Sequence[Finding], month: Month) -> Answer:
    """A month with one rule applied everywhere that it fits. `wholes` has all changes of each payer together."""
    [rule] = done.rules
    changed: list[Json] = [
        {
            "payer": each.case.payer_id,
            "usage_type": name,
            "bytes": [str(figures.bytes) for figures in both],
            "cost_usd": [None if (cost := _cost(figures)) is None else str(cost) for figures in both],
        }
        for each in wholes
        for name, both in each.types.items()
        if both[0] != both[1]
    ]
    return _WHOLES.answer(
        wholes,
        meta={**_meta(done, [rule], month), "changed": changed},
        title=f"{month.name} as it was, and if you {rule.advice}",
        empty="The rule fits nothing.",
        footer=tuple(_footer(done, [rule], wholes, month)),
    )


def _footer(done: Rewriting, rules: Sequence[SavingsRule], shown: Sequence[Finding], month: Month) -> Iterator[str]:
    for rule in rules:
        yield f"{rule.name}: {rule.advice}. Check first: {'; '.join(rule.risks)}."
        if rule.at_most:
            yield f"{rule.name}, where it says at most: {rule.at_most}."
    for name, size in done.unknown.items():
        if size:
            share = percent(size, done.about[name])
            yield f"{name}: {share} of the bytes that it is about have no cause or destination, and are not judged."
    hours = sorted({each.case.rule.hours_of for each in shown if each.hours})
    if hours and month.hourly is None:
        yield f"Not taken off: hours of {', '.join(hours)}. At a price: metering what-if RULE --hourly-usd"
    if any(each.saving is None for each in shown):
        yield f"Without a saving: bytes that move have no price. Which: metering prices check --month {month.name}"
    if not month.final:
        yield f"{month.name} is not closed: these figures are not final."
    yield f"Prices: {month.prices}. {UNKNOWN}"


def _meta(done: Rewriting, rules: Sequence[SavingsRule], month: Month) -> dict[str, Json]:
    told: list[Json] = [
        {"name": each.name, "advice": each.advice, "risks": list(each.risks), "at_most": each.at_most} for each in rules
    ]
    judged: dict[str, Json] = {
        name: {"bytes": str(size), "unknown_bytes": str(done.unknown[name])} for name, size in done.about.items()
    }
    head: dict[str, Json] = {"month": month.name, "final": month.final, "hours": month.hours, "prices": month.prices}
    return {**head, "rules": told, "judged": judged, "unknown": UNKNOWN}
