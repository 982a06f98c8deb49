"""Which files of a job are read at the same time: large ones by themselves, small ones side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from metering.stores.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Most rows of a small file. A larger one keeps a core busy, and what is made of it takes memory; a small one mostly
# waits for its first byte.
_SMALL_ROWS = 1_000_000


class _Sized(Protocol):
    @property
    def rows(self) -> int: ...


F = TypeVar("F", bound=_Sized)
R = TypeVar("R")


def large_and_small(files: Sequence[F]) -> tuple[list[F], list[F]]:
    """Files that are read by themselves, and those that are read side by side, each in their order."""
    large = [file for file in files if file.rows > _SMALL_ROWS]
    return large, [file for file in files if file.rows <= _SMALL_ROWS]


def read_each(read: Callable[[F], R], files: Sequence[F], *, threads: int) -> Iterator[tuple[F, R]]:
    """Each file with what `read` returns for it, in no order.

    Args:
        read: Called in threads, so it must be safe to call side by side.
        files: Files that say how many rows they have.
        threads: Most small files that are read at the same time.
    """
    large, small = large_and_small(files)
    for some, at_once in ((large, 1), (small, threads if len(small) > 1 else 1)):
        yield from zip(some, side_by_side(read, some, threads=at_once), strict=True)
