"""The price book `sample`: prices of real bill lines, shipped with the package, for trying things out.

`sample/README.md` says where each price comes from. Invoices refuse the book unless it is named.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import canonical
from metering.billing.prices.document import book_value, read_book

if TYPE_CHECKING:
    from metering.billing.prices.book import PriceBook

SAMPLE = "sample"


# Version in force, and earlier ones: invoices that were made with them can be verified for ever.
_FILES = {2: "book.json", 1: "book-1.json"}


def sample_versions() -> list[int]:
    """Versions of the book, the newest first."""
    return [*_FILES]


@cache
def sample_book(version: int = max(_FILES)) -> PriceBook:
    """The book. A version never changes; a book with other prices has the next one.

    Args:
        version: One of `sample_versions`.

    Raises:
        KeyError: The sample has no such version.
    """
    path = resources.files("metering.billing.prices").joinpath("sample", _FILES[version])
    book = read_book(path.read_bytes(), SAMPLE)
    # The file has a line for each value, so that people can read it. What is pinned is the canonical document.
    return replace(book, sha256=hashlib.sha256(canonical(book_value(book))).hexdigest())
