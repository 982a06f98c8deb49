"""Parts of the commands of invoices over all regions, with checked options, states and progress."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from metering.cli.billing.home import billing_home, checked_month, readable_regions
from metering.cli.command import Session, progress, say
from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.progress import Progress, TaskID

    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.issuing import Issued, Issuer, IssueRefusedError
    from metering.lake.view import LakeView
    from metering.reports.exports.destination import Destination
    from metering.wiring.connection import RegionConnection


T = TypeVar("T")

_ACCOUNT = re.compile(r"[0-9]{12}")
_S3 = "s3://"
_SHOWN = 3


class Invoicing:
    """Parts of invoices, and a bar on stderr while they work. Mutable.

    Attributes:
        issuer: Set while the parts are open.
        buckets: Data buckets of the stage's regions.
    """

    issuer: Issuer
    buckets: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._hours: TaskID | None = None

    @contextmanager
    def counted(self, what: str, documents: Iterable[T]) -> Iterator[Iterator[T]]:
        """The documents, counted while they are made."""
        with _count(what) as (bar, task):
            self._bar, self._hours = bar, bar.add_task("", total=None, visible=False)
            try:
                yield _each(documents, lambda: bar.advance(task))
            finally:
                self._bar = None

    def on_hour(self, region: str, done: int, of: int) -> None:
        """Tell how far an open month of a region is read."""
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
    """A bar on stderr that counts."""
    with _count(what) as (bar, task):
        yield lambda more: bar.advance(task, more)


class UntilRefused:
    """Documents that are issued, up to the refusal of the rest. Mutable.

    Attributes:
        refused: Why the rest was refused; None if it was not.
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
    """The parts of invoices over all regions of the stage; those that give no answer are named in them.

    Raises:
        CommandFailedError: The home region gives no answer, or the stage is not deployed there.
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
    """An account id, or empty for all payers.

    Raises:
        WrongUsageError: It is something else.
    """
    if text is not None and _ACCOUNT.fullmatch(text) is None:
        raise WrongUsageError(f"{text} is no account.", "A payer is an account id of 12 digits.")
    return text or ""


def state_of(issuer: Issuer, invoice: Invoice) -> str:
    """`issued`, or what is left to do before the document counts."""
    return "issued" if issuer.is_issued(invoice) else "unfinished: run issue or credit again"


def draft_state(invoice: Invoice) -> str:
    """Reasons why a draft cannot be issued."""
    found = [*(["unpriced"] if invoice.unpriced else []), *(["not closed"] if invoice.left_out else [])]
    return f"draft: {', '.join(found)}" if found else "draft"


def not_final(issuer: Issuer, month: str) -> list[str]:
    """Regions that drafts of a month are without, or that have not closed it."""
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
) -> None:
    """Export a month, and tell what was written.

    Raises:
        WrongUsageError: An option makes no sense.
        CommandFailedError: There is nothing to export, or with `strict` something has no price.
        OperationFailedError: Something else is at the place, or the export is wrong.
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
        views = _lakes_of(session) if resources else ()
        destination = _destination_of(output, session)
        with counted("lines written") as written:
            exported = export(request, source_of(parts.issuer, documents, views), destination, progress=written)
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


def _lakes_of(session: Session) -> list[LakeView]:
    regions, left_out = readable_regions(session, billing_home(session))
    for region, why in left_out.items():
        raise CommandFailedError(f"Region {region} gives no answer ({why}).", "Its resources would be missing.")
    return [region.view for region in regions]


def _check_documents(documents: list[Invoice], month: str, payer_id: str, *, strict: bool) -> None:
    """Refuse an export of nothing, and with `strict` one that leaves usage out because it has no price."""
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
    """Refuse a bucket of the service: engines and jobs take every object there for the service's own."""
    bucket = text.removeprefix(_S3).partition("/")[0]
    if text.startswith(_S3) and bucket in own:
        raise WrongUsageError(
            f"{text} is in the data bucket of the service, where only the service writes; nothing was written.",
            "Name a bucket of your own.",
        )


def _destination_of(text: str, session: Session) -> Destination:
    """The place that a person typed; a folder is made if it does not exist."""
    from metering.wiring.billing import bucket_destination, folder_destination

    if text.startswith(_S3):
        bucket, _, prefix = text.removeprefix(_S3).partition("/")
        return bucket_destination(bucket, prefix, os.environ, region=session.region_name, endpoint=session.endpoint)
    try:
        return folder_destination(Path(text))
    except OSError as error:
        raise CommandFailedError(f"{text} cannot be made: {error.strerror}.", "Name an empty or new folder.") from error
