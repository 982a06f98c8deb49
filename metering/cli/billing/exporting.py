"""What the commands of exports share: their place, their documents, progress, and what they tell."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from metering.cli.billing.invoicing import checked_month, checked_payer, invoicing
from metering.cli.command import progress, say
from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from metering.billing.invoices.document import Invoice
    from metering.cli.command import Session
    from metering.lake.view import LakeView
    from metering.reports.exports.destination import Destination
    from metering.reports.exports.periods import Grain

_S3 = "s3://"
_SHOWN = 3


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
    from metering.reports.exports.answer import export_answer, export_notes
    from metering.reports.exports.booked import documents_of, source_of
    from metering.reports.exports.exporting import export
    from metering.reports.exports.manifest import ExportRequest

    payer_id, now_s = checked_payer(payer), int(time.time())
    request = ExportRequest(
        kind=kind,
        version=version,
        month=checked_month(month),
        grain=checked_grain(grain),
        form=checked_form(form),
        payer_id=payer_id,
        resources=resources,
        as_of_s=hour_of(now_s),
    )
    checked_place(output)
    with invoicing(session) as parts:
        refuse_own_bucket(output, parts.buckets)
        found = documents_of(parts.issuer, month, payer_id=payer_id, book=prices or "")
        with parts.counted("documents read", found) as each:
            documents = sorted(each, key=lambda document: document.id)
        check_documents(documents, month, payer_id, strict=strict)
        views = lakes_of(session) if resources else ()
        destination = destination_of(output, session)
        with counted("lines written") as written:
            exported = export(request, source_of(parts.issuer, documents, views), destination, progress=written)
    session.write(export_answer(exported, destination.name))
    if not exported.written:
        say(f"{destination.name} holds this export already, and all its files are as they were written.", "green")
    for note in export_notes(exported):
        say(note, "yellow")


def lakes_of(session: Session) -> list[LakeView]:
    """The lakes of all regions of the stage.

    Raises:
        CommandFailedError: A region gives no answer.
    """
    from metering.cli.billing.home import billing_home, readable_regions

    regions, left_out = readable_regions(session, billing_home(session))
    for region, why in left_out.items():
        raise CommandFailedError(f"Region {region} gives no answer ({why}).", "Its resources would be missing.")
    return [region.view for region in regions]


def check_documents(documents: list[Invoice], month: str, payer_id: str, *, strict: bool) -> None:
    """Refuse an export of nothing, and with `strict` one that leaves usage out because it has no price.

    Raises:
        CommandFailedError: Names what is missing.
    """
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


def checked_place(text: str) -> None:
    """Refuse a place that there cannot be.

    Raises:
        WrongUsageError: It names no bucket, or a file.
    """
    if text.startswith(_S3) and not text.removeprefix(_S3).partition("/")[0]:
        raise WrongUsageError(f"{text} names no bucket.", "Write it as s3://bucket/prefix.")
    if not text.startswith(_S3) and Path(text).is_file():
        raise WrongUsageError(f"{text} is no folder.", "Name an empty or new folder.")


def refuse_own_bucket(text: str, own: frozenset[str]) -> None:
    """Refuse a place in a bucket of the service: engines and jobs take every object there for the service's own.

    Raises:
        WrongUsageError: The place is in one of them.
    """
    bucket = text.removeprefix(_S3).partition("/")[0]
    if text.startswith(_S3) and bucket in own:
        raise WrongUsageError(
            f"{text} is in the data bucket of the service, where only the service writes; nothing was written.",
            "Name a bucket of your own.",
        )


def destination_of(text: str, session: Session) -> Destination:
    """The place that a person typed; a folder is made if it does not exist.

    Raises:
        CommandFailedError: The folder cannot be made.
    """
    from metering.wiring.billing.exports import bucket_destination, folder_destination

    if text.startswith(_S3):
        bucket, _, prefix = text.removeprefix(_S3).partition("/")
        return bucket_destination(bucket, prefix, os.environ, region=session.region_name, endpoint=session.endpoint)
    try:
        return folder_destination(Path(text))
    except OSError as error:
        raise CommandFailedError(f"{text} cannot be made: {error.strerror}.", "Name an empty or new folder.") from error


def checked_grain(text: str) -> Grain:
    """A period of lines that there is.

    Raises:
        WrongUsageError: It is none.
    """
    from metering.reports.exports.periods import GRAINS

    for grain in GRAINS:
        if text == grain:
            return grain
    raise WrongUsageError(f"{text} is no grain.", f"It is one of {', '.join(GRAINS)}.")


def checked_form(text: str) -> Literal["parquet", "csv"]:
    """A format of files that there is.

    Raises:
        WrongUsageError: It is none.
    """
    if text == "parquet":
        return "parquet"
    if text == "csv":
        return "csv"
    raise WrongUsageError(f"{text} is no format of exports.", "It is parquet, or csv (with gzip).")


@contextmanager
def counted(what: str) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that counts."""
    from rich.progress import TextColumn, TimeElapsedColumn

    with progress(TextColumn("{task.completed:,.0f} {task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda more: bar.advance(task, more)
