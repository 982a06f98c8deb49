"""Calls of a job, the time that the job would wait for AWS, and the memory of its process."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metering.stores.writes import Key, Table
from metering.units import MIB
from tests.support.memory.items import MemoryItemStore

_POOL = "at-once-"


@dataclass(frozen=True, slots=True)
class Wait:
    """Latency of a call, and of each megabyte of its response; assumed values, as in `scale.py` of the design."""

    ms: float
    megabyte_ms: float = 0.0


# Milliseconds for one item, for 100 actions, for 100 items, for 1 MB of a query or scan, and for S3 calls.
WAITS = {
    "get": Wait(5),
    "put": Wait(5),
    "update": Wait(5),
    "delete": Wait(5),
    "transact": Wait(80),
    "get_many": Wait(25),
    "query": Wait(5, 60),
    "scan": Wait(5, 60),
    "s3.get": Wait(30, 12),
    "s3.put": Wait(40, 12),
    "s3.head": Wait(30),
    "s3.list": Wait(100),
    "s3.delete": Wait(100),
}


def name_pools() -> None:
    """Put each pool's thread count into its threads' names, so that `Meter` can divide parallel waits by the count."""
    original = ThreadPoolExecutor.__init__

    def named(self: ThreadPoolExecutor, max_workers: int | None = None, *args: Any, **others: Any) -> None:
        others.setdefault("thread_name_prefix", f"{_POOL}{max_workers or 1}")
        original(self, max_workers, *args, **others)

    ThreadPoolExecutor.__init__ = named  # type: ignore[method-assign]  # in the process of one measurement


class Meter:
    """Calls of one measurement. Threads share one instance."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.items: Counter[str] = Counter()
        self.waited_ms = 0.0
        self._lock = threading.Lock()

    def call(self, name: str, *, size_bytes: int = 0, items: int = 0, calls: int = 1) -> None:
        """Record a call, or one page of a call."""
        wait = WAITS[name]
        waited_ms = (wait.ms * calls + wait.megabyte_ms * size_bytes / 1e6) / _threads_at_once()
        with self._lock:
            self.calls[name] += calls
            self.bytes[name] += size_bytes
            self.items[name] += items
            self.waited_ms += waited_ms

    def measured(self, work: Callable[[], object]) -> tuple[Counter[str], float]:
        """Calls of some work, and the seconds that the calls would wait."""
        calls, waited_ms = Counter(self.calls), self.waited_ms
        work()
        return self.calls - calls, (self.waited_ms - waited_ms) / 1_000


def _threads_at_once() -> int:
    name = threading.current_thread().name
    return int(name.removeprefix(_POOL).partition("_")[0]) if name.startswith(_POOL) else 1


_STATM = Path("/proc/self/statm")
_PERIOD_S = 0.02
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Kept:
    """Items and objects that a job has written."""

    written: MemoryItemStore = field(default_factory=MemoryItemStore)
    touched: set[tuple[Table, Key]] = field(default_factory=set)
    partitions: dict[Table, dict[str, set[Key]]] = field(default_factory=lambda: {table: {} for table in Table})


class MemoryWatch:
    """Samples the memory of this process while a job works.

    In this benchmark a job's store is a dictionary that keeps all writes; in production it is a table. Each sample
    records the number of items, so that the items' size, measured at the end, can be subtracted. Without `/proc`, only
    the process's peak memory is known, and nothing is subtracted.

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
        """Stop, and return the peak memory in MiB, without the items stored at the peak."""
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
    """Bytes of an object and of everything that it alone references, except types, modules and functions."""
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
