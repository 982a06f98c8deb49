"""`metering reports`: questions that are kept, and asked again each day, week or month."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from metering.cli.billing.costing import is_home
from metering.cli.command import Session, command, say
from metering.cli.commands.analyst.report import CorrectionsOption, FromOption, NowOption, SortOption, ToOption
from metering.cli.commands.finance.cost import CostFilters, GroupByOption, PricesOption, TopOption
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import LastOption, ZoneOption, argument, family, option, switch
from metering.cli.printing import output
from metering.reports.query import UsageParameters
from metering.units import counted

if TYPE_CHECKING:
    from metering.reports.saved import QuestionStore, ReportDocument

reports = family("Reports that come by themselves: a question is kept, and answered each day, week or month.")

_EXAMPLES = """Examples:

    metering reports add accounts --every week --group-by account_id --top 10
    metering reports add internet --every day --to-location internet --group-by from,to
    metering reports add bill --cost --every month --group-by payer,account_id --prices sample
"""
NameArgument = Annotated[str, argument("REPORT", "Name of the report.")]


def _store(session: Session) -> QuestionStore:
    from metering.reports.saved import QuestionStore

    region = session.region()
    return QuestionStore(items=region.items, clock=region.clock)


@command(reports, "add", reads=True, changes=True, epilog=_EXAMPLES)
def add(
    session: Session,
    /,
    name: NameArgument,
    *,
    every: Annotated[
        str,
        option(
            "--every",
            "day|week|month",
            "When it is due: at a midnight in UTC, of each day, Monday or first of a month.",
        ),
    ],
    about_cost: Annotated[bool, switch("--cost", "Ask for costs, as `metering cost` does. Default: usage.")] = False,
    group_by: GroupByOption = None,
    start: FromOption = None,
    end: ToOption = None,
    last: LastOption = None,
    zone: ZoneOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    with_corrections: CorrectionsOption = False,
    now: NowOption = False,
    prices: PricesOption = None,
    **filters: CostFilters,
) -> None:
    """Keep a question, which takes the parameters of `report usage` or, with --cost, of `cost`.

    Without times, each report is about the day, week or month that ended. Words such as yesterday and spans such as 7d
    are read as of the midnight at which the report is due. The biller makes it within the hour, once all usage before
    that midnight is counted, and at the latest six hours later. A page (HTML) and the rows (CSV) are put below
    `reports/` in the region's bucket, each once. Their keys are sent to the topic of tickets.
    A question of the same name is replaced.
    """
    from metering.reports.costs.rows import CostParameters
    from metering.reports.saved import question_of
    from metering.wiring.answers.costs import book_named

    given = {key: texts for key, texts in filters.items() if texts}
    kind = CostParameters if about_cost else UsageParameters
    foreign = [f"--{key}" for key in given if key not in kind.FILTERS] + (["--prices"] if prices else [])
    if foreign and not about_cost:
        raise WrongUsageError(f"{', '.join(foreign)} is about costs, and this report is about usage.", "Add --cost.")
    if prices is not None and book_named(prices) is None:
        raise WrongUsageError(f"--prices {prices} is no price book.", "Write it as aws-list, or aws-list@3.")
    asked = kind(
        start=start, end=end, group_by=group_by, filters=given, with_corrections=with_corrections, last=last,
        zone=zone, sort=sort, top=top, now=now,
    )  # fmt: skip
    region = session.region()
    if about_cost and not is_home(session, region.region):
        raise CommandFailedError(
            f"{region.region} is not the home region, which alone has prices and payers.", "Add it there."
        )
    question = question_of(name, every, asked, prices=prices or "", now_s=int(time.time()))
    with session.deed(
        what="reports add", subject=name, consequence=f"Each {every} it answers: {question.command}"
    ) as done:
        _store(session).set(question)
        done.result = question.command
    _list(session)


@command(reports, "list", reads=True)
def list_(session: Session) -> None:
    """List the saved questions, each with the command that asks the same, and the report that was last made."""
    _list(session)


@command(reports, "show", reads=True)
def show(
    session: Session,
    name: NameArgument,
    date: Annotated[
        str | None, option("--date", "YYYY-MM-DD", "The report that was due on this day. Default: the newest.")
    ] = None,
    html: Annotated[Path | None, option("--html", "FILE", "Write the report's page to this file.")] = None,
    rows: Annotated[Path | None, option("--csv", "FILE", "Write the report's rows to this file.")] = None,
) -> None:
    """List the reports of a question that are kept, the newest first, or write the page or the rows of one to a file.

    Objects below `reports/` are kept for 400 days.
    """
    from metering.reports.saved import documents, documents_answer

    region = session.region()
    found = [each for each in documents(region.objects, name) if date in (None, each.date)]
    if not found:
        _store(session).get(name)
        raise CommandFailedError(
            f"There is no report {name}{f' of {date}' if date else ''} yet.",
            "The biller makes what is due within the hour. To make it now: metering reports make",
        )
    for target, key in ((html, found[0].page), (rows, found[0].rows)):
        if target is not None:
            output.write_whole(target, [region.objects.get(_there(found[0], key))])
            say(f"Wrote {target}: the report of {found[0].date}.")
    if html is None and rows is None:
        session.write(documents_answer(name, found))


def _there(document: ReportDocument, key: str) -> str:
    if not key:
        raise CommandFailedError(f"The report of {document.date} was refused: {document.refused}")
    return key


@command(reports, "make", reads=True)
def make(session: Session) -> None:
    """Make the reports that are due now, and send their messages. The biller does the same within the hour."""
    from metering.cli.commands.analyst.lake import NoDeadline
    from metering.wiring.answers.pages import report_maker

    region = session.region()
    run = report_maker(region, region.alerts, bucket=region.names.data_bucket).run(NoDeadline())
    say(f"{run.made:,} made, {run.refused:,} refused.")
    if run.waiting:
        say(
            f"{counted(run.waiting, 'report waits', 'reports wait')} until all that was sent before its midnight is "
            "counted, at most six hours. What holds the count back: metering status",
            style="yellow",
        )
    _list(session)


@command(reports, "remove", reads=True, changes=True)
def remove(session: Session, name: NameArgument) -> None:
    """Forget a saved question. The reports that were made of it stay until they expire."""
    store = _store(session)
    question = store.get(name)
    with session.deed(
        what="reports remove", subject=name, consequence=f"Nobody gets the answer any more to: {question.command}"
    ) as done:
        store.remove(name)
        done.result = "removed"
    _list(session)


def _list(session: Session) -> None:
    from metering.reports.saved import saved_reports

    region = session.region()
    session.write(saved_reports(region.items, region.clock))
