"""Costs of usage: the regions that are rated together, and the answer to one query about them."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.billing.usage import months
from metering.errors import OperationFailedError
from metering.fleet.regions import LedgerRegionStates
from metering.hours import month_of, rfc3339
from metering.reports.costs.source import BookName, CostPlanner, Costs, CostSource, MonthPlan, cost_answer
from metering.reports.time_range import InvalidParametersError, ParameterProblem
from metering.wiring.billing import StageUsage, build_planner, build_shelf, kept_positions
from metering.wiring.region import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.reports.answer import Answer
    from metering.reports.costs.rows import CostQuery
    from metering.wiring import lake

DEFAULT_BOOK = "aws-list"
"""Price book of who names none."""
_BOOK = re.compile(r"([^@]+)(?:@([1-9][0-9]{0,8}))?")
# If the range has more months than this, a look-up of the first month with rows saves time.
_FEW_MONTHS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingRegions:
    """Regions rated together: a payer's tiers and free allowances span all of them.

    Attributes:
        home: The region that stores price books, payers and invoices.
        regions: Every region that holds data of the stage, sorted by name.
        left_out: For each region, the parts of the service that the region lacks.
    """

    home: lake.ReadableRegion
    regions: Sequence[lake.ReadableRegion]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [region.region for region in self.regions]


def own_billing(region: lake.ReadableRegion, *, home: str | None = None) -> BillingRegions:
    """Regions to rate in a function that reads only `region`, which must hold all data of the stage.

    `home` is the home region; default: `region`.

    Raises:
        OperationFailedError: Other regions hold data of the stage, or `region` is not its home: tiers would be wrong.
        UnavailableError: The ledger does not answer.
    """
    states = LedgerRegionStates(lambda: region.items)
    stage = Stage(home=home or region.region, connect=lambda _name: region, states=states)
    if stage.holding_data != [region.region]:
        raise OperationFailedError(
            "Costs are not known here: tiers count over all regions of the stage, and only this one is read here.",
            "Ask on the command line, `metering cost`, or by `metering serve`.",
        )
    return BillingRegions(home=region, regions=[region])


def book_named(text: str | None) -> BookName | None:
    """Parse a book's name: `aws-list`, `aws-list@3`; without `text`, the default book; None if malformed."""
    found = _BOOK.fullmatch(text or DEFAULT_BOOK)
    if found is None:
        return None
    return BookName(name=found[1], version=int(found[2]) if found[2] else None, named=text is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """Price source and month plans for an answer about costs. Both are valid until `rating` exits."""

    source: CostSource
    plans: Sequence[MonthPlan]

    def costs(self, *, most_rows: int | None = None) -> Costs:
        """Rate the query. Raises as `CostSource.costs` does."""
        return self.source.costs(self.plans, most_rows=most_rows)


def silent() -> AbstractContextManager[months.HoursDone]:
    """Report no progress."""
    return nullcontext(lambda _region, _done, _of: None)


@contextmanager
def rating(
    billing: BillingRegions,
    query: CostQuery,
    *,
    book: BookName,
    now_s: int,
    exact: bool = False,
    progress: Callable[[], AbstractContextManager[months.HoursDone]] = silent,
    most_partitions: int | None = None,
    on_partitions: Callable[[int], None] = lambda _partitions: None,
) -> Iterator[Rating]:
    """Yield the inputs from which an answer about costs is computed.

    Args:
        billing: The regions to rate, and the home region with prices.
        query: The question.
        book: The requested price book.
        now_s: Current time, epoch seconds.
        exact: Whether to recompute a payer's tiers even if the biller stores them.
        progress: Opens a callback that reports progress on the hours of open months.
        most_partitions: Maximum number of partitions of the usage table to read; None for no limit.
        on_partitions: Called with the number of partitions before they are read.

    Raises:
        InvalidParametersError: The payer's accounts have more than `most_partitions` partitions.
        MeteringError: The price book does not exist, or a price, payer or invoice document cannot be read.
        UnavailableError: A region does not respond; the error names the region.
    """
    home, shelf = billing.home, build_shelf(billing.home)
    with StageUsage(billing.regions) as unread:
        finder = CostPlanner(
            query=query, book=book, planner=build_planner(home, unread, shelf), now_s=now_s,
            kept=None if exact else kept_positions(home.objects),
        )  # fmt: skip
        plans = finder.plans(_first_month(billing.regions, query, now_s))
    accounts = finder.accounts(plans)
    partitions = len(accounts) * len(plans)
    _check_partitions(query, partitions, len(accounts), most_partitions)
    if len(accounts) <= months.FEW_ACCOUNTS:
        on_partitions(partitions * len(billing.regions))
    with progress() as on_hour, StageUsage(billing.regions, accounts=accounts, on_hour=on_hour) as usage:
        planner = build_planner(home, usage, shelf)
        yield Rating(source=CostSource(query=query, book=book, planner=planner, now_s=now_s), plans=plans)


def accounts_told_of(billing: BillingRegions, query: CostQuery, *, book: BookName, now_s: int) -> frozenset[str]:
    """Accounts whose usage affects the costs: every account of the requested accounts' payers.

    It reads no usage. Raises as `rating` does.
    """
    home = billing.home
    with StageUsage(billing.regions) as unread:
        planner = build_planner(home, unread, build_shelf(home))
        finder = CostPlanner(query=query, book=book, planner=planner, now_s=now_s)
        return finder.sharing(finder.plans(month_of(query.usage.from_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CostsFound:
    """An answer, and the costs behind it."""

    answer: Answer
    costs: Costs


def costs_of(
    billing: BillingRegions,
    query: CostQuery,
    *,
    book: BookName,
    now_s: int,
    complete: Complete,
    exact: bool = False,
    progress: Callable[[], AbstractContextManager[months.HoursDone]] = silent,
    most_partitions: int | None = None,
    most_rows: int | None = None,
    on_partitions: Callable[[int], None] = lambda _partitions: None,
) -> CostsFound:
    """Answer a query about costs.

    Arguments and errors are the same as in `rating`; `complete` and `most_rows` are the same as in `usage_of`.
    """
    with rating(
        billing,
        query,
        book=book,
        now_s=now_s,
        exact=exact,
        progress=progress,
        most_partitions=most_partitions,
        on_partitions=on_partitions,
    ) as parts:
        costs = parts.costs(most_rows=most_rows)
        answer = cost_answer(
            query, costs, as_of_s=now_s, complete=complete, regions=billing.names, left_out=billing.left_out
        )
    return CostsFound(answer=answer, costs=costs)


def _check_partitions(query: CostQuery, partitions: int, accounts: int, most: int | None) -> None:
    # If there are many accounts, the query reads the lake instead.
    if most is None or partitions <= most or accounts > months.FEW_ACCOUNTS:
        return
    # A caller with access to one account must not learn how many accounts its payer has.
    problem = f"is the beginning of a range in which the payers' accounts are more than {most} partitions of the usage "
    problem += "table, all of which count for tiers."
    advice = "Ask for one month at a time."
    raise InvalidParametersError(
        [ParameterProblem(parameter="from", value=rfc3339(query.usage.from_s), problem=problem, advice=advice)]
    )


def _first_month(regions: Sequence[lake.ReadableRegion], query: CostQuery, now_s: int) -> str:
    asked = query.usage.from_s
    # If rows are gone, no row tells where usage begins.
    if len(list(query.usage.months(now_s=now_s))) <= _FEW_MONTHS or any(region.view.kept(0) for region in regions):
        return month_of(asked)
    known = [first_s for region in regions if (first_s := region.view.first_hour_s()) is not None]
    return month_of(max(asked, min(known, default=now_s)))
