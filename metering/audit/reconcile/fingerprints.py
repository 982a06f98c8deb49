"""Equality of two sets of totals of any size, in the space of two numbers.

A fingerprint is a sum over all totals: the bytes and the records of each, times numbers that are hashed from its key,
modulo a prime of 127 bits. It does not depend on order, and a total that comes in parts gives the same sum. Sets that
are equal have equal fingerprints. Sets that differ have equal ones with a chance of 2^-126: the numbers of a key have
nothing to do with what went wrong.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.usage.totals import ZERO

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from metering.usage.totals import Total

_PRIME = 2**127 - 1


@dataclass(slots=True)
class Fingerprint:
    """Sum of totals by key, and a fingerprint of which key has how much of it. Mutable."""

    total: Total = ZERO
    value: int = 0

    def add(self, key: Hashable, total: Total) -> None:
        """Add a total, or a part of one."""
        digest = hashlib.blake2b(repr(key).encode(), digest_size=32).digest()
        of_bytes, of_records = int.from_bytes(digest[:16], "big"), int.from_bytes(digest[16:], "big")
        self.value = (self.value + of_bytes * total.bytes + of_records * total.records) % _PRIME
        self.total = self.total.plus(total)

    def merge(self, other: Fingerprint) -> None:
        """Add all that another one has."""
        self.value = (self.value + other.value) % _PRIME
        self.total = self.total.plus(other.total)


def fingerprint(entries: Iterable[tuple[Hashable, Total]]) -> Fingerprint:
    """Fingerprint of some totals."""
    made = Fingerprint()
    for key, total in entries:
        made.add(key, total)
    return made
