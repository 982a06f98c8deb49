"""Contradictions that a job meets in the ledger. Unrelated work continues; the job reports them at its end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from metering.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Number of contradictions that are named; all of them are counted.
_NAMED = 5


class Contradictions:
    """Contradictions of one invocation of a job. A plain class, because it collects them."""

    def __init__(self) -> None:
        self._found: dict[str, LedgerCorruptError] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Stop the block at a contradiction and note it; the code after the block continues."""
        try:
            yield
        except LedgerCorruptError as error:
            self._found.setdefault(str(error), error)

    def merge(self, other: Contradictions) -> None:
        """Take over what another part of the job met."""
        for text, error in other._found.items():
            self._found.setdefault(text, error)

    def texts(self) -> list[str]:
        """One sentence for each."""
        return list(self._found)

    def add(self, text: str) -> None:
        """Note one that was met before."""
        self._found.setdefault(text, LedgerCorruptError(text))

    def tell(self) -> None:
        """Raise the contradictions, if there were any.

        Raises:
            LedgerCorruptError: It names the contradictions. A function fails with it, and a command ends with exit 1.
        """
        if not self._found:
            return
        first = next(iter(self._found.values()))
        if len(self._found) == 1:
            raise first
        more = len(self._found) - _NAMED
        text = "; ".join(list(self._found)[:_NAMED])
        raise LedgerCorruptError(f"{text}; and {more} more" if more > 0 else text) from first
