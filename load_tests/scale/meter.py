"""Counts the calls of a job, and the time that they would wait for AWS."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_POOL = "at-once-"


@dataclass(frozen=True, slots=True)
class Wait:
    """Latency of a call, and of each further megabyte of its response; assumed, as in `scale.py` of the design."""

    ms: float
    megabyte_ms: float = 0.0


# Milliseconds for one item, 100 actions, 100 items, 1 MB of a query or scan, and for S3 calls.
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
    """Put each pool's number of threads into their names, so that parallel waiting is divided by it."""
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
        """Record a call, or a page of one."""
        wait = WAITS[name]
        at_once = _threads_at_once()
        waited_ms = (wait.ms * calls + wait.megabyte_ms * size_bytes / 1e6) / at_once
        with self._lock:
            self.calls[name] += calls
            self.bytes[name] += size_bytes
            self.items[name] += items
            self.waited_ms += waited_ms

    def measured(self, work: Callable[[], object]) -> tuple[Counter[str], float]:
        """Calls of some work, and its seconds of waiting."""
        calls, waited_ms = Counter(self.calls), self.waited_ms
        work()
        return self.calls - calls, (self.waited_ms - waited_ms) / 1_000


def _threads_at_once() -> int:
    name = threading.current_thread().name
    return int(name.removeprefix(_POOL).partition("_")[0]) if name.startswith(_POOL) else 1
