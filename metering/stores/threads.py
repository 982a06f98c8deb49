"""Independent calls side by side."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")
R = TypeVar("R")

# Calls of one job that are on their way at the same time. A client has more connections than that.
CALLS_AT_ONCE = 16
# Of scans on an emulator, which answers one call after the other, and walks the whole table for each page: with more of
# them at once, each waits longer than its client does.
_EMULATED_SCANS_AT_ONCE = 2
# Results that wait in memory for the one before them, as a multiple of the threads.
_AHEAD = 2


def scans_at_once(*, emulated: bool) -> int:
    """Parts of a table that a job reads at the same time."""
    return _EMULATED_SCANS_AT_ONCE if emulated else CALLS_AT_ONCE


def side_by_side(work: Callable[[T], R], things: Iterable[T], *, threads: int) -> Iterator[R]:
    """What `work` returns for each thing, in their order. Things are taken from the iterable in the caller's thread.

    After an error no further call begins, and it is raised when the calls that had begun have ended: nothing goes on
    behind the caller's back. A caller that stops iterating waits for them, too.

    Args:
        work: Called in threads, so it must be safe to call side by side.
        things: What it is called with.
        threads: Most calls at the same time. With 1 there are no threads: each call is made when it is asked for.
    """
    if threads <= 1:
        yield from map(work, things)
        return
    with ThreadPoolExecutor(threads) as pool:
        window: deque[Future[R]] = deque()
        try:
            for thing in things:
                window.append(pool.submit(work, thing))
                if len(window) >= _AHEAD * threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for waiting in window:
                waiting.cancel()


def do_all(work: Callable[[T], object], things: Iterable[T], *, threads: int) -> int:
    """Do the work for each thing; returns the number of things. Errors are as those of `side_by_side`."""
    return sum(1 for _ in side_by_side(work, things, threads=threads))
