"""Price books and files that commands name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.failures import CommandFailedError, WrongUsageError

if TYPE_CHECKING:
    from pathlib import Path

    from metering.billing.prices.book import PriceBook
    from metering.billing.prices.store import PriceStore

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
    """A price book by its name: the version in force, or the one that is named.

    Args:
        prices: Where books are kept; None is enough for the sample.
        name: Its name.
        version: A version of it.

    Raises:
        CommandFailedError: There is no such book or version.
        OperationFailedError: There is no such version of the sample.
    """
    from metering.billing.invoices.rates import sample_version
    from metering.billing.prices.sample import sample_book
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
        WrongUsageError: One does not, or is a folder.
    """
    for path in files:
        if not path.is_file():
            raise WrongUsageError(f"{path} is no file.", "Name files, as in: metering prices import us-east-1.json")
    return files
