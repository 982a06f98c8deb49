"""Savings: the causes of regions, rewritten by rules, and rated in their payers' months."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.payer_prices import traffic_of
from metering.errors import ObjectMissingError
from metering.hours import hour_of, month_bounds_s, month_of
from metering.reports.costs.rows import CostParameters
from metering.reports.savings.answer import Finding, Month, savings_answer, what_if_answer
from metering.reports.savings.reading import rewrite
from metering.reports.savings.replay import Replay
from metering.reports.savings.rewriting import Rewriting
from metering.reports.source import naming
from metering.units import HOUR_S
from metering.wiring.answers.costs import rating
from metering.wiring.answers.who import cause_source

_ATTEMPTS = 3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from metering.billing.usage.months import HoursDone
    from metering.reports.answer import Answer
    from metering.reports.costs.source import BookName
    from metering.reports.savings.rules import SavingsRule
    from metering.wiring.answers.costs import BillingRegions
    from metering.wiring.lake import ReadableRegion


class Asked(NamedTuple):
    """A question about savings in a month, by default the current one.

    Attributes:
        top: Most findings; 0 for all. None asks for the month with the one rule applied everywhere.
        hourly: Price of an hour of what the rule adds, in 1e-10 USD; None if unknown.
    """

    rules: Sequence[SavingsRule]
    month: str | None = None
    top: int | None = None
    hourly: int | None = None


def savings_of(
    billing: BillingRegions,
    asked: Asked,
    *,
    region: str | None,
    book: BookName,
    now_s: int,
    progress: Callable[[], AbstractContextManager[HoursDone]],
) -> Answer:
    """Answer what rules would save. Only causes of `region` are read; None for those of all regions.

    Raises:
        OperationFailedError: The causes are those of a ledger before a restore.
        LedgerCorruptError: Causes have more bytes than their usage.
        MeteringError: As `costs_of`; or causes cannot be read.
    """
    month, whole = asked.month or month_of(hour_of(now_s)), asked.top is None
    query = CostParameters(month=month).cost_query(now_s=now_s)
    with rating(billing, query, book=book, now_s=now_s, exact=True, progress=progress) as parts:
        [plan] = parts.plans
        # Causes are read before usage, which therefore has all that they have.
        regions = [each for each in billing.regions if region in (None, each.region)]
        payer_of = plan.loaded.organization.payer_of
        done = _rewritten(regions, month, lambda: Rewriting(asked.rules, payer_of, apart=not whole))
        usage, used = parts.source.planner.composer.booked_in(plan.month, plan.rates), Counter[str]()
        for of_region in usage.regions:
            for line in of_region.day_lines() if region in (None, of_region.region) else ():
                used[traffic_of(line.usage_type)] += line.bytes
        done.add_usage(used)
        payers = {case.payer_id for case in done.cases.values()}
        replays = {each: Replay(prices=plan.loaded.prices(each), usage=usage.of(each)) for each in payers}
        first_s, after_s = month_bounds_s(month)
        hours = (min(now_s, after_s) - first_s) // HOUR_S
        told = Month(month, hours, usage.is_closed, plan.rates.told, asked.hourly)
        found = [Finding(case, replays[case.payer_id].compared(case.lines()), told) for case in done.cases.values()]
    return what_if_answer(done, found, told) if whole else savings_answer(done, found, told, top=asked.top)


def _rewritten(regions: Sequence[ReadableRegion], month: str, begin: Callable[[], Rewriting]) -> Rewriting:
    """Causes of regions, rewritten; read again if the biller replaces them meanwhile."""
    for left in range(_ATTEMPTS - 1, -1, -1):
        done = begin()
        try:
            for source in map(cause_source, regions):
                with naming(source.region):
                    rewrite(source, month, done)
            break
        except ObjectMissingError:
            if not left:
                raise
    return done
