"""`metering invoice` and `export`: drafts, invoices, credit notes, and charges in formats that other tools read."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from metering.cli.billing.home import billing_home, checked_month, home_ground, readable_regions
from metering.cli.command import Session, command, progress, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, family, option, switch
from metering.cli.printing.output import write_page
from metering.reports.answer import ListedRows, prose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.issuing import Issued, Issuer, IssueRefusedError
    from metering.reports.exports.allocation import PartSource
    from metering.reports.exports.destination import Destination
    from metering.reports.exports.grains import Grain
    from metering.wiring.connection import RegionConnection

T = TypeVar("T")

_ACCOUNT = re.compile(r"[0-9]{12}")
_S3 = "s3://"
_SHOWN = 3


class Invoicing:
    """The issuer of invoices, which shows a progress bar on stderr. Mutable.

    Attributes:
        issuer: Available only inside the `with` block of `invoicing`.
        buckets: Data buckets of all regions of the stage.
    """

    issuer: Issuer
    buckets: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._hours: TaskID | None = None

    @contextmanager
    def counted(self, what: str, documents: Iterable[T]) -> Iterator[Iterator[T]]:
        """The documents; a progress bar counts each document when it is made."""
        with _count(what) as (bar, task):
            self._bar, self._hours = bar, bar.add_task("", total=None, visible=False)
            try:
                yield _each(documents, lambda: bar.advance(task))
            finally:
                self._bar = None

    def on_hour(self, region: str, done: int, of: int) -> None:
        """Show how many hours of a region's open month have been read."""
        if self._bar is not None and self._hours is not None:
            what = f"of {of:,} hours of {region} read"
            self._bar.update(self._hours, description=what, completed=done, visible=done < of)


def _each(documents: Iterable[T], tell: Callable[[], None]) -> Iterator[T]:
    for each in documents:
        tell()
        yield each


@contextmanager
def _count(what: str) -> Iterator[tuple[Progress, TaskID]]:
    from rich.progress import TextColumn, TimeElapsedColumn

    with progress(TextColumn("{task.completed:,.0f} {task.description}"), TimeElapsedColumn()) as bar:
        yield bar, bar.add_task(what, total=None)


@contextmanager
def counted(what: str) -> Iterator[Callable[[int], None]]:
    """Show a counter on stderr; yields a function that increases the counter."""
    with _count(what) as (bar, task):
        yield lambda more: bar.advance(task, more)


class UntilRefused:
    """Documents that were issued before the remaining documents were refused. Mutable.

    Attributes:
        refused: Why the remaining documents were refused; None if no document was refused.
    """

    def __init__(self, issued: Iterable[Issued]) -> None:
        self.refused: IssueRefusedError | None = None
        self._issued = issued

    def __iter__(self) -> Iterator[Issued]:
        from metering.billing.invoices.issuing import IssueRefusedError

        try:
            yield from self._issued
        except IssueRefusedError as error:
            self.refused = error


@contextmanager
def invoicing(session: Session, home: RegionConnection | None = None) -> Iterator[Invoicing]:
    """Open the issuer of invoices for all regions of the stage; `left_out` names the regions that cannot be read.

    Raises:
        CommandFailedError: The home region does not respond, or the stage is not deployed there.
    """
    from metering.wiring.billing import StageUsage, build_issuer

    at_home = home or billing_home(session)
    regions, left_out = readable_regions(session, at_home)
    parts = Invoicing()
    parts.buckets = frozenset(region.names.data_bucket for region in (at_home, *regions))
    with StageUsage(regions, left_out=left_out, on_hour=parts.on_hour) as usage:
        parts.issuer = build_issuer(at_home, usage)
        yield parts


def checked_payer(text: str | None) -> str:
    """Account id of one payer, or an empty string for all payers.

    Raises:
        WrongUsageError: It is something else.
    """
    if text is not None and _ACCOUNT.fullmatch(text) is None:
        raise WrongUsageError(f"{text} is no account.", "A payer is an account id of 12 digits.")
    return text or ""


