"""Lines that repeat within one file.

AWS says that a record may come twice. Only a whole line that repeats within one file is taken for that: a line has the
id of its request, so two requests give different lines. The id alone is no key, because the lines of one request that
deletes many objects share it.
"""

from __future__ import annotations

from hashlib import blake2b

REMEMBERED_LINES = 2**18
"""A line that repeats is noticed if no more than so many lines stand between. AWS's files have some thousand lines.

Twice as many hashes are held at most, about 50 MiB, whatever the size of the file.
"""

_HASH_BYTES = 16
"""Two different lines have the same hash of 128 bits about never, also if somebody tries."""


class Repeats:
    """Remembers the lines of one file."""

    def __init__(self, *, remembered_lines: int = REMEMBERED_LINES) -> None:
        self._remembered_lines = remembered_lines
        self._newest: set[bytes] = set()
        self._older: set[bytes] = set()

    def seen(self, line: str) -> bool:
        """Whether the line came before; remembers it."""
        key = blake2b(line.encode(), digest_size=_HASH_BYTES).digest()
        if key in self._newest or key in self._older:
            return True
        if len(self._newest) >= self._remembered_lines:
            self._older, self._newest = self._newest, set()
        self._newest.add(key)
        return False
