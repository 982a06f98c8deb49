"""`metering prices`: price books in versions that never change, made of AWS's offer files; what has no price."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.billing.books import DEFAULT_BOOK, SAMPLE, PricesOption, checked_files, named_book
from metering.cli.billing.home import billing_home, billing_regions, home_ground
from metering.cli.billing.moments import full_hour, month_named
from metering.cli.command import Session, command, say
from metering.cli.commands.finance.overrides import override
from metering.cli.failures import WrongUsageError
from metering.hours import hour_of, month_of

if TYPE_CHECKING:
    from metering.billing.prices.book import PriceBook, Product
    from metering.billing.prices.difference import Change
    from metering.billing.prices.store import PriceStore
    from metering.wiring.connection import RegionConnection

prices = typer.Typer(
    help="Prices of data transfer: books in versions that never change, their differences, and what has no price.",
    no_args_is_help=True,
)
prices.add_typer(override, name="override")

BookOption = Annotated[str, typer.Option("--book", metavar="BOOK", help="Name of the price book.")]
FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE…",
        help="Offer files of AWS, one a region (or of all), with a version index if wanted; or one price book of ours.",
    ),
]
VersionOption = Annotated[
    int | None, typer.Option("--version", metavar="N", min=1, help="Default: the version in force.")
]

_IMPORT_EXAMPLES = """Examples:

    metering prices import us-east-1.json eu-west-1.json --dry-run --format table
    metering prices import offers/*.json --effective 2026-12
    metering prices import book.json --book acme

AWS's price list is public, and has an offer file a region:

    base=https://pricing.us-east-1.amazonaws.com
    offer=offers/v1.0/aws/AWSDataTransfer/current
    curl -o us-east-1.json $base/$offer/us-east-1/index.json

Gateways, endpoints and peering are in two offers of their own, AmazonVPC and
AmazonEC2 (some hundred MB, read as a stream):

    metering prices import us-east-1.json vpc-us-east-1.json ec2-us-east-1.json
"""
_SHOW_EXAMPLES = """Examples:

    metering prices show --usage-type DataTransfer-Out-Bytes
    metering prices show --prices sample --format csv
    metering prices show --version 3 --as-file > book.json
"""


@command(prices, "import", reads=True, changes=True, everywhere=True, epilog=_IMPORT_EXAMPLES)
def import_(
    session: Session,
    files: FilesArgument,
    book: BookOption = DEFAULT_BOOK,
    effective: Annotated[
        str | None,
        typer.Option("--effective", metavar="TIME", help="From when they hold. Default: the times in the files."),
    ] = None,
    reprice: Annotated[
        bool, typer.Option("--reprice", help="Also change prices of closed months; invoices need credit notes then.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Allowances may name products that neither files nor book have.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and write nothing.")] = False,
) -> None:
    """Import price files as the next version of a book, after showing what differs from the book in force.

    Prices of earlier hours stay. A product is gone if the file of its region no longer has it. The same content again
    writes nothing. Descriptions in the files are not read.
    """
    from metering.cli.billing.imports import check_closed, plan, written
    from metering.reports.prices.books import source_sentences
    from metering.reports.prices.changes import changes_answer, counted

    effective_s = None if effective is None else full_hour(effective, "--effective")
    if book == SAMPLE:
        raise WrongUsageError("The book `sample` ships with the package.", "Name another one with --book.")
    # Whoever may not change the stage is told before files are read.
    home = billing_home(session)
    checked_files(files)
    planned = plan(home, files, book=book, effective_s=effective_s, partial=partial)
    changes = planned.changes
    title = f"{book}, version {planned.number}, against {planned.before_text}"
    session.write(changes_answer(changes, title=title, meta=planned.meta()))
    for note in (*planned.notes, *source_sentences(planned.book)):
        say(note, "yellow")
    if not changes:
        say(f"Nothing was written: {planned.before_text} says the same.")
        return
    if not reprice:
        check_closed(planned, lambda: billing_regions(session, home), now_s=int(time.time()))
    if dry_run:
        return
    with session.deed(
        what="prices import",
        subject=f"{book} {planned.number}",
        consequence=f"It becomes the price book in force: {counted(changes)}.",
        ground=home_ground(session, home),
    ) as done:
        made = written(home, planned)
        done.result = f"version {made.version}, {made.sha256[:16]}"
    say(f"Version {made.version} of {book} is written.", "green")


@command(prices, "show", reads=True, everywhere=True, epilog=_SHOW_EXAMPLES)
def show(
    session: Session,
    book: PricesOption = DEFAULT_BOOK,
    version: VersionOption = None,
    usage_type: Annotated[
        list[str] | None, typer.Option("--usage-type", metavar="TYPE", help="Only this one; may be given again.")
    ] = None,
    sku: Annotated[list[str] | None, typer.Option("--sku", metavar="SKU", help="Only this one, likewise.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Prices in force at this hour. Default: now.")
    ] = None,
    as_file: Annotated[
        bool, typer.Option("--as-file", help="The whole book as a file that `prices import` takes.")
    ] = False,
) -> None:
    """Show the prices of a book that are in force at an hour, with its allowances and what is not sold here."""
    from metering.reports.prices.books import book_answer

    at_s = hour_of(int(time.time())) if at is None else full_hour(at, "--at")
    found = _book(session, book, version)
    if as_file:
        _write_file(session, found)
        return
    wanted = [each for each in found.products if _wanted(each, usage_type or [], sku or [])]
    session.write(book_answer(found, wanted, at_s=at_s))


@command(prices, "history", reads=True, everywhere=True)
def history(
    session: Session,
    book: Annotated[str | None, typer.Option("--prices", metavar="BOOK", help="Only this book.")] = None,
) -> None:
    """List the versions of price books, the newest first: when each was written, of what, and its digest."""
    from metering.billing.prices.sample import sample_versions
    from metering.reports.prices.books import WrittenBook, books_answer
    from metering.wiring.billing.stores import build_prices

    store = build_prices(billing_home(session))
    if book == SAMPLE:
        versions = (named_book(None, SAMPLE, version) for version in sample_versions())
        session.write(books_answer([WrittenBook(book=each, written_s=None) for each in versions]))
        return
    names = store.names() if book is None else [book]
    session.write(
        books_answer(
            [
                WrittenBook(book=store.get(name, version), written_s=written_s)
                for name in names
                for version, written_s in reversed(store.listed(name))
            ]
        )
    )


@command(prices, "diff", reads=True, everywhere=True)
def diff(
    session: Session,
    book: PricesOption = DEFAULT_BOOK,
    old: Annotated[
        int | None, typer.Option("--old", metavar="N", min=1, help="A version. Default: the one before the new one.")
    ] = None,
    new: Annotated[int | None, typer.Option("--new", metavar="N", min=1, help="Default: the version in force.")] = None,
) -> None:
    """Show what one version of a book changed: prices added, changed from what to what, and gone.

    What an import would change: metering prices import FILE… --dry-run
    """
    from metering.billing.prices.difference import difference
    from metering.billing.prices.sample import sample_versions
    from metering.reports.prices.books import book_meta
    from metering.reports.prices.changes import changes_answer
    from metering.wiring.billing.stores import build_prices

    store = build_prices(billing_home(session))
    after = named_book(store, book, new)
    versions = sorted(sample_versions()) if book == SAMPLE else store.versions(book)
    earlier = [number for number in versions if number < after.version] if old is None else [old]
    before = named_book(store, book, earlier[-1]) if earlier else None
    changes: list[Change] = difference(before, after)
    against = f"version {before.version}" if before is not None else "nothing"
    session.write(
        changes_answer(
            changes,
            title=f"{book}, version {after.version}, against {against}",
            meta={**book_meta(after), "against": None if before is None else before.version},
        )
    )


@command(prices, "check", reads=True, everywhere=True)
def check(
    session: Session,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="FILE", help="Check this file, and not usage; may be given again."),
    ] = None,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="Usage of this month. Default: the one that runs.")
    ] = None,
    book: PricesOption = DEFAULT_BOOK,
    everything: Annotated[bool, typer.Option("--all", help="Also usage that has a price.")] = False,
) -> None:
    """Show which usage of a month has no price in a book, or every problem of price files. Exits with 1 if any.

    Files are those that import takes, and are read without AWS.
    Usage that a rule of the book says is not sold here (`unrated`) is shown, and is no failure.
    """
    if file:
        _check_files(session, checked_files(file))
        return
    from metering.cli.billing.coverage import usage_of
    from metering.reports.prices.coverage import coverage_answer, covered, first_prices

    now_s = int(time.time())
    chosen = month or month_of(hour_of(now_s))
    first_s, after_s = month_named(chosen)
    if first_s > now_s:
        raise WrongUsageError(f"{chosen} has not begun.", "Name a month that has.")
    home = billing_home(session)
    found = named_book(_store(home), book)
    regions = billing_regions(session, home)
    used = usage_of(regions, first_s, after_s, now_s=now_s)
    early = {
        (each.sold, hour): each.bytes
        for hour in first_prices(found, used, month_s=first_s)
        for each in usage_of(regions, first_s, min(hour, after_s), now_s=now_s)
    }
    answers = covered(found, used, month_s=first_s, early=early)
    answer = coverage_answer(found, answers, month=chosen, everything=everything)
    session.write(answer)
    if answer.meta["unpriced_bytes"] != "0":
        say("Import prices of what has none, or let the book say that it is not sold here.", "red")
        raise typer.Exit(1)


def _book(session: Session, name: str, version: int | None) -> PriceBook:
    return named_book(None if name == SAMPLE else _store(billing_home(session)), name, version)


def _store(home: RegionConnection) -> PriceStore:
    from metering.wiring.billing.stores import build_prices

    return build_prices(home)


def _wanted(product: Product, usage_types: list[str], skus: list[str]) -> bool:
    return (not usage_types or product.usage_type in usage_types) and (not skus or product.sku in skus)


def _write_file(session: Session, book: PriceBook) -> None:
    import json

    from metering.billing.prices.document import book_value
    from metering.cli.printing.output import write_whole

    text = f"{json.dumps(book_value(book), indent=1)}\n"
    if session.output is not None:
        write_whole(session.output, [text.encode()])
    else:
        typer.echo(text, nl=False)


def _check_files(session: Session, files: list[Path]) -> None:
    from metering.cli.billing.imports import problems_of_files
    from metering.reports.prices.changes import problems_answer

    problems = problems_of_files(files)
    session.write(
        problems_answer(problems, title="Problems of price files", meta={"files": [path.name for path in files]})
    )
    if problems:
        raise typer.Exit(1)
