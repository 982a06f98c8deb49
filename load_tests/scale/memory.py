"""Memory of a job: its process's memory, without what the measurement itself holds of the job's writes."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from metering.stores.writes import Key, Table
from metering.units import MIB
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from collections.abc import Callable

_STATM = Path("/proc/self/statm")
_PERIOD_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Kept:
    """Items and objects that a job has written.

    Attributes:
        written: Items in their current state.
        touched: Keys of all items ever written or deleted; all other items are computed.
        partitions: The same by partition.
    """

    written: MemoryItemStore = field(default_factory=MemoryItemStore)
    touched: set[tuple[Table, Key]] = field(default_factory=set)
    partitions: dict[Table, dict[str, set[Key]]] = field(default_factory=lambda: {table: {} for table in Table})


class MemoryWatch:
    """Samples the memory of this process while a job works.

    A job's store here is a dictionary of its writes, which only grows; in production it is a table. Each sample records
    the number of items, so that their size, measured at the end, can be subtracted from it. Without `/proc`, only the
    process's peak memory is known, and nothing is subtracted.

    Args:
        count: Number of items currently stored.
        resident: Current memory of the process, in bytes; 0 if unknown.
    """

    def __init__(self, count: Callable[[], int], resident: Callable[[], int] | None = None) -> None:
        self._count = count
        self._resident = resident or _resident
        # Peak memory by the number of items, in bytes: one entry per thousand items.
        self._most: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def most_mib(self, held: object) -> int:
        """Stop; peak memory without the items stored at that time, in MiB.

        Args:
            held: What keeps the items.
        """
        self._done.set()
        self._thread.join()
        if not self._most:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        count = self._count()
        each_bytes = deep_bytes(held) / count if count else 0.0
        return round(max(size - thousands * 1_000 * each_bytes for thousands, size in self._most.items()) / MIB)

    def _watch(self) -> None:
        while not self._done.wait(_PERIOD_S):
            size, thousands = self._resident(), self._count() // 1_000
            if size:
                self._most[thousands] = max(size, self._most.get(thousands, 0))


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * _PAGE_BYTES if _STATM.exists() else 0


def deep_bytes(held: object) -> int:
    """Bytes of an object and of everything that only it references, except types, modules and functions."""
    seen: set[int] = set()
    waiting, total = [held], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (type, type(sys), type(deep_bytes))):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting.extend(gc.get_referents(one))
    return total