def state_of(issuer: Issuer, invoice: Invoice) -> str:
    """`issued`, or the steps that are still required before the document counts."""
    return "issued" if issuer.is_issued(invoice) else "unfinished: run issue or credit again"


def draft_state(invoice: Invoice) -> str:
    """Reasons why a draft cannot be issued."""
    found = [*(["unpriced"] if invoice.unpriced else []), *(["not closed"] if invoice.left_out else [])]
    return f"draft: {', '.join(found)}" if found else "draft"


def not_final(issuer: Issuer, month: str) -> list[str]:
    """Regions that are missing from a month's drafts, or that have not closed the month."""
    usage = issuer.composer.usage
    closed = issuer.planner.closed(month)
    missing = [f"Left out, because it cannot be read: {region} ({why})." for region, why in usage.left_out.items()]
    still = sorted(set(usage.regions) - closed.keys() - usage.left_out.keys())
    return [*missing, *([f"Not closed yet in {', '.join(still)}: figures are as of now."] if still else [])]


def run_export(
    session: Session,
    *,
    kind: Literal["focus", "cur"],
    version: str,
    month: str,
    output: str,
    payer: str | None,
    grain: str,
    form: str,
    prices: str | None,
    strict: bool,
    resources: bool = False,
    causes: bool = False,
) -> None:
    """Export a month, and print what the export wrote.

    Raises:
        WrongUsageError: An option is invalid.
        CommandFailedError: There is nothing to export, or (with `strict`) some usage has no price.
        OperationFailedError: The target contains other files, or the export has errors.
    """
    from metering.hours import hour_of
    from metering.reports.exports.exporting import documents_of, export, export_answer, export_notes, source_of
    from metering.reports.exports.grains import GRAINS
    from metering.reports.exports.manifest import ExportRequest

    payer_id, now_s = checked_payer(payer), int(time.time())
    request = ExportRequest(
        kind=kind,
        version=version,
        month=checked_month(month),
        grain=_one_of(grain, GRAINS, "is no grain.", f"It is one of {', '.join(GRAINS)}."),
        form=_one_of(form, _FORMS, "is no format of exports.", "It is parquet, or csv (with gzip)."),
        payer_id=payer_id,
        resources=resources,
        as_of_s=hour_of(now_s),
    )
    _check_place(output)
    with invoicing(session) as parts:
        _refuse_own_bucket(output, parts.buckets)
        found = documents_of(parts.issuer, month, payer_id=payer_id, book=prices or "")
        with parts.counted("documents read", found) as each:
            documents = sorted(each, key=lambda document: document.id)
        _check_documents(documents, month, payer_id, strict=strict)
        regions = _regions_of(session) if resources else []
        parts_of = None
        if causes:
            parts_of, version_of_owners = _causes_of(session, regions, request.grain, parts.issuer, documents)
            request = replace(request, owners=version_of_owners)
        destination = _destination_of(output, session)
        with counted("lines written") as written:
            source = source_of(parts.issuer, documents, [region.view for region in regions], parts_of)
            exported = export(request, source, destination, progress=written)
    session.write(export_answer(exported, destination.name))
    if not exported.written:
        say(f"{destination.name} holds this export already, and all its files are as they were written.", "green")
    for note in export_notes(exported):
        say(note, "yellow")


_FORMS: tuple[Literal["parquet", "csv"], ...] = ("parquet", "csv")


def _one_of(text: str, known: Sequence[T], problem: str, advice: str) -> T:
    for each in known:
        if text == each:
            return each
    raise WrongUsageError(f"{text} {problem}", advice)


def _regions_of(session: Session) -> list[RegionConnection]:
    regions, left_out = readable_regions(session, billing_home(session))
    for region, why in left_out.items():
        raise CommandFailedError(f"Region {region} gives no answer ({why}).", "Its resources would be missing.")
    return regions


