"""`metering prices`: price books from AWS's offer files, in immutable versions; usage without a price."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from metering.cli import groups
from metering.cli.billing.home import (
    DEFAULT_BOOK,
    SAMPLE,
    PricesOption,
    billing_home,
    billing_regions,
    checked_files,
    full_hour,
    home_ground,
    month_named,
    named_book,
)
from metering.cli.command import Session, command, say
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.cli.options import argument, family, option, switch
from metering.cli.printing.output import Format, write_page
from metering.hours import hour_of, month_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.prices.book import Override, PriceBook
    from metering.billing.prices.difference import Change
    from metering.billing.prices.store import Overrides, PriceStore
    from metering.wiring.connection import RegionConnection


_FIRST_SHOWN = 12
_ABOUT = "Price overrides of a payer or an account: set, list and remove them."
override = typer.Typer(cls=groups.CommandGroup, help=_ABOUT, no_args_is_help=True)

PayerOption = Annotated[str | None, option("--payer", "ID", "Override prices of this payer and its accounts.")]
AccountOption = Annotated[str | None, option("--account", "ID", "Of this account alone.")]
SkuOption = Annotated[list[str] | None, option("--sku", "SKU", "Only this product; may be repeated. Default: all.")]
FromOption = Annotated[
    str, option("--from", "TIME", "From this full hour on, such as 2026-12-01T00:00:00Z; or 2026-12.")
]

_EXAMPLES = """Examples:

    metering prices override set --payer 999988887777 --percent-off 12.5 --from 2026-12 --why discount
    metering prices override set --account 111122223333 --sku HQEH3ZWJVT46JHRG --price 0.05 --from 2026-12
