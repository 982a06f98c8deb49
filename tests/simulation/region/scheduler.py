"""A scheduler of greenlets over simulated time: one seed, one order of events.

Before each port call of a process, other processes may run. Random latencies determine the order of events; there is no
other source of concurrency.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from greenlet import getcurrent, greenlet


class KilledError(BaseException):
    """The process dies here. Not an `Exception`, so that code under test does not catch it."""


class Scheduler:
    """Runs processes and timed events in the order of simulated time."""

    __slots__ = ("_heap", "_hub", "_number", "_processes", "_until_ms", "now_ms")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._heap: list[tuple[int, int, Callable[[], object]]] = []
        self._number = 0
        self._until_ms = now_ms
        self._hub = getcurrent()
        self._processes: list[greenlet] = []

    def __getstate__(self) -> tuple[None, dict[str, object]]:
        """State for a copy of a region at rest: no event may be pending, and no process may be running."""
        if self._heap or not all(process.dead for process in self._processes):
            raise ValueError("a region can be kept only when nothing is to happen in it any more")
        times = {"now_ms": self.now_ms, "_until_ms": self._until_ms, "_number": self._number}
        return None, {**times, "_heap": [], "_processes": []}

    def at(self, at_ms: int, event: Callable[[], object]) -> None:
        self._number += 1
        heappush(self._heap, (max(at_ms, self.now_ms), self._number, event))

    def spawn(self, body: Callable[[], None], *, delay_ms: int = 0) -> greenlet:
        process = greenlet(body)
        self._processes.append(process)
        self.at(self.now_ms + delay_ms, process.switch)
        return process

    def wait(self, delay_ms: int) -> None:
        """Let simulated time pass for the calling process."""
        due_ms = self.now_ms + delay_ms
        heap = self._heap
        if due_ms <= self._until_ms and (not heap or heap[0][0] > due_ms):
            # No other event is due earlier, so switching greenlets is unnecessary.
            self.now_ms = due_ms
            return
        self._number += 1
        heappush(heap, (due_ms, self._number, getcurrent().switch))
        self._hub.switch()

    def run_until(self, until_ms: int) -> None:
        """Run every event that is due up to a time, and set the clock to that time."""
        self._hub = getcurrent()
        self._until_ms = until_ms
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            due_ms, _, event = heappop(heap)
            self.now_ms = due_ms
            event()
        self.now_ms = until_ms

    def run_while(self, busy: Callable[[], bool], *, limit_ms: int) -> bool:
        """Run events while `busy()`, at most for `limit_ms`; return whether `busy()` became false."""
        self._hub = getcurrent()
        self._until_ms = self.now_ms + limit_ms
        heap = self._heap
        while busy():
            if not heap or heap[0][0] > self._until_ms:
                return False
            due_ms, _, event = heappop(heap)
            self.now_ms = due_ms
            event()
        return True

    def end(self) -> None:
        """Drop all pending events and the processes that wait for them."""
        self._heap.clear()
        for process in self._processes:
            process.throw()
        self._processes.clear()
