"""Price books and overrides in the home region's bucket: `prices/<book>/<version>.json`, `prices/overrides/…`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import DocumentRefusedError
from metering.billing.documents.versions import NumberedDocuments
from metering.billing.prices.checks import BOOK_NAME, RESERVED_NAMES, problems_of
from metering.billing.prices.document import book_value, content_value, read_book
from metering.billing.prices.overrides import Overrides, override_problems, overrides_value, read_overrides
from metering.errors import ObjectDamagedError
from metering.stores.bucket import PRICES_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.documents.versions import Numbered
    from metering.billing.prices.book import Override, PriceBook
    from metering.stores.objects import ObjectStore

_BOOK_KEY = re.compile(f"{PRICES_PREFIX}({BOOK_NAME.pattern})/[0-9]+\\.json")
_OVERRIDES = f"{PRICES_PREFIX}overrides/"


class PriceStore:
    """All versions of all price books. Nothing is ever replaced."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def names(self) -> list[str]:
        """Names of the books, in order."""
        keys = (_BOOK_KEY.fullmatch(info.key) for info in self._objects.list(PRICES_PREFIX))
        return sorted({found[1] for found in keys if found is not None} - RESERVED_NAMES)

    def versions(self, name: str) -> list[int]:
        """Numbers of the versions of a book, in order; empty if there is none."""
        return self._documents(name).numbers()

    def listed(self, name: str) -> list[tuple[int, int]]:
        """Number of each version of a book and the second at which it was written, in order."""
        return self._documents(name).listed()

    def newest(self, name: str) -> PriceBook | None:
        """The book in force; None if it was never written."""
        found = self._documents(name).newest()
        return None if found is None else _book(found)

    def get(self, name: str, version: int) -> PriceBook:
        """One version of a book.

        Raises:
            ObjectMissingError: There is none.
            ObjectDamagedError: Its object is no price book.
        """
        return _book(self._documents(name).get(version))

    def put(self, book: PriceBook) -> PriceBook:
        """Write a book as the next version of its name; its `version` and `sha256` are not looked at.

        Returns:
            The book as it was written, or the newest one if that says the same.

        Raises:
            DocumentRefusedError: The book has problems.
        """
        return self.append(book.name, lambda _newest: book)

    def append(self, name: str, make: Callable[[PriceBook | None], PriceBook]) -> PriceBook:
        """Write what `make` makes of the newest version as the next one; it is asked again if another was first.

        Returns:
            The book as it was written, or the newest one if that says the same.

        Raises:
            DocumentRefusedError: The book has problems.
        """

        def document(number: int, newest: Numbered | None) -> dict[str, object] | None:
            before = None if newest is None else _book(newest)
            made = replace(make(before), version=number)
            if problems := problems_of(made):
                raise DocumentRefusedError(f"price book {name}", problems)
            same = before is not None and content_value(before) == content_value(made)
            return None if same else book_value(made)

        written = self._documents(name).append(document)
        if written is None:  # pragma: no cover  # without a version before, there is something to write
            raise DocumentRefusedError(f"price book {name}", ["it has no version"])
        return _book(written)

    def _documents(self, name: str) -> NumberedDocuments:
        if BOOK_NAME.fullmatch(name) is None or name in RESERVED_NAMES:
            raise DocumentRefusedError(f"price book {name!r}", ["that is not the name of a book"])
        return NumberedDocuments(self._objects, f"{PRICES_PREFIX}{name}/")


class OverrideStore:
    """All versions of the overrides."""

    def __init__(self, objects: ObjectStore) -> None:
        self._documents = NumberedDocuments(objects, _OVERRIDES)

    def versions(self) -> list[int]:
        """Numbers of the versions, in order."""
        return self._documents.numbers()

    def newest(self) -> Overrides:
        """Overrides in force; version 0 and empty if none were ever written."""
        found = self._documents.newest()
        return Overrides() if found is None else _overrides(found)

    def get(self, version: int) -> Overrides:
        """One version; version 0 is empty.

        Raises:
            ObjectMissingError: There is none.
            ObjectDamagedError: Its object holds no overrides.
        """
        return Overrides() if version == 0 else _overrides(self._documents.get(version))

    def append(self, change: Callable[[tuple[Override, ...]], tuple[Override, ...]]) -> Overrides:
        """Write changed overrides as the next version; nothing if they are the same.

        Args:
            change: Gets the overrides in force, and gives those that replace them. It is asked again if another
                process was first.

        Raises:
            DocumentRefusedError: They contradict each other.
        """

        def document(number: int, newest: Numbered | None) -> dict[str, object] | None:
            before = () if newest is None else _overrides(newest).overrides
            after = change(before)
            if problems := override_problems(after):
                raise DocumentRefusedError("overrides", problems)
            same = overrides_value(0, before) == overrides_value(0, after)
            return None if same else overrides_value(number, after)

        written = self._documents.append(document)
        return Overrides() if written is None else _overrides(written)


def _book(found: Numbered) -> PriceBook:
    try:
        book = read_book(found.body, found.key)
    except DocumentRefusedError as error:
        raise ObjectDamagedError(found.key, error.reason) from error
    if book.version != found.number or not found.key.endswith(f"/{book.name}/{book.version}.json"):
        raise ObjectDamagedError(found.key, f"it says that it is version {book.version} of {book.name}")
    return book


def _overrides(found: Numbered) -> Overrides:
    try:
        read = read_overrides(found.body, found.key)
    except DocumentRefusedError as error:
        raise ObjectDamagedError(found.key, error.reason) from error
    if read.version != found.number:
        raise ObjectDamagedError(found.key, f"it says that it is version {read.version}")
    return read
