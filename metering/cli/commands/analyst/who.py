"""`metering who`: whose workloads move the bytes, to where and by which path."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.home import billing_home
from metering.cli.command import Session, command
from metering.cli.commands.analyst.report import FromOption, ToOption
from metering.cli.commands.finance.cost import PricesOption
from metering.cli.failures import WrongUsageError
from metering.cli.fleet import asks_for_all, connections
from metering.cli.options import LastOption, ZoneOption, argument, option, switch
from metering.reports.query import WHO_COLUMNS, WHO_FILTERS
from metering.reports.who import WhoParameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.owners import Owners
    from metering.wiring.answers.who import Prices
    from metering.wiring.connection import RegionConnection

who_app = typer.Typer()

_EXAMPLES = """Examples:

    metering who
    metering who nat-0a1b2c3d4e5f60718 --last 7d
    metering who nat-0a1b2c3d4e5f60718 --group-by owner,workload,destination --top 4
    metering who --owner unowned --group-by workload,resource --from yesterday
    metering who --path nat_gateway --destination S3.us-west-2 --group-by workload --format csv --output s3.csv
    metering who --last 24h --owners owners.toml
    metering who nat-0a1b2c3d4e5f60718 --cost --group-by owner --from last-month

Exit 0, or 1 if the causes have more bytes than the usage: something stored is damaged, and nothing is shown.
"""
WhoFilters = Annotated[list[str] | None, {name: each for name, each in WHO_FILTERS.items() if name != "resource"}]
GroupByOption = Annotated[
    str | None,
    option(
        "--group-by",
        "COLUMNS",
        f"Comma-separated: {', '.join(WHO_COLUMNS)}. Default: owner,workload,destination.",
    ),
]
TopOption = Annotated[
    int | None,
    option("--top", "N", "Only the first N rows of each usage type; its other rows become one. Of resources: 10."),
]
OwnersOption = Annotated[
    str | None,
    option(
        "--owners",
        "N|FILE",
        "Version of the book of owners, or a book to try. Default: the newest; of closed months, the one of then.",
    ),
]
CostOption = Annotated[bool, switch("--cost", "Also show what the bytes cost: their exact share of each line's cost.")]


@command(who_app, "who", reads=True, everywhere=True, epilog=_EXAMPLES)
def who(
    session: Session,
    /,
    resource: Annotated[list[str] | None, argument("RESOURCE…", "Gateways, endpoints or other resources.")] = None,
    *,
    group_by: GroupByOption = None,
    start: FromOption = None,
    end: ToOption = None,
    last: LastOption = None,
    zone: ZoneOption = None,
    top: TopOption = None,
    owners: OwnersOption = None,
    cost: CostOption = False,
    prices: PricesOption = None,
    **filters: WhoFilters,
) -> None:
    """Show whose workloads move the bytes, to where and by which path: exact parts of the usage.

    Without a resource, the resources with the most bytes of each usage type are listed, with the share of the bytes
    that has a name. Bytes of two usage types are never added up, because processing is a second count of other bytes.
    Of each usage type, `unowned` comes first, then what is `unattributed`, with its reason; docs/causes.md has all
    reasons. Costs of parts add up to those of `metering cost`.
    """
    from metering.wiring.answers.usage import measured_completeness
    from metering.wiring.answers.who import closed_owners, who_of

    now_s = int(time.time())
    asked = WhoParameters(
        start=start,
        end=end,
        last=last,
        zone=zone,
        group_by=group_by,
        filters={**filters, "resource": resource},
        top=top,
        cost=cost,
    )
    query = asked.who_query(now_s=now_s)
    if prices is not None and not cost:
        raise WrongUsageError("--prices is about costs.", "Add --cost.")
    book = _book(session, owners)
    closed = {} if owners else closed_owners(billing_home(session), query.usage, now_s=now_s)
    regions = connections(session)
    session.write(
        who_of(
            regions, query, owners=book, closed=closed, now_s=now_s, complete=measured_completeness(regions),
            everywhere=asks_for_all(session),
            prices=_prices(session, regions, prices, now_s) if cost else None,
        )
    )  # fmt: skip


def _prices(session: Session, regions: Sequence[RegionConnection], prices: str | None, now_s: int) -> Prices:
    from metering.cli.billing.costing import prices_here

    return prices_here(session, [region.region for region in regions], prices=prices, now_s=now_s)


def _book(session: Session, named: str | None) -> Owners:
    """The book of a version or a file; by default the newest version."""
    from metering.cli.billing.home import owners_file
    from metering.wiring.answers.who import owners_of

    if named is not None and not named.isdecimal():
        return owners_file(Path(named))
    return owners_of(billing_home(session), None if named is None else int(named))
