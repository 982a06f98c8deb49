"""Memory of a job: that of the process, without what the measurement itself keeps of what the job has written."""

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
        written: Items as they are now.
        touched: Keys of all that was ever written or deleted; what else there is, is computed.
        partitions: The same by partition.
    """

    written: MemoryItemStore = field(default_factory=MemoryItemStore)
    touched: set[tuple[Table, Key]] = field(default_factory=set)
    partitions: dict[Table, dict[str, set[Key]]] = field(default_factory=lambda: {table: {} for table in Table})


class MemoryWatch:
    """Samples the memory of this process while a job works.

    A job's store here is a dictionary of all that it wrote, which grows and never shrinks; in production it is a table.
    Each sample remembers how many items there were, so that their size, which is measured at the end, can be taken out
    of the sample. Without `/proc`, only the most memory of the process is known, and nothing is taken out.

    Args:
        count: Number of items that are kept just now.
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
        """End; most memory without the items that were kept by then, in MiB.

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
    """Bytes of an object and of all that only it leads to; types, modules and functions are left out."""
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
