"""Contradictions that a job meets in the ledger: what is unrelated goes on, and at the end all of them are told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

# So many are named; all of them are counted.
_NAMED = 5


class Contradictions:
    """Those of one run of a job."""

    def __init__(self) -> None:
        self._found: dict[str, LedgerCorruptError] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """What is done inside stops at a contradiction; what comes after it does not."""
        try:
            yield
        except LedgerCorruptError as error:
            self._found.setdefault(str(error), error)

    def tell(self) -> None:
        """Nothing, if there was none.

        Raises:
            LedgerCorruptError: It names what was found. The function fails with it, and a command ends with exit 1.
        """
        if not self._found:
            return
        first = next(iter(self._found.values()))
        if len(self._found) == 1:
            raise first
        more = len(self._found) - _NAMED
        text = "; ".join(list(self._found)[:_NAMED])
        raise LedgerCorruptError(f"{text}; and {more} more" if more > 0 else text) from first
