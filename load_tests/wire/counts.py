"""Reads an emulator's counts."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.wire.sitecustomize import COUNTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from load_tests.wire.region import Kinds, Load, Stored
    from metering.adapters.aws.session import Clients

# The emulator writes its counts during calls, a few times per second.
_SETTLE_S = 0.5


@contextmanager
def counting_emulator(path: Path) -> Iterator[WireCounts]:
    """Make an emulator count its requests if it is started within this block."""
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", COUNTS_FILE)}
    path.unlink(missing_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), before["PYTHONPATH"])))
    os.environ[COUNTS_FILE] = str(path)
    try:
        yield WireCounts(path)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class WireCounts:
    """The counts of one emulator."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, clients: Clients) -> Sums:
        """All sums so far."""
        time.sleep(_SETTLE_S)
        # During this call, the emulator writes its counts.
        clients.s3.list_buckets()
        return Sums(json.loads(self._path.read_text()) if self._path.exists() else {})


class Sums(dict[str, float]):
    """Sums by name. Counts can be added and subtracted; zeros are left out."""

    def __add__(self, other: Mapping[str, float]) -> Sums:
        return self._with(other, 1)

    def __sub__(self, other: Mapping[str, float]) -> Sums:
        return self._with(other, -1)

    def _with(self, other: Mapping[str, float], sign: int) -> Sums:
        names = self.keys() | other.keys()
        sums = {name: self.get(name, 0) + sign * other.get(name, 0) for name in names}
        return Sums({name: number for name, number in sums.items() if number})


def total(counts: Mapping[str, float], prefix: str) -> float:
    """Sum of all counts whose names begin with `prefix`."""
    return sum(number for name, number in counts.items() if name.startswith(prefix))


# Write operations of each part, by operation and by kind of the first item.
PARTS = {
    "accept": ("TransactWriteItems C#", "PutItem S#"),
    "roll up": ("TransactWriteItems U#", "TransactWriteItems D#", "UpdateItem A#", "UpdateItem S#", "DeleteItem U#"),
    "compact": ("UpdateItem H#", "PutItem H#", "UpdateItem P#", "DeleteItem P#", "PutItem R#", "UpdateItem R#"),
    "clean": ("DeleteItem H#", "UpdateItem C#", "PutItem W#"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRun:
    """Counts of one load.

    Attributes:
        counts: Units from the first message to the last cleaning, excluding the claims of kind numbers.
        body_bytes: Size of all messages.
        claims: Units of the claims of kind numbers. Each kind of an account is claimed only once.
        cpu_s: CPU time of our code by part.
        stored: Items in the tables before the cleaning.
        dictionaries: Read units for each account's dictionary, read once; empty in a region of few kinds.
        equal: Whether usage, rows and markers agreed at the end.
    """

    load: Load
    batches: int
    body_bytes: int
    counts: Mapping[str, float]
    claims: Mapping[str, float]
    cpu_s: Mapping[str, float]
    kinds: Kinds
    stored: Stored
    equal: bool
    dictionaries: Mapping[str, float] = field(default_factory=dict)

    @property
    def units(self) -> dict[str, float]:
        """Write units per batch by part."""
        return {
            part: sum(self.counts.get(f"write {name}", 0) for name in names) / self.batches
            for part, names in PARTS.items()
        }

    @property
    def units_a_batch(self) -> float:
        """All write units per batch."""
        return total(self.counts, "write ") / self.batches
