"""Reads an emulator's counts."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.wire.sitecustomize import COUNTS_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.adapters.aws.session import Clients

# The emulator writes its counts a few times a second, during a call.
_SETTLE_S = 0.5


@contextmanager
def counting_emulator(path: Path) -> Iterator[WireCounts]:
    """Make an emulator that is started within this block count its requests.

    Args:
        path: File of the counts.
    """
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
        # This call makes the emulator write its counts.
        clients.s3.list_buckets()
        return Sums(json.loads(self._path.read_text()) if self._path.exists() else {})


class Sums(dict[str, float]):
    """Sums by name. Sums can be added and subtracted; zeros are left out."""

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
