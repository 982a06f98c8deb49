"""A seekable stream over an object in memory: each read happens at a moment of its own, as ranged GETs do."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer


class MemoryRanges(io.RawIOBase):
    """Unbuffered; wrap it in `io.BufferedReader` for read-ahead.

    Args:
        size_bytes: Size of the version that was opened.
        read: Gives that version's content, or raises what has become of it.
    """

    def __init__(self, size_bytes: int, read: Callable[[], bytes]) -> None:
        super().__init__()
        self._size = size_bytes
        self._read = read
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self._size:
            return 0
        content = self._read()[self._position : self._position + len(view)]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)
