"""Equality of two sets of totals of any size, in the space of two numbers.

A fingerprint is a sum over all totals: the bytes and the records of each, times numbers that are hashed from its key,
modulo a prime of 127 bits. It does not depend on order, and a total that comes in parts gives the same sum. Sets that
are equal have equal fingerprints. Sets that differ have equal ones with a chance of 2^-126: the numbers of a key have
nothing to do with what went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_PRIME = 2**127 - 1
_HALF = 2**128 - 1


def name_of(key: Hashable) -> bytes:
    """Text of a key: no two keys of one sort have the same one."""
    if type(key) is str:
        return key.encode()
    if type(key) is UsageKey:
        # Each text says how long it is, so that no separator can be a part of one. This is called for every usage key.
        hour_s, account_id, usage_type, service, from_location, to_location, corrects_s = key
        return (
            f"{hour_s},{corrects_s},{len(account_id)},{len(usage_type)},{len(service)},{len(from_location)},"
            f"{account_id}{usage_type}{service}{from_location}{to_location}"
        ).encode()
    return repr(key).encode()


@dataclass(slots=True)
class Fingerprint:
    """Sum of totals by key, and a fingerprint of which key has how much of it. Mutable."""

    total: Total = ZERO
    value: int = 0

    def add(self, key: Hashable, total: Total) -> None:
        """Add a total, or a part of one."""
        size, records = total
        of_both = int.from_bytes(blake2b(name_of(key), digest_size=32).digest())
        # The upper and the lower half of the digest are the two numbers of the key.
        self.value = (self.value + (of_both >> 128) * size + (of_both & _HALF) * records) % _PRIME
        self.total = Total(self.total[0] + size, self.total[1] + records)

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
