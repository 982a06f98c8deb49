"""Number of messages that an event source mapping hands over at once: a seeded model of its pollers.

`python -m load_tests.mapping` prints the distribution for windows, pollers and rates. The pollers cannot be seen from
outside of AWS, so the model follows the documentation: a receive returns at most ten messages, and a poller invokes the
function once it has a full batch, or once the window is over that began with the first message of the batch. `metering
doctor --thorough` measures the real pollers (`mapping-fill`).
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, quantiles

from load_tests.costs import MESSAGES, TARGET_BATCHES_PER_DAY
from metering.operations.own_costs import PROCESSING_USD, S3_PUT_USD
from metering.units import DAY_S

# Before and since decision 0054.
WINDOWS_S = (5, 15)
POLLERS = (5, 20)
# The mean of 12 million batches a day, and three times that.
RATES = (TARGET_BATCHES_PER_DAY // DAY_S, 3 * TARGET_BATCHES_PER_DAY // DAY_S)
_RECEIVED_AT_ONCE = 10
# Time of a receive that finds messages.
_RECEIVE_S = 0.02
# Writes of a commit that do not depend on its batches: commit, waiting entry, and what places and cleans it.
_COMMIT_UNITS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Invocations of one run.

    Attributes:
        messages: Number of messages of each invocation.
        waited_s: Mean time of a message in its poller's batch, in seconds.
    """

    messages: tuple[int, ...]
    waited_s: float

    @property
    def usd_a_day(self) -> float:
        """Cost of a day of invocations and commits without their batches, at list prices."""
        unit = float(PROCESSING_USD["DynamoDB write request unit (on demand)"])
        each = _COMMIT_UNITS * unit + float(S3_PUT_USD) + float(PROCESSING_USD["Lambda request"])
        return TARGET_BATCHES_PER_DAY / mean(self.messages) * each


class _Mapping:
    """Pollers and the queue before them; events are handled in the order of their times."""

    def __init__(self, pollers: int, window_s: float) -> None:
        self.sent: list[int] = []
        self.waited_s = 0.0
        self._window_s = window_s
        self._queue: deque[float] = deque()
        self._taken: list[list[float]] = [[] for _ in range(pollers)]
        self._idle = list(range(pollers))
        self._events: list[tuple[float, str, int]] = []

    def until(self, at_s: float) -> None:
        """Handle the events before a time."""
        while self._events and self._events[0][0] < at_s:
            now_s, what, poller = heapq.heappop(self._events)
            if what == "received":
                self._receive(poller, now_s)
            elif self._taken[poller] and now_s - self._taken[poller][0] >= self._window_s - _RECEIVE_S / 2:
                self._invoke(poller, now_s)

    def arrive(self, at_s: float, chance: random.Random) -> None:
        """Put a message into the queue; a poller that waits gets it."""
        self._queue.append(at_s)
        if self._idle:
            self._receive(self._idle.pop(chance.randrange(len(self._idle))), at_s)

    def _receive(self, poller: int, at_s: float) -> None:
        taken = self._taken[poller]
        if not self._queue:
            self._idle.append(poller)
            return
        if not taken:
            heapq.heappush(self._events, (at_s + self._window_s, "window", poller))
        for _ in range(min(_RECEIVED_AT_ONCE, MESSAGES - len(taken), len(self._queue))):
            taken.append(self._queue.popleft())
        if len(taken) == MESSAGES:
            self._invoke(poller, at_s)
        heapq.heappush(self._events, (at_s + _RECEIVE_S, "received", poller))

    def _invoke(self, poller: int, at_s: float) -> None:
        self.sent.append(len(self._taken[poller]))
        self.waited_s += sum(at_s - each for each in self._taken[poller])
        self._taken[poller] = []


def filled(*, rate_per_s: float, pollers: int, window_s: float, seconds: float = 300, seed: int = 1) -> Filled:
    """Let messages arrive at random, and pollers receive them.

    Args:
        rate_per_s: Messages per second, on average.
        pollers: Number of pollers that receive, all the time.
        window_s: Longest time from a batch's first message to its invocation.
        seconds: Length of the run.
        seed: Of the chance.
    """
    chance, mapping, at_s = random.Random(seed), _Mapping(pollers, window_s), 0.0
    while at_s < seconds:
        at_s += chance.expovariate(rate_per_s)
        mapping.until(at_s)
        mapping.arrive(at_s, chance)
    return Filled(messages=tuple(mapping.sent), waited_s=mapping.waited_s / max(sum(mapping.sent), 1))


def main(arguments: Sequence[str]) -> int:
    """Print a line for each window, number of pollers and rate."""
    del arguments
    print(
        f"messages an invocation, of at most {MESSAGES}; USD a day of what is once an invocation, at 12 million batches"
    )
    print(f"{'window':>7}{'pollers':>9}{'a second':>10}{'p10':>6}{'p50':>6}{'p90':>6}{'mean':>7}{'waits':>8}{'USD':>7}")
    for window_s in WINDOWS_S:
        for pollers in POLLERS:
            for rate in RATES:
                run = filled(rate_per_s=rate, pollers=pollers, window_s=window_s)
                tenths = quantiles(run.messages, n=10)
                print(
                    f"{window_s:>5} s{pollers:>9}{rate:>10}{tenths[0]:>6.0f}{tenths[4]:>6.0f}{tenths[8]:>6.0f}"
                    f"{mean(run.messages):>7.0f}{run.waited_s:>6.1f} s{run.usd_a_day:>7.2f}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