def _causes_of(
    session: Session, regions: Sequence[RegionConnection], grain: Grain, issuer: Issuer, documents: Sequence[Invoice]
) -> tuple[PartSource, int]:
    """Causes of the documents' accounts in all regions, and the version of the book of owners."""
    from metering.reports.exports.allocation import CauseParts
    from metering.wiring.answers.who import cause_source, owners_of, pin_of

    home = billing_home(session)
    pin = pin_of(home, documents[0].month)
    owners = owners_of(home, None if pin is None else pin.owners)
    accounts = frozenset[str]()
    for each in documents:
        organization = issuer.composer.shelf.load(each.inputs.rates[each.month]).organization
        accounts |= organization.accounts_of(each.payer_id)
    sources = {region.region: cause_source(region, [documents[0].month]) for region in regions}
    return CauseParts(sources=sources, owners=owners, accounts=accounts, grain=grain), owners.version


def _check_documents(documents: list[Invoice], month: str, payer_id: str, *, strict: bool) -> None:
    """Refuse an export that has no documents or (with `strict`) omits usage without a price."""
    if not documents:
        whom = f"Payer {payer_id} has no charge" if payer_id else "Nobody has a charge"
        raise CommandFailedError(f"{whom} in {month}.", "Look at the usage: metering report usage")
    unpriced = sorted({each.usage_type for document in documents for each in document.unpriced})
    if strict and unpriced:
        some = ", ".join(unpriced[:_SHOWN]) + (f" and {len(unpriced) - _SHOWN} more" if len(unpriced) > _SHOWN else "")
        raise CommandFailedError(
            f"Usage of {month} has no price: {some}; nothing was written.",
            f"See all of it: metering prices check --month {month}",
        )


def _check_place(text: str) -> None:
    if text.startswith(_S3) and not text.removeprefix(_S3).partition("/")[0]:
        raise WrongUsageError(f"{text} names no bucket.", "Write it as s3://bucket/prefix.")
    if not text.startswith(_S3) and Path(text).is_file():
        raise WrongUsageError(f"{text} is no folder.", "Name an empty or new folder.")


def _refuse_own_bucket(text: str, own: frozenset[str]) -> None:
    """Refuse a bucket of the service, because query engines and jobs treat every object in it as the service's own."""
    bucket = text.removeprefix(_S3).partition("/")[0]
    if text.startswith(_S3) and bucket in own:
        raise WrongUsageError(
            f"{text} is in the data bucket of the service, where only the service writes; nothing was written.",
            "Name a bucket of your own.",
        )


def _destination_of(text: str, session: Session) -> Destination:
    """Target of an export, as the user typed it; a missing folder is created."""
    from metering.wiring.billing import bucket_destination, folder_destination

    if text.startswith(_S3):
        bucket, _, prefix = text.removeprefix(_S3).partition("/")
        return bucket_destination(bucket, prefix, os.environ, region=session.region_name, endpoint=session.endpoint)
    try:
        return folder_destination(Path(text))
    except OSError as error:
        raise CommandFailedError(f"{text} cannot be made: {error.strerror}.", "Name an empty or new folder.") from error


invoice = family("Invoices of data transfer: drafts, issued invoices, credit notes, and their verification.")

MonthOption = Annotated[str, option("--month", "YYYY-MM", "Month of the usage, such as 2026-11.")]
AnyMonthOption = Annotated[str | None, option("--month", "YYYY-MM", "Only documents about usage of this month.")]
PayerOption = Annotated[str | None, option("--payer", "ACCOUNT", "Only this payer, 12 digits. Default: all payers.")]
BookOption = Annotated[
    str | None,
    option(
        "--prices",
        "BOOK",
        "Price book: one that was imported, or `sample`, a few real prices for trials. Default: the price "
        "book of the month's invoices, or aws-list if there are none.",
    ),
]
DraftedOption = Annotated[
    str | None,
    option(
        "--as-drafted",
        "DIGEST",
        "Issue only if the inputs have this digest, which a draft prints; needs --payer.",
    ),
]
IdArgument = Annotated[str, argument("INVOICE", "Id, such as 123456789012-2026-11-1.")]
BecauseOption = Annotated[str, option("--because", "TEXT", "Reason, which is printed on the credit note.")]

