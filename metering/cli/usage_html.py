"""`metering report usage --html`: the report as a page to mail."""

from __future__ import annotations

import shlex
from datetime import UTC
from typing import TYPE_CHECKING

from metering.audit.held_back import merged
from metering.cli.all_regions import connections
from metering.cli.command import say
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import write_whole
from metering.hours import rfc3339
from metering.reports.page.figures import figures_of, page_query
from metering.reports.page.usage_page import MOST_ACCOUNTS, TOP_ACCOUNTS, UsagePage
from metering.reports.source import naming, report_entries, report_periods
from metering.reports.usage_rows import NotRolledUp, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from metering.audit.held_back import Complete
    from metering.cli.command import Session
    from metering.ledger.notes.reconciliation import Reconciliation
    from metering.reports.query import UsageQuery
    from metering.wiring.connection import RegionConnection

_KB = 1_000


def check_page(session: Session, *, others: Mapping[str, object], top: int | None) -> None:
    """Refuse options that a page has no use for.

    Raises:
        WrongUsageError: One of them was given.
    """
    given = {**others, "format": session.form, "output": session.output}
    useless = [f"--{name}" for name, value in given.items() if value]
    if useless:
        raise WrongUsageError(
            f"--html writes a page with tables of its own, and does not take {', '.join(useless)}.",
            "Leave --html out, or the others. --top says how many accounts the page lists.",
        )
    if top is not None and top > MOST_ACCOUNTS:
        raise WrongUsageError(f"--html lists {MOST_ACCOUNTS} accounts at most.", "The others are one exact sum.")


def write_page(session: Session, query: UsageQuery, target: Path, *, now_s: int) -> None:
    """Write the page of a query to a file; it is complete, or as it was before."""
    from metering.wiring.reports import build_freshness, report_source

    regions = connections(session)
    complete: dict[str, Complete] = {}
    reconciled: dict[str, Reconciliation | None] = {}
    for region in regions:
        with naming(region.region):
            complete[region.region] = build_freshness(region).answer()
            reconciled[region.region] = _reconciliation(region)
    sources, asked = [report_source(region) for region in regions], page_query(query, now_s=now_s)
    lacks = NotRolledUp(asked, Seen(asked))
    page = UsagePage(
        stage=session.stage,
        query=query,
        figures=figures_of(report_entries(sources, asked, now_s=now_s, lacks=lacks), asked, now_s=now_s),
        lacks=lacks,
        as_of_s=now_s,
        complete=merged(complete),
        by_region=complete,
        reconciled=reconciled,
        periods=report_periods(sources, query, now_s=now_s),
        command=_command(session, query),
        accounts=query.top or TOP_ACCOUNTS,
    ).html().encode()  # fmt: skip
    write_whole(target, [page])
    say(f"Wrote {target}: a page of {-(-len(page) // _KB)} kB that needs no other file.")


def _reconciliation(region: RegionConnection) -> Reconciliation | None:
    from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
    from metering.stores.writes import Table

    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    return None if item is None else Reconciliation.from_item(item)


def _command(session: Session, query: UsageQuery) -> str:
    """The command that shows the total of the page again."""
    words = ["metering", "report", "usage", "--region", session.region_name, "--stage", session.stage]
    words += ["--from", rfc3339(query.from_s), "--to", rfc3339(query.to_s)]
    filters = {f"--{name.replace('_', '-')}": values for name, values in query.filters().items()}
    for option, values in filters.items():
        words += [word for value in sorted(values) for word in (option, value)]
    words += ["--tz", str(query.zone)] if query.zone is not UTC else []
    words += ["--with-corrections"] if query.with_corrections else []
    words += ["--now"] if query.now else []
    return shlex.join(words)
