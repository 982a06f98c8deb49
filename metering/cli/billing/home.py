"""Helpers of billing commands: connections to the regions, and checks of price books, files and hours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli import connecting, fleet
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.hours import month_bounds_s, parse_hour

if TYPE_CHECKING:
    from pathlib import Path

    from metering.billing.owners import Owners
    from metering.billing.prices.book import PriceBook
    from metering.billing.prices.store import PriceStore
    from metering.cli import command, deeds
    from metering.wiring.connection import RegionConnection


def billing_home(session: command.Session) -> RegionConnection:
    """Connect to the home region, which stores price books, payers, budgets and invoices of all regions.

    On an emulator, the only region of a stage is used, even if it is not the home region.

    Raises:
        CommandFailedError: The home region does not respond, or the stage is not deployed there.
    """
    asked = None if session.region_name == connecting.ALL_REGIONS else session.region_name
    return session.regions.billing_home(asked, emulated=lambda: session.emulated)


def billing_regions(session: command.Session, home: RegionConnection) -> list[RegionConnection]:
    """Connect to every region whose usage the home region bills, sorted by name.

    Raises:
        CommandFailedError: A region that holds data does not respond.
    """
    if session.regions.is_alone(home):
        return [home]
    return [home if each.region == home.region else each for each in fleet.all_connections(session)]


def readable_regions(session: command.Session, home: RegionConnection) -> tuple[list[RegionConnection], dict[str, str]]:
    """Regions with data of the stage: reachable regions, sorted by name, and for each unreachable region the reason."""
    from metering.ledger.periods import period_key
    from metering.stores.writes import Table

    # The region's stacks are known, but its ledger must also respond.
    regions, silent = session.regions.readable(
        home, lambda region: region.items.get(Table.LEDGER, period_key("2026-11"))
    )
    return regions, {name: str(error) for name, error in silent.items()}


def home_ground(session: command.Session, home: RegionConnection) -> deeds.Ground:
    """Region and audit trail of a billing command's changes: the home region, and that region's ledger."""
    return session.ground(home.region, caller=home.caller, items=lambda: home.items)


DEFAULT_BOOK = "aws-list"
SAMPLE = "sample"

PricesOption = Annotated[
    str,
    typer.Option(
        "--prices",
        metavar="BOOK",
        help="Price book: one that was imported, or `sample`, the prices of a few real bill lines.",
    ),
]


def named_book(prices: PriceStore | None, name: str, version: int | None = None) -> PriceBook:
    """Return a price book by name, in the given version or else in the version in force.

    Args:
        prices: Store of the price books; may be None if the sample book is named.
        name: Name of the book.
        version: Version of the book; None for the version in force.

    Raises:
        CommandFailedError: The book or version does not exist.
        OperationFailedError: The sample price book does not have this version.
    """
    from metering.billing.prices.store import sample_book, sample_version
    from metering.errors import ObjectMissingError

    if name == SAMPLE:
        return sample_book() if version is None else sample_version(version)
    if prices is None:
        raise CommandFailedError(f"There is no price book {name} here.")
    try:
        book = prices.newest(name) if version is None else prices.get(name, version)
    except ObjectMissingError as error:
        raise CommandFailedError(
            f"There is no version {version} of price book {name}.", "List them: metering prices history"
        ) from error
    if book is None:
        raise CommandFailedError(
            f"There is no price book {name}.",
            "Import AWS's prices with `metering prices import FILE…`, or take those of a few real bill lines with "
            "--prices sample.",
        )
    return book


def checked_files(files: list[Path]) -> list[Path]:
    """Files that exist.

    Raises:
        WrongUsageError: A file does not exist, or is a folder.
    """
    for path in files:
        if not path.is_file():
            raise WrongUsageError(f"{path} is no file.", "Name files, as in: metering prices import us-east-1.json")
    return files


def owners_file(file: Path) -> Owners:
    """Read a book of owners.

    Raises:
        WrongUsageError: The file does not exist.
        DocumentRefusedError: The file has faults; the error lists every problem.
    """
    from metering.billing.owners import read_owners

    if not file.is_file():
        raise WrongUsageError(f"{file} is no file.", "docs/causes.md shows a book of owners.")
    return read_owners(file.read_bytes(), file.name)


_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})(:00(:00)?)?Z")
# Hour labels have four-digit years, and the exclusive end of a range also needs a label.
_LAST_YEAR = "9998"
WRITE_HOUR = "Write a full hour in UTC: 2026-11-01T00:00:00Z, 2026-11-01 or 2026-11."


def full_hour(text: str, option: str) -> int:
    """The full hour that an option states, or the first hour of the day or month that it states.

    Raises:
        WrongUsageError: It names none.
    """
    try:
        hour_s = _hour(text)
    except ValueError:
        hour_s = -1
    if hour_s < 0:
        raise WrongUsageError(f"{option} {text} is no full hour.", WRITE_HOUR)
    return hour_s


def _hour(text: str) -> int:
    if text[:4] > _LAST_YEAR:
        raise ValueError(text)
    if _MONTH.fullmatch(text):
        return parse_hour(f"{text}-01T00")
    if _DAY.fullmatch(text):
        return parse_hour(f"{text}T00")
    found = _HOUR.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return parse_hour(found[1])


def checked_month(text: str) -> str:
    """Return a month.

    Raises:
        WrongUsageError: The text is not a month.
    """
    try:
        month_bounds_s(text)
    except (ValueError, OverflowError) as error:
        raise WrongUsageError(f"{text} is not a month.", "Write it as 2026-11.") from error
    return text


def month_named(month: str) -> tuple[int, int]:
    """First second of a month (1970 or later), and first second of the next month.

    Raises:
        WrongUsageError: It is something else.
    """
    bounds = month_bounds_s(checked_month(month))
    if bounds[0] < 0:
        raise WrongUsageError(f"{month} lies before 1970.", "Write it as 2026-11.")
    return bounds