_ISSUE_EXAMPLES = """Examples:

    metering invoice draft --month 2026-11
    metering invoice issue --month 2026-11
    metering invoice issue --month 2026-11 --payer 123456789012
"""
_FOUND = {True: "issued", False: "issued before"}


@command(
    invoice,
    "draft",
    reads=True,
    everywhere=True,
    epilog="Examples:\n\n    metering invoice draft --month 2026-11 --payer 123456789012 --prices sample",
)
def invoice_draft(session: Session, month: MonthOption, payer: PayerOption = None, prices: BookOption = None) -> None:
    """Show what the invoices of a month would be if they were issued now. Nothing is written.

    A draft names regions that are missing or have not closed the month, and usage without a price. It is never final.
    With --payer, the answer has that payer's lines; otherwise it has one row per payer.
    """
    from metering.billing.invoices.issuing import Asked
    from metering.reports.invoices import documents_answer, invoice_answer

    asked = Asked(month=checked_month(month), payer_id=checked_payer(payer), book=prices or "")
    with invoicing(session) as parts, parts.counted("drafts made", parts.issuer.drafts(asked)) as drafts:
        if asked.payer_id:
            draft = next(drafts)
            answer = invoice_answer(draft)
            if not any((draft.lines, draft.corrections, draft.unrated, draft.unpriced)):
                known = f"To see who pays in this month: metering cost --month {month} --group-by payer"
                say(f"No usage of payer {asked.payer_id} is metered in {month}. {known}", "yellow")
            if parts.issuer.store.find(month, asked.payer_id) is not None:
                say(f"It is issued already, and that stands: metering invoice show {draft.id}", "yellow")
        else:
            more = not_final(parts.issuer, month)
            title = f"Drafts of {month}, not final"
            answer = documents_answer(((each, draft_state(each)) for each in drafts), title=title, more=more)
    session.write(answer)


@command(invoice, "issue", reads=True, changes=True, everywhere=True, epilog=_ISSUE_EXAMPLES)
def invoice_issue(
    session: Session,
    month: MonthOption,
    payer: PayerOption = None,
    prices: BookOption = None,
    as_drafted: DraftedOption = None,
) -> None:
    """Issue the invoices of a month for good, once every region has closed it. If a run stops, the next run resumes it.

    Issuing is refused while a region is open or cannot be read, so that no usage is silently omitted. If a payer's
    usage has no price, the command names the payer and issues no invoice for it (exit code 1); all other payers get
    invoices. After the price is imported, the same command issues the missing invoices. All invoices of a month use the
    prices, overrides and payers that were in force when the first of them was issued. Mistakes found later are
    corrected by credit notes, and late usage is billed on a later invoice.
    """
    from metering.billing.invoices.issuing import Asked
    from metering.reports.invoices import documents_answer

    payer_id = checked_payer(payer)
    asked = Asked(month=checked_month(month), payer_id=payer_id, book=prices or "", drafted=as_drafted or "")
    if asked.drafted and not asked.payer_id:
        raise WrongUsageError("--as-drafted is about one payer.", "Name it with --payer.")
    home = billing_home(session)
    consequence = f"Invoices of {month} stand for good; what is wrong later becomes a credit note."
    with (
        invoicing(session, home) as parts,
        session.deed(
            what="invoice issue",
            subject=f"{month} {asked.payer_id}".rstrip(),
            consequence=consequence,
            typed=month,
            ground=home_ground(session, home),
        ) as done,
    ):
        issuing = UntilRefused(parts.issuer.issue(asked))
        with parts.counted("invoices issued", issuing) as found:
            states = ((each.invoice, _FOUND[each.new]) for each in found)
            answer = documents_answer(states, title=f"Invoices of {month}")
        new = sum(row["state"] == _FOUND[True] for row in answer.rows)
        if issuing.refused is not None and not answer.rows:
            raise issuing.refused
        done.result = f"{new} issued, {len(answer.rows) - new} issued before"
        if issuing.refused is not None:
            done.result += f", refused: {issuing.refused.what}"
    session.write(answer)
    if issuing.refused is not None:
        raise issuing.refused
    if not answer.rows:
        whom = f"Payer {asked.payer_id}" if asked.payer_id else "Nobody"
        say(f"{whom} used nothing in {month} that an invoice would be about.", "yellow")


