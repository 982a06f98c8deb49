"""Ports for time, randomness and metrics; retried and concurrent calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

from metering.errors import TransactionCanceledError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.stores.writes import Action, ItemStore


class Clock(Protocol):
    """Wall clock. Safety relies on clocks only as in docs/protocol.md (marker life, 72 h before a period closes)."""

    def now_ms(self) -> int:
        """The time now, in epoch milliseconds."""

    def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""


class Entropy(Protocol):
    """Source of new unique names and of jitter."""

    def token(self) -> str:
        """A name never used before: 32 lower-case hex digits."""

    def below(self, limit: int) -> int:
        """A uniformly distributed random integer, 0 <= n < `limit`."""


class Deadline(Protocol):
    """Remaining time of an invocation."""

    def remaining_ms(self) -> int:
        """Milliseconds until the process is stopped; 0 or less after that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierDeadline:
    """A `Deadline` that is `before_ms` earlier than another `Deadline`."""

    deadline: Deadline
    before_ms: int

    def remaining_ms(self) -> int:
        return self.deadline.remaining_ms() - self.before_ms


class Metrics(Protocol):
    """Counters and gauges of the service. Metrics are never the source of a total (I1)."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""


class Gauges(Protocol):
    """Publishes durable state as figures, for alarms that must not depend on a function's counters."""

    def publish(self, values: Mapping[str, int]) -> None:
        """Publish the current value of each name; all values were measured at the same time."""


class Alerts(Protocol):
    """The two topics: `page` wakes the operator on call, `ticket` waits until morning."""

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        """Publish one alert. `severity` is `page` or `ticket`."""


T = TypeVar("T")

_FIRST_PAUSE_MS = 50
_LONGEST_PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrier:
    """The common retry policy: how often an unavailable dependency is called, and how long to wait before each retry.

    Attributes:
        attempts: Maximum number of calls of one operation, including the first call.
    """

    clock: Clock
    entropy: Entropy
    attempts: int

    def pause(self, failures: int) -> None:
        """Wait after failure number `failures` (from 1): full jitter, with a limit that doubles from 50 ms to 1 s."""
        limit_ms = min(_FIRST_PAUSE_MS << (failures - 1), _LONGEST_PAUSE_MS)
        self.clock.sleep_ms(1 + self.entropy.below(limit_ms))

    def call(self, operation: Callable[[], T], *, go_on: Callable[[], bool] = lambda: True) -> T:
        """Call an operation, which must be safe to repeat, until it returns a result.

        Args:
            operation: Operation to call.
            go_on: Called after each failure except the last; if it returns False, the failure is raised.

        Raises:
            UnavailableError: The operation was unavailable `attempts` times, or `go_on` returned False.
        """
        failures = 0
        while True:
            try:
                return operation()
            except UnavailableError:
                failures += 1
                if failures >= self.attempts or not go_on():
                    raise
            self.pause(failures)

    def transact(self, items: ItemStore, actions: Sequence[Action]) -> bool:
        """Send a transaction until it is sure. Returns False if one of its conditions failed.

        Raises:
            UnavailableError: The outcome is unknown, or items were busy `attempts` times.
        """
        failures = 0
        while True:
            try:
                self.call(lambda: items.transact(actions))
            except TransactionCanceledError as error:
                if error.condition_failed:
                    return False
                failures += 1
                if failures >= self.attempts:
                    raise UnavailableError("dynamodb", "items are busy", may_have_applied=False) from error
                self.pause(failures)
            else:
                return True


R = TypeVar("R")

# Number of calls that one job makes in parallel. A client has more connections than that.
CALLS_AT_ONCE = 16
# The roll-up waits most: it updates one item a call.
ROLLUP_CALLS_AT_ONCE = 24
# Number of parallel scans on an emulator, which processes one call at a time and reads the whole table for each page:
# with more scans, every scan would time out.
_EMULATED_SCANS_AT_ONCE = 2
# Finished results that are kept in memory until an earlier result is finished, as a multiple of the number of threads.
_AHEAD = 2


def scans_at_once(*, emulated: bool) -> int:
    """Number of parts of a table that a job reads concurrently."""
    return _EMULATED_SCANS_AT_ONCE if emulated else CALLS_AT_ONCE


def in_blocks(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the things in lists of `size` things, each list read on demand."""
    left = iter(things)
    while block := list(islice(left, size)):
        yield block


def side_by_side(work: Callable[[T], R], things: Iterable[T], *, threads: int) -> Iterator[R]:
    """Results of `work` for each thing, in input order. The caller's thread iterates over `things`.

    After an error, no further call is started, and the error is raised once all started calls have ended. If the caller
    stops iterating, the generator also waits for started calls.

    Args:
        work: Called in several threads, so it must be thread-safe.
        things: Arguments, one for each call.
        threads: Maximum number of concurrent calls. If 1, no threads are used, and each call is made on demand.
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
    """Do the work for each thing; returns the number of things. Raises the same errors as `side_by_side`."""
    return sum(1 for _ in side_by_side(work, things, threads=threads))
