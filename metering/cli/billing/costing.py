"""What commands on costs share: usage of all regions, prices, and a bar on stderr while open months are read."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.audit.held_back import merged
from metering.cli.all_regions import left_out
from metering.cli.billing.books import DEFAULT_BOOK
from metering.cli.billing.stage_usage import readable_regions
from metering.cli.command import progress
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.places import ALL_REGIONS
from metering.hours import month_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from metering.audit.held_back import Complete
    from metering.billing.usage.ports import HoursDone
    from metering.cli.command import Session
    from metering.reports.costs.explanation import Explanation
    from metering.reports.costs.query import CostQuery
    from metering.reports.costs.source import Costs, CostSource, MonthPlan
    from metering.wiring.connection import RegionConnection

_BOOK = re.compile(r"([^@]+)(?:@([1-9][0-9]{0,8}))?")
# Of more months than these, it pays to look up the first that has rows.
_FEW_MONTHS = 12
_TOO_LITTLE = "Nothing is shown, because it would be too little: tiers count over all regions. Run it again later."


@dataclass(frozen=True, kw_only=True)
class Costing:
    """Parts of an answer about costs.

    Attributes:
        regions: Names of the regions that are rated together.
        complete: Up to when their counts are complete.
        left_out: Parts of the service that regions run without.
    """

    source: CostSource
    plans: Sequence[MonthPlan]
    regions: Sequence[str]
    complete: Complete
    left_out: Mapping[str, Sequence[str]]

    def costs(self) -> Costs:
        """Rate what is asked for."""
        return self.source.costs(self.plans)


@contextmanager
def costing(session: Session, query: CostQuery, *, prices: str | None, exact: bool, now_s: int) -> Iterator[Costing]:
    """The parts of an answer.

    Args:
        session: Names the place.
        query: The question.
        prices: `--prices`.
        exact: `--exact`.
        now_s: The time now.

    Raises:
        CommandFailedError: A region gives no answer, or holds no data; or there is no such price book.
        WrongUsageError: `prices` is no name of a book.
    """
    from metering.cli.billing.home import billing_home
    from metering.reports.costs.source import BookName, CostPlanner, CostSource
    from metering.wiring.billing.costs import build_planner, build_shelf, kept_positions
    from metering.wiring.billing.usage import StageUsage

    name, version = book_of(prices or DEFAULT_BOOK)
    home = billing_home(session)
    book, shelf = BookName(name=name, version=version, named=prices is not None), build_shelf(home)
    regions = all_answering(session, home, query)
    names = [region.region for region in regions]
    complete = _complete(regions)
    with StageUsage(regions) as unread:
        finder = CostPlanner(
            query=query, book=book, planner=build_planner(home, unread, shelf), now_s=now_s,
            kept=None if exact else kept_positions(home.objects),
        )  # fmt: skip
        plans = finder.plans(_first_month(regions, query, now_s))
    with _bar() as on_hour, StageUsage(regions, accounts=finder.accounts(plans), on_hour=on_hour) as usage:
        source = CostSource(query=query, book=book, planner=build_planner(home, usage, shelf), now_s=now_s)
        yield Costing(source=source, plans=plans, regions=names, complete=complete, left_out=left_out(session))


def explanation_of(session: Session, asked: Mapping[str, str], *, prices: str | None, now_s: int) -> Explanation:
    """Explain the cost of an account's usage of a type in an hour.

    Args:
        session: Names the place.
        asked: `account`, `hour`, `usage_type` and `service`, as they were typed.
        prices: `--prices`.
        now_s: The time now.

    Raises:
        InvalidParametersError: Something that was typed makes no sense.
        CommandFailedError: As `costing` does.
    """
    from metering.reports.costs.explanation import Inquiry, explained
    from metering.reports.costs.query import CostParameters

    parameters = CostParameters(
        start=asked["hour"], end="", accounts=[asked["account"]], usage_types=[asked["usage_type"]],
        services=[asked["service"]] if asked["service"] else [],
    )  # fmt: skip
    query = parameters.hour_query(now_s=now_s)
    with costing(session, query, prices=prices, exact=True, now_s=now_s) as parts:
        [plan] = parts.plans
        inquiry = Inquiry(
            account_id=asked["account"], hour_s=query.usage.from_s, usage_type=asked["usage_type"],
            service=asked["service"],
        )  # fmt: skip
        payer_id = plan.loaded.organization.payer_of(inquiry.account_id, inquiry.hour_s)
        usage = parts.source.planner.composer.booked_in(plan.month, plan.rates).of(payer_id)
        return explained(inquiry, plan, usage)


def one_region(session: Session) -> str | None:
    """The one region that `--region` names; None if it names none, or all."""
    return None if session.named_region == ALL_REGIONS else session.named_region


def book_of(text: str) -> tuple[str, int | None]:
    """Name and version of a price book: `aws-list`, `aws-list@3`.

    Raises:
        WrongUsageError: It is neither.
    """
    found = _BOOK.fullmatch(text)
    if found is None:
        raise WrongUsageError(
            f"--prices {text} is no price book.", "Write it as aws-list, or with a version: aws-list@3"
        )
    return found[1], int(found[2]) if found[2] else None


def all_answering(session: Session, home: RegionConnection, query: CostQuery) -> list[RegionConnection]:
    """Every region that holds data of the stage.

    Raises:
        CommandFailedError: One of them gives no answer, or the one that is asked for holds none.
    """
    regions, silent = readable_regions(session, home)
    if silent:
        told = "; ".join(f"region {region} cannot be read ({why})" for region, why in sorted(silent.items()))
        raise CommandFailedError(f"Costs are not known: {told}.", _TOO_LITTLE)
    known = {region.region for region in regions}
    unknown = sorted(query.regions - known)
    if unknown:
        raise CommandFailedError(
            f"Region {unknown[0]} holds no data of stage {session.stage}.",
            f"Those that do: {', '.join(sorted(known))}.",
        )
    return regions


def _complete(regions: Sequence[RegionConnection]) -> Complete:
    from metering.reports.source import naming
    from metering.wiring.reports import build_freshness

    known: dict[str, Complete] = {}
    for region in regions:
        with naming(region.region):
            known[region.region] = build_freshness(region).answer()
    return merged(known)


def _first_month(regions: Sequence[RegionConnection], query: CostQuery, now_s: int) -> str:
    """The first month that can have usage."""
    asked = query.usage.from_s
    if len(list(query.usage.months(now_s=now_s))) <= _FEW_MONTHS:
        return month_of(asked)
    known = [first_s for region in regions if (first_s := region.view.first_hour_s()) is not None]
    return month_of(max(asked, min(known, default=now_s)))


@contextmanager
def _bar() -> Iterator[HoursDone]:
    """A bar on stderr, from the first hour that is read."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    with progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def on_hour(region: str, done: int, of: int) -> None:
            if region not in tasks:
                tasks[region] = bar.add_task(f"hours of {region}", total=of)
            bar.update(tasks[region], completed=done)

        yield on_hour