@command(
    invoice,
    "show",
    page=True,
    everywhere=True,
    epilog="Examples:\n\n    metering invoice show 123456789012-2026-11-1 --format html --output invoice.html",
)
def invoice_show(session: Session, invoice_id: IdArgument) -> None:
    """Show the lines of an invoice or credit note, in JSON the document. `--format html` writes a page for printing."""
    from metering.reports.invoices import InvoicePage, invoice_answer

    with invoicing(session) as parts:
        stored = parts.issuer.store.stored(invoice_id)
        state = state_of(parts.issuer, stored.invoice)
    if session.page:
        write_page(InvoicePage(invoice=stored.invoice, state=state, sha256=stored.sha256).html(), session.output)
    else:
        session.write(invoice_answer(stored.invoice))
    if state != "issued":
        say(f"It is not issued yet: {state}.", "yellow")


@command(invoice, "verify", reads=True, everywhere=True)
def invoice_verify(session: Session, invoice_id: IdArgument) -> None:
    """Recreate an invoice or credit note from its inputs and compare every byte; exit 0 only if all bytes are equal.

    Each input is checked first: closed months with all their objects, prices, overrides, payers, and (for a credit
    note) the documents that precede it. What changed is named.
    """
    from metering.wiring.billing import build_verification

    with invoicing(session) as parts:
        problems = build_verification(parts.issuer).verify(invoice_id)
    session.write(ListedRows(prose("problem")).answer([(each,) for each in problems], empty="No problem."))
    if problems:
        raise typer.Exit(1)
    say(f"{invoice_id} is what its inputs make, to the last byte.", style="green")


@command(
    invoice,
    "credit",
    reads=True,
    changes=True,
    everywhere=True,
    epilog="Examples:\n\n    metering invoice credit 123456789012-2026-11-1 --because 'A price was wrong.'",
)
def invoice_credit(session: Session, invoice_id: IdArgument, because: BecauseOption, prices: BookOption = None) -> None:
    """Rate an invoice again at present prices and payers, and permanently issue the difference as a credit note.

    The difference from the invoice and its earlier credit notes is computed line by line, and can be negative or
    positive. The invoice itself does not change. If there is no difference, for example after a first credit note, the
    command is refused.
    """
    from metering.billing.invoices.credits import Crediting
    from metering.reports.invoices import invoice_answer

    home = billing_home(session)
    with (
        invoicing(session, home) as parts,
        session.deed(
            what="invoice credit",
            subject=invoice_id,
            consequence=f"A credit note to {invoice_id} stands for good.",
            typed=invoice_id,
            ground=home_ground(session, home),
        ) as done,
    ):
        issued = Crediting(issuer=parts.issuer).credit(invoice_id, because, book=prices or "")
        done.result = f"{issued.invoice.id} issued"
    session.write(invoice_answer(issued.invoice))


@command(invoice, "list", reads=True, everywhere=True, epilog="Examples:\n\n    metering invoice list --month 2026-11")
def invoice_list(session: Session, month: AnyMonthOption = None, payer: PayerOption = None) -> None:
    """List invoices and credit notes with totals and state, by month of use, payer and number."""
    from metering.reports.invoices import documents_answer

    named, payer_id = checked_month(month) if month else "", checked_payer(payer)
    with invoicing(session) as parts:
        issuer = parts.issuer
        months: Iterable[str] = [named] if named else issuer.store.months()
        documents = (each for one in months for each in issuer.store.list(one, payer_id))
        with parts.counted("documents read", documents) as found:
            states = ((each, state_of(issuer, each)) for each in found)
            answer = documents_answer(states, title=f"Invoices of {named}" if named else "Invoices")
    session.write(answer)


