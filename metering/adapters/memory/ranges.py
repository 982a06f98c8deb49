"""Seekable stream over an object in memory. Each read is a separate call, as a ranged GET is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer


class MemoryRanges(Ranges):
    """Stream over an object in memory.

    Args:
        size_bytes: Size of the version that was opened.
        read: Gives the content of that version, or raises an error if the object was deleted or replaced.
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