"""


class _Asked(NamedTuple):
    """Payer or account, products and first hour, which together identify an override."""

    payer: str
    account: str
    skus: frozenset[str]
    from_s: int

    def is_of(self, other: Override) -> bool:
        return self == (other.payer, other.account, other.skus, other.from_s)


@command(override, "list", reads=True, everywhere=True)
def list_(session: Session) -> None:
    """List all overrides, including past and future ones."""
    from metering.reports.prices import overrides_answer
    from metering.wiring.billing import build_overrides

    session.write(overrides_answer(build_overrides(billing_home(session)).newest()))


@command(override, "set", reads=True, changes=True, everywhere=True, epilog=_EXAMPLES)
def set_(
    session: Session,
    start: FromOption,
    why: Annotated[str | None, option("--why", "TEXT", "Note for people, stored with the override.")] = None,
    payer: PayerOption = None,
    account: AccountOption = None,
    sku: SkuOption = None,
    end: Annotated[str | None, option("--to", "TIME", "Not included. Default: for ever.")] = None,
    price: Annotated[str | None, option("--price", "USD", "Price per GB in every tier, at most 10 decimals.")] = None,
    percent_off: Annotated[
        str | None, option("--percent-off", "N", "Discount on each price in percent, at most 3 decimals.")
    ] = None,
    no_allowance: Annotated[
        bool, switch("--no-allowance", "Usage with this override consumes no allowance (free bytes).")
    ] = False,
) -> None:
    """Override the prices of a payer or an account from a full hour on. Overlapping overrides are refused.

    A new override replaces an override of the same products that begins at the same hour. An account's override has
    precedence over its payer's override.
    """
    from metering.billing.documents import percent_of
    from metering.billing.money import price_of
    from metering.billing.prices.book import Override
    from metering.billing.prices.store import override_problems

    asked = _asked(payer, account, sku, start)
    made = Override(
        **asked._asdict(),
        to_s=None if end is None else full_hour(end, "--to"),
        price=_number(price_of, price, "--price"),
        percent_off=_number(percent_of, percent_off, "--percent-off"),
        no_allowance=no_allowance,
        why=why or "",
    )
    if problems := override_problems([made]):
        raise WrongUsageError(f"The override is refused: {'; '.join(problems)}.")
    _tell_unknown(session, asked.skus)
    _change(session, "set", made, lambda before: (*(each for each in before if not asked.is_of(each)), made))


@command(override, "remove", reads=True, changes=True, everywhere=True)
def remove(
    session: Session, start: FromOption, payer: PayerOption = None, account: AccountOption = None, sku: SkuOption = None
) -> None:
    """Remove an override completely; to end an override at an hour, set it again with --to.

    Issued invoices keep the version of the overrides with which the invoices were rated.
    """
    from metering.billing.prices.store import named
    from metering.wiring.billing import build_overrides

    asked = _asked(payer, account, sku, start)
    found = [each for each in build_overrides(billing_home(session)).newest().overrides if asked.is_of(each)]
    if not found:
        raise CommandFailedError(
            "There is no override of this payer or account, of these products, from this hour.",
            "List them: metering prices override list",
        )
    say(f"Found: {named(found[0])}.")
    _change(session, "remove", found[0], lambda before: tuple(each for each in before if not asked.is_of(each)))


def _tell_unknown(session: Session, skus: frozenset[str]) -> None:
    """Name products missing from all price books: an override of a misspelled product silently has no effect."""
    from metering.wiring.billing import build_prices

    if not skus:
        return
    store = build_prices(billing_home(session))
    known = {sku for book in map(store.newest, store.names()) if book is not None for sku in book.by_sku}
    if unknown := sorted(skus - known):
        say(f"No price book has {', '.join(unknown)} now: the override changes nothing of it until one has.", "yellow")


def _change(
    session: Session, word: str, override: Override, change: Callable[[tuple[Override, ...]], tuple[Override, ...]]
) -> None:
    from metering.billing.prices.store import named
    from metering.reports.prices import overrides_answer
    from metering.wiring.billing import build_overrides

    home = billing_home(session)
    with session.deed(
        what=f"prices override {word}",
        subject=override.payer or override.account,
        consequence=f"It is {'set' if word == 'set' else 'removed'}: {named(override)}.",
        ground=home_ground(session, home),
    ) as done:
        after: Overrides = build_overrides(home).append(change)
        done.result = f"version {after.version}"
    session.write(overrides_answer(after))


def _asked(payer: str | None, account: str | None, skus: list[str] | None, start: str) -> _Asked:
    if (payer is None) == (account is None):
        raise WrongUsageError("An override is of one payer or of one account.", "Give --payer or --account.")
    return _Asked(payer or "", account or "", frozenset(skus or ()), full_hour(start, "--from"))


def _number(read: Callable[[str], int], text: str | None, option: str) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise WrongUsageError(f"{option}: {error}.") from error


prices = family(
    "Prices of data transfer: immutable versions of price books, their differences, and usage without a price."
)
prices.add_typer(override, name="override")

BookOption = Annotated[str, option("--book", "BOOK", "Name of the price book.")]
FilesArgument = Annotated[
    list[Path],
    argument(
        "FILE…",
        "AWS offer files, one per region (or one for all), optionally with a version index; or one price book of "
        "metering's own.",
    ),
]
VersionOption = Annotated[int | None, option("--version", "N", "Default: the version in force.", min=1)]

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
        str | None, option("--effective", "TIME", "From when they hold. Default: the times in the files.")
    ] = None,
    reprice: Annotated[
        bool, switch("--reprice", "Also change prices of closed months, whose invoices then need credit notes.")
    ] = False,
    partial: Annotated[
        bool, switch("--partial", "Accept allowances for products that neither the files nor the book have.")
    ] = False,
    dry_run: Annotated[bool, switch("--dry-run", "Show the difference, and write nothing.")] = False,
) -> None:
    """Import price files as the next version of a book, after showing the differences from the book in force.

    Prices of hours before a new price takes effect do not change. A product counts as removed if the file of its region
    no longer lists it. Importing the same content again changes nothing. Descriptions in the files are ignored.
    """
    from metering.cli.billing.imports import check_closed, plan, written
    from metering.reports.prices import changes_answer, counted, source_sentences

    effective_s = None if effective is None else full_hour(effective, "--effective")
    if book == SAMPLE:
        raise WrongUsageError("The book `sample` ships with the package.", "Name another one with --book.")
    # Permission is checked before files are read.
    home = billing_home(session)
    checked_files(files)
    planned = plan(home, files, book=book, effective_s=effective_s, partial=partial)
    changes = planned.changes
    title = f"{book}, version {planned.number}, against {planned.before_text}"
    # Nothing is replaced by a first version, so nobody has to look at each of its rows.
    few = planned.before is None and session.chosen_format is Format.TABLE
    session.write(changes_answer(changes, title=title, meta=planned.meta(), most=_FIRST_SHOWN if few else None))
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
        list[str] | None, option("--usage-type", "TYPE", "Only this usage type; may be repeated.")
    ] = None,
    sku: Annotated[list[str] | None, option("--sku", "SKU", "Only this SKU; may be repeated.")] = None,
    at: Annotated[str | None, option("--at", "TIME", "Prices in force at this hour. Default: now.")] = None,
    as_file: Annotated[
        bool, switch("--as-file", "Print the whole book as a file that `prices import` accepts.")
    ] = False,
) -> None:
    """Show a book's prices in force at an hour, its allowances, and the products that are not sold here."""
    from metering.reports.prices import book_answer

    at_s = hour_of(int(time.time())) if at is None else full_hour(at, "--at")
    found = named_book(None if book == SAMPLE else _store(billing_home(session)), book, version)
    if as_file:
        _write_file(session, found)
        return
    typed = [each for each in found.products if not usage_type or each.usage_type in usage_type]
    wanted = [each for each in typed if not sku or each.sku in sku]
    session.write(book_answer(found, wanted, at_s=at_s))


