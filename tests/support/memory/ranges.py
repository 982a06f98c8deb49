"""Seekable stream over an in-memory object. Each read is a separate call, like a ranged GET."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.objects import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer


class MemoryRanges(Ranges):
    """Stream over an in-memory object.

    Args:
        size_bytes: Size of the opened version.
        read: Returns the content of that version, or raises an error if the object was deleted or replaced.
        end: The part read when the stream was opened: its first position, and the whole content.
    """

    def __init__(self, size_bytes: int, read: Callable[[], bytes], *, end: tuple[int, bytes] | None = None) -> None:
        super().__init__(size_bytes)
        self._read = read
        self._end_from, self._end = end if end is not None else (size_bytes, b"")

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self._size:
            return 0
        known = self._end if self._position >= self._end_from else self._read()
        content = known[self._position : self._position + len(view)]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
