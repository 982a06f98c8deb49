"""Base of seekable streams over an object's ranges: the object's size, and a position in it."""

from __future__ import annotations

import io
import os


class Ranges(io.RawIOBase):
    """Unbuffered base stream: each read is one call. Subclasses add `readinto`, which fills what it is given.

    Wrap it in `io.BufferedReader` for read-ahead.

    Args:
        size_bytes: Size of the version that was opened.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__()
        self._size = size_bytes
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

    def readall(self) -> bytes:
        # The base class reads piece by piece.
        rest: bytes = self.read(max(self._size - self._position, 0))
        return rest