@command(prices, "history", reads=True, everywhere=True)
def history(
    session: Session, book: Annotated[str | None, option("--prices", "BOOK", "Only this book.")] = None
) -> None:
    """List the versions of price books, newest first, each with its time, sources and digest."""
    from metering.billing.prices.store import sample_versions
    from metering.reports.prices import WrittenBook, books_answer
    from metering.wiring.billing import build_prices

    store = build_prices(billing_home(session))
    if book == SAMPLE:
        versions = (named_book(None, SAMPLE, version) for version in sample_versions())
        written = [WrittenBook(book=each, written_s=None) for each in versions]
    else:
        written = [
            WrittenBook(book=store.get(name, version), written_s=written_s)
            for name in (store.names() if book is None else [book])
            for version, written_s in reversed(store.listed(name))
        ]
    session.write(books_answer(written))


@command(prices, "diff", reads=True, everywhere=True)
def diff(
    session: Session,
    book: PricesOption = DEFAULT_BOOK,
    old: Annotated[
        int | None, option("--old", "N", "A version. Default: the version before the new one.", min=1)
    ] = None,
    new: Annotated[int | None, option("--new", "N", "Default: the version in force.", min=1)] = None,
) -> None:
    """Show the changes made by one version of a book: prices added, changed (old and new price), and removed.

    To see what an import would change: metering prices import FILE… --dry-run
    """
    from metering.billing.prices.difference import difference
    from metering.billing.prices.store import sample_versions
    from metering.reports.prices import book_meta, changes_answer
    from metering.wiring.billing import build_prices

    store = build_prices(billing_home(session))
    after = named_book(store, book, new)
    versions = sorted(sample_versions()) if book == SAMPLE else store.versions(book)
    earlier = [number for number in versions if number < after.version] if old is None else [old]
    before = named_book(store, book, earlier[-1]) if earlier else None
    changes: list[Change] = difference(before, after)
    title = f"{book}, version {after.version}, against {f'version {before.version}' if before else 'nothing'}"
    meta = {**book_meta(after), "against": None if before is None else before.version}
    session.write(changes_answer(changes, title=title, meta=meta))


@command(prices, "check", reads=True, everywhere=True)
def check(
    session: Session,
    file: Annotated[
        list[Path] | None, option("--file", "FILE", "Check this file instead of usage; may be repeated.")
    ] = None,
    month: Annotated[
        str | None, option("--month", "YYYY-MM", "Usage of this month. Default: the current month.")
    ] = None,
    book: PricesOption = DEFAULT_BOOK,
    everything: Annotated[bool, switch("--all", "Also show usage that has a price.")] = False,
) -> None:
    """Show which usage of a month has no price in a book, or all problems of price files. Exits with 1 if any is found.

    --file takes the same files as `prices import`, and requires no access to AWS. Usage that a rule of the book marks
    as not sold (`unrated`) is shown, but does not fail the check.
    """
    if file:
        _check_files(session, checked_files(file))
        return
    from metering.cli.billing.imports import usage_of
    from metering.reports.prices import coverage_answer, covered, first_prices

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


def _store(home: RegionConnection) -> PriceStore:
    from metering.wiring.billing import build_prices

    return build_prices(home)


def _write_file(session: Session, book: PriceBook) -> None:
    from metering.billing.prices.document import book_value

    write_page(f"{json.dumps(book_value(book), indent=1)}\n", session.output)


def _check_files(session: Session, files: list[Path]) -> None:
    from metering.cli.billing.imports import problems_of_files
    from metering.reports.prices import problems_answer

    problems, meta = problems_of_files(files), {"files": [path.name for path in files]}
    session.write(problems_answer(problems, title="Problems of price files", meta=meta))
    if problems:
        raise typer.Exit(1)
