"""The rows of a query's result: a few stand in memory, many in a file without a name, which ends with the result."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Generic, TypeVar, cast, overload

Row = tuple[object, ...]
T_co = TypeVar("T_co", covariant=True)

# Rows that stand in memory at once.
PART_ROWS = 10_000


class _InOrder(Sequence[T_co]):
    """A sequence that is read from its beginning; a place in it is found by reading up to it."""

    @overload
    def __getitem__(self, place: int) -> T_co: ...
    @overload
    def __getitem__(self, place: slice) -> list[T_co]: ...
    def __getitem__(self, place: int | slice) -> T_co | list[T_co]:
        if isinstance(place, slice):
            return list(islice(self, *place.indices(len(self))))
        index = place + len(self) if place < 0 else place
        for value in islice(self, max(index, 0), None):
            if index >= 0:
                return value
        raise IndexError(place)


class StoredRows(_InOrder[Row]):
    """Rows of a result, in order. Memory holds one part of them, whatever their number. Mutable until it is complete.

    Many rows are kept in a file below TMPDIR that has no name, so that nothing of it is left behind.
    """

    def __init__(self) -> None:
        self._memory: list[Row] = []
        self._places: list[int] = []
        self._stored = 0
        self._file: IO[bytes] | None = None

    def add(self, rows: list[Row]) -> None:
        """Add rows at the end.

        Raises:
            OSError: The disk is full, or the like.
        """
        if self._memory:
            self._store(self._memory)
        self._memory = rows

    def __len__(self) -> int:
        return self._stored + len(self._memory)

    def __iter__(self) -> Iterator[Row]:
        for place in self._places:
            yield from self._part(place)
        yield from self._memory

    def _part(self, place: int) -> list[Row]:
        if self._file is None:
            return []
        # Several readers may be under way, so each finds its place again.
        self._file.seek(place)
        return cast("list[Row]", pickle.load(self._file))  # noqa: S301  # this process wrote it, to a file that has no name

    def _store(self, rows: list[Row]) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix="metering-result-")  # noqa: SIM115  # it lives as long as the rows
            weakref.finalize(self, self._file.close)
        self._places.append(self._file.seek(0, 2))
        pickle.dump(rows, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._stored += len(rows)


@dataclass(frozen=True)
class MappedRows(_InOrder[T_co], Generic[T_co]):
    """Rows as something else, made when they are read.

    Attributes:
        rows: The rows.
        shape: Makes the value of a row.
    """

    rows: Sequence[Row]
    shape: Callable[[Row], T_co]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[T_co]:
        return map(self.shape, self.rows)