export = family("A month's charges as files for billing tools, in the formats FOCUS and AWS CUR 2.0.")

ExportMonthOption = Annotated[
    str, option("--month", "YYYY-MM", "Month in which the charges are booked, such as 2026-11.")
]
PlaceOption = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="PLACE", help="An empty or new folder, or s3://bucket/prefix without objects."
    ),
]
GrainOption = Annotated[
    str, option("--grain", "hour|day|month", "Period of a line: there is one line per key, price and period.")
]
FilesOption = Annotated[str, option("--files", "parquet|csv", "Format of the files; CSV is compressed with gzip.")]
ExportBookOption = Annotated[
    str | None,
    option(
        "--prices",
        "BOOK",
        "Price book of drafts. Default: the price book of the invoices, or aws-list if there are none.",
    ),
]
DetailOption = Annotated[
    str | None,
    option(
        "--detail",
        "resource_id|causes",
        "Split lines by resource, which reads the lake, or also by the causes of its bytes (1.4); needs --payer.",
    ),
]
StrictOption = Annotated[bool, switch("--strict", "Fail and write nothing if any usage has no price.")]
VersionOption = Annotated[str, option("--version", "1.2|1.4", "Version of FOCUS.")]
_FOCUS_EXAMPLES = """Examples:

    metering export focus --month 2026-11 --output november/
    metering export focus --version 1.2 --month 2026-11 --grain day --files csv --output s3://acme-bills/focus/2026-11
"""


@command(export, "focus", everywhere=True, epilog=_FOCUS_EXAMPLES)
def focus(
    session: Session,
    month: ExportMonthOption,
    output: PlaceOption,
    version: VersionOption = "1.4",
    payer: PayerOption = None,
    grain: GrainOption = "hour",
    files: FilesOption = "parquet",
    detail: DetailOption = None,
    prices: ExportBookOption = None,
    strict: StrictOption = False,
) -> None:
    """Export the charges booked in a month as FOCUS (CostAndUsage, and with 1.4 also InvoiceDetail and BillingPeriod).

    Each line is checked when it is written, and all lines together must add up exactly to the invoices. If a check
    fails, no manifest.json is written; files without a manifest are not an export. Repeating an export has no further
    effect. If a month has no issued invoices, the export is marked as a draft, with the ids that the month's invoices
    will have.
    """
    if version not in {"1.2", "1.4"}:
        raise WrongUsageError(f"There is no export of FOCUS {version}.", "It is one of 1.2, 1.4.")
    if detail not in {None, "resource_id", "causes"}:
        raise WrongUsageError(f"There is no detail {detail}.", "It is resource_id or causes.")
    if detail == "causes" and version != "1.4":
        raise WrongUsageError(f"FOCUS {version} has no columns for causes.", "Version 1.4 has them.")
    if detail and not payer:
        raise WrongUsageError("--detail reads the rows of one payer's accounts.", "Name it with --payer.")
    run_export(
        session, kind="focus", version=version, month=month, output=output, payer=payer, grain=grain, form=files,
        prices=prices, strict=strict, resources=detail is not None, causes=detail == "causes",
    )  # fmt: skip


@command(
    export,
    "cur",
    everywhere=True,
    epilog="Examples:\n\n    metering export cur --month 2026-11 --files csv --output november-cur/",
)
def cur(
    session: Session,
    month: ExportMonthOption,
    output: PlaceOption,
    payer: PayerOption = None,
    grain: GrainOption = "hour",
    files: FilesOption = "parquet",
    prices: ExportBookOption = None,
    strict: StrictOption = False,
) -> None:
    """Export the charges booked in a month as AWS CUR 2.0: its 113 columns, in AWS's order.

    Columns that do not apply to data transfer are present, but empty. The checks and the manifest are the same as for
    `export focus`.
    """
    run_export(
        session, kind="cur", version="2.0", month=month, output=output, payer=payer, grain=grain, form=files,
        prices=prices, strict=strict,
    )  # fmt: skip
