"""A seekable stream over an object in memory: each read happens at a moment of its own, as ranged GETs do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer


class MemoryRanges(Ranges):
    """A stream over an object in memory.

    Args:
        size_bytes: Size of the version that was opened.
        read: Gives that version's content, or raises what has become of it.
    """

    def __init__(self, size_bytes: int, read: Callable[[], bytes]) -> None:
        super().__init__(size_bytes)
        self._read = read

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self._size:
            return 0
        content = self._read()[self._position : self._position + len(view)]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
