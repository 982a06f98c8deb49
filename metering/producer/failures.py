"""Errors of a producer: what a program that sends records must be able to tell apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.errors import OperationFailedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROBLEMS_TOLD = 20


class NotSentError(UnavailableError):
    """The queue or the bucket did not take everything in time. Nothing is lost, and the same call is safe to repeat.

    With a journal the records are in it, and the next call sends them. Without one the caller sends its key again.

    Attributes:
        unsent: Number of batches that are not known to have been taken. Even these may have arrived.
        journalled: Whether the journal has them.
    """

    def __init__(self, operation: str, detail: str, *, unsent: int, journalled: bool) -> None:
        super().__init__(operation, detail)
        self.unsent = unsent
        self.journalled = journalled

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_not_sent, (self.operation, self.detail, self.unsent, self.journalled))

    def __str__(self) -> str:
        batches = "1 batch is" if self.unsent == 1 else f"{self.unsent} batches are"
        way = "They are in the journal, and the next call sends them" if self.journalled else "Send the same key again"
        return f"{batches} not known to be sent ({self.operation}: {self.detail}). {way}."


def _rebuild_not_sent(operation: str, detail: str, unsent: int, journalled: bool) -> NotSentError:
    return NotSentError(operation, detail, unsent=unsent, journalled=journalled)


class RecordsRefusedError(OperationFailedError):
    """Records that cannot be written as the contract has them. Nothing of the call was sent, and nothing is numbered.

    Attributes:
        problems: `(position from 0, what is wrong)` of the first 20 of them.
        refused: Number of records with a problem.
    """

    def __init__(self, problems: Sequence[tuple[int, str]], refused: int) -> None:
        told = "; ".join(f"record {position}: {what}" for position, what in problems)
        more = f"; and {refused - len(problems)} more" if refused > len(problems) else ""
        super().__init__(
            f"Nothing was sent: {told}{more}.",
            "A record is a mapping of names to texts, whole numbers and times with their zone (docs/contract.md).",
        )
        self.problems = tuple(problems)
        self.refused = refused

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problems, self.refused))


class KeyReusedError(OperationFailedError):
    """A key comes with other records than before. A key stands for the same records, in the same order, for ever.

    Attributes:
        key: The key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The key {key!r} was used for other records before, and nothing was sent.",
            "Give each piece of work a key of its own, such as file and offset. Sort what has no order of its own.",
        )
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.key,))


class JournalError(OperationFailedError):
    """The journal cannot be opened, read or written. What was not journalled was not sent."""


class Problems:
    """Problems of records: the first ones in words, and the number of all."""

    def __init__(self) -> None:
        self._told: list[tuple[int, str]] = []
        self._refused = 0

    def add(self, position: int, what: str) -> None:
        """Note the problem of one record."""
        self._refused += 1
        if len(self._told) < _PROBLEMS_TOLD:
            self._told.append((position, what))

    @property
    def any(self) -> bool:
        return self._refused > 0

    def raise_any(self) -> None:
        """Raise what was noted.

        Raises:
            RecordsRefusedError: There is a problem.
        """
        if self._refused:
            raise RecordsRefusedError(self._told, self._refused)
