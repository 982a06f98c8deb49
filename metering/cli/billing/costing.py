"""What commands on costs share: usage of all regions, prices, and a bar on stderr while open months are read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.cli.billing.home import billing_home, readable_regions
from metering.cli.command import progress
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.places import ALL_REGIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from metering.billing.usage.ports import HoursDone
    from metering.cli.command import Session
    from metering.reports.costs.explanation import Explanation
    from metering.reports.costs.query import CostQuery
    from metering.reports.costs.source import BookName
    from metering.wiring.answers.costs import BillingRegions, CostsFound
    from metering.wiring.connection import RegionConnection

_TOO_LITTLE = "Nothing is shown, because it would be too little: tiers count over all regions. Run it again later."


def costs_here(session: Session, query: CostQuery, *, prices: str | None, exact: bool, now_s: int) -> CostsFound:
    """The answer to a question about costs.

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
    from metering.wiring.answers.completeness import measured_completeness
    from metering.wiring.answers.costs import costs_of

    book = book_of(prices)
    home = billing_home(session)
    regions = all_answering(session, home, query)
    complete = measured_completeness(regions)
    return costs_of(
        _billing(session, home, regions), query, book=book, now_s=now_s, complete=complete, exact=exact, progress=_bar
    )


def _billing(session: Session, home: RegionConnection, regions: Sequence[RegionConnection]) -> BillingRegions:
    from metering.wiring.answers.costs import BillingRegions

    return BillingRegions(home=home, regions=regions, left_out=session.regions.left_out)


def explanation_of(session: Session, asked: Mapping[str, str], *, prices: str | None, now_s: int) -> Explanation:
    """Explain the cost of an account's usage of a type in an hour.

    Args:
        session: Names the place.
        asked: `account`, `hour`, `usage_type` and `service`, as they were typed.
        prices: `--prices`.
        now_s: The time now.

    Raises:
        InvalidParametersError: Something that was typed makes no sense.
        CommandFailedError: As `costs_here` does.
    """
    from metering.reports.costs.explanation import Inquiry, explained
    from metering.reports.costs.query import CostParameters
    from metering.wiring.answers.costs import rating

    parameters = CostParameters(
        start=asked["hour"], end="", accounts=[asked["account"]], usage_types=[asked["usage_type"]],
        services=[asked["service"]] if asked["service"] else [],
    )  # fmt: skip
    query = parameters.hour_query(now_s=now_s)
    book = book_of(prices)
    home = billing_home(session)
    billing = _billing(session, home, all_answering(session, home, query))
    with rating(billing, query, book=book, now_s=now_s, exact=True, progress=_bar) as parts:
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


def book_of(prices: str | None) -> BookName:
    """The price book of `--prices`: `aws-list`, `aws-list@3`.

    Raises:
        WrongUsageError: It is neither.
    """
    from metering.wiring.answers.costs import book_named

    found = book_named(prices)
    if found is None:
        raise WrongUsageError(
            f"--prices {prices} is no price book.", "Write it as aws-list, or with a version: aws-list@3"
        )
    return found


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
