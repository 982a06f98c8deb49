"""Immutable documents with numbers below a prefix of the data bucket: price books, overrides, who pays for whom.

A document is put once and never replaced. Whoever changes something puts the next number. If two do so at once, both
are kept: the second one makes its document again, on top of the first one's.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.documents.strict_json import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.stores.objects import ObjectStore

_NUMBER = re.compile(r"([1-9][0-9]{0,8})\.json")


class Numbered(NamedTuple):
    """One version of a document.

    Attributes:
        number: From 1 on.
        body: Its canonical JSON.
        key: Key of its object.
    """

    number: int
    body: bytes
    key: str

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of its bytes; what invoices pin."""
        return hashlib.sha256(self.body).hexdigest()


class NumberedDocuments:
    """Versions `<prefix><number>.json`.

    Args:
        objects: The data bucket of the home region.
        prefix: Ends in a slash.
    """

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    def numbers(self) -> list[int]:
        """Numbers of all versions, in order."""
        return [number for number, _ in self.listed()]

    def listed(self) -> list[tuple[int, int]]:
        """Number of each version and the second at which it was written, in order."""
        listed = ((info.key.removeprefix(self._prefix), info.modified_s) for info in self._objects.list(self._prefix))
        return sorted((int(found[1]), written_s) for name, written_s in listed if (found := _NUMBER.fullmatch(name)))

    def newest(self) -> Numbered | None:
        """The version with the greatest number; None if there is none."""
        numbers = self.numbers()
        return self.get(numbers[-1]) if numbers else None

    def get(self, number: int) -> Numbered:
        """One version.

        Raises:
            ObjectMissingError: There is none of this number.
        """
        key = self._key(number)
        return Numbered(number, self._objects.get(key), key)

    def append(self, make: Callable[[int, Numbered | None], Mapping[str, object] | None]) -> Numbered | None:
        """Put the next version.

        Args:
            make: Gets the next number and the newest version, and gives the document, or None if there is nothing
                to write. It is called again if another process was first.

        Returns:
            The version that was put, or the newest one if nothing was to write (None if there is none).
        """
        while True:
            newest = self.newest()
            number = newest.number + 1 if newest is not None else 1
            document = make(number, newest)
            if document is None:
                return newest
            made = Numbered(number, canonical(document), self._key(number))
            if self._objects.put(made.key, made.body, if_absent=True):
                return made
            # A put that was repeated after a lost reply finds its own object.
            if self._objects.get(made.key) == made.body:
                return made

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number}.json"
