"""A day of the ledger with provisioned capacity: auto scaling's lags, the commits that it throttles, what it costs.

The load is 139 batches/s on average, and three times that for two hours, from one second to the next. The table has a
bucket of units that its capacity fills, for 300 s at most (burst). Auto scaling acts minute by minute: it sees a
minute's consumption late, raises capacity after two minutes above its target, lowers it after fifteen minutes far below
it, and only a few times a day; a change takes minutes. Throttled demand is invisible to it. Messages, workers and their
pauses are those of production (`metering.commit.throttling`). `python -m load_tests.capacity` prints the table of
docs/scale.md.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from load_tests.costs import MESSAGES, TARGET_BATCHES_PER_DAY
from metering.commit.throttling import ALONE_FROM_RECEIVE, ThrottleMemory, hidden_s
from metering.fleet.stage import TARGET_PERCENT, StageConfig
from metering.operations.own_costs import PROCESSING_USD, PROVISIONED_USD_HOUR
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.commit.transaction import CommitBody

_TARGET = TARGET_PERCENT / 100
# A commit writes two items beside its markers; each takes two units in a transaction.
_UNITS, _BESIDE = 2, 2
# Further units a batch of the jobs that write the ledger, counted at 16 keys (docs/scale.md).
_JOBS_A_BATCH = 0.21
_MINUTES_A_DAY = DAY_S // MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Lags:
    """Lags and limits of auto scaling (DynamoDB developer guide: auto scaling; burst capacity; table quotas).

    Attributes:
        metric_min: Minutes until CloudWatch has the consumption of a minute.
        high_min, low_min: Minutes in a row above the target, or below `low`, after which capacity is changed.
        low: Share in use below which capacity is lowered: 20 points below the target.
        update_min: Minutes until a change is in force.
        burst_s: Seconds of unused capacity that a table keeps.
        decreases: Decreases that a day allows at any time; a further one needs an hour without a decrease.
    """

    metric_min: int = 1
    high_min: int = 2
    low_min: int = 15
    low: float = _TARGET - 0.2
    update_min: int = 2
    burst_s: int = 300
    decreases: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Batches a second by the second of a day: `mean` on average, and `times` as many from `begin_s` to `end_s`."""

    mean: float = TARGET_BATCHES_PER_DAY / DAY_S
    times: float = 3.0
    begin_s: int = 12 * HOUR_S
    end_s: int = 14 * HOUR_S

    def at(self, second: int) -> float:
        if self.begin_s <= second % DAY_S < self.end_s:
            return self.times * self.mean
        peak_s = self.end_s - self.begin_s
        return self.mean * (DAY_S - self.times * peak_s) / (DAY_S - peak_s)


@dataclass(slots=True, kw_only=True)
class Scaler:
    """Provisioned write capacity, and the bucket of what is unused."""

    config: StageConfig
    lags: Lags
    capacity: int
    bucket: float = 0.0
    consumed: list[float] = field(default_factory=lambda: [0.0])
    capacities: list[int] = field(default_factory=list)
    _pending: tuple[int, int] | None = None
    _since: int = 0
    _decreased: list[int] = field(default_factory=list)

    def second(self) -> None:
        """Fill the bucket with a second's capacity."""
        self.bucket = min(self.bucket + self.capacity, self.capacity * (1 + self.lags.burst_s))

    def take(self, units: float) -> bool:
        """Consume units; False if they are throttled."""
        if units > self.bucket:
            return False
        self.bucket -= units
        self.consumed[-1] += units
        return True

    def minute(self) -> None:
        """End a minute: bring a change into force, or decide on one."""
        now = len(self.consumed)
        self.capacities.append(self.capacity)
        self.consumed.append(0.0)
        if self._pending is not None and now >= self._pending[0]:
            self.capacity, self._pending, self._since = self._pending[1], None, now
        if self._pending is None and (wanted := self._wanted(now - self.lags.metric_min)) != self.capacity:
            self._pending = (now + self.lags.update_min, wanted)
            if wanted < self.capacity:
                self._decreased.append(now)

    def _wanted(self, seen: int) -> int:
        """Capacity that auto scaling wants at the end of the minutes that it sees, since the last change."""
        high, low = self._last(seen, self.lags.high_min), self._last(seen, self.lags.low_min)
        if high and min(high) > _TARGET * self.capacity:
            return self._of(high[-1])
        if low and max(low) < self.lags.low * self.capacity and self._may_decrease(seen):
            return min(self._of(max(low)), self.capacity)
        return self.capacity

    def _last(self, seen: int, minutes: int) -> list[float]:
        """Units a second of the last visible minutes; empty if the capacity was changed within them."""
        first = seen - minutes
        return [] if first < self._since else [each / MINUTE_S for each in self.consumed[first:seen]]

    def _of(self, used: float) -> int:
        least, most = self.config.writes_per_s
        return min(max(math.ceil(used / _TARGET), least), most)

    def _may_decrease(self, now: int) -> bool:
        today = [each for each in self._decreased if each // _MINUTES_A_DAY == now // _MINUTES_A_DAY]
        return len(today) < self.lags.decreases or now - today[-1] >= HOUR_S // MINUTE_S


class _Clock:
    """Clock of the simulated second, and seeded chance, as `ThrottleMemory` needs them."""

    def __init__(self, seed: int) -> None:
        self.second = 0
        self.random = random.Random(seed)

    def now_ms(self) -> int:
        return self.second * 1_000

    def sleep_ms(self, duration_ms: int) -> None:
        raise NotImplementedError

    def token(self) -> str:
        raise NotImplementedError

    def below(self, limit: int) -> int:
        return self.random.randrange(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Outcome of a simulated day.

    Attributes:
        batches, accepted, dead: Sent batches, accepted ones, and dead letters.
        commits, throttled: Attempted commits, and throttled ones.
        throttled_min: Minutes with a throttled commit.
        receives: Accepted batches by their number of receives.
        longest_s: Longest time from the send of a batch to its acceptance.
        units, capacity: Consumed and provisioned write units.
        most: Greatest capacity, in units a second.
    """

    batches: int
    accepted: int
    dead: int
    commits: int
    throttled: int
    throttled_min: int
    receives: Counter[int]
    longest_s: int
    units: float
    capacity: float
    most: int

    @property
    def use(self) -> float:
        """Share of the provisioned units that were consumed."""
        return self.units / self.capacity

    @property
    def usd(self) -> tuple[float, float]:
        """Price of the writes: on demand, and provisioned."""
        on_demand = float(PROCESSING_USD["DynamoDB write request unit (on demand)"])
        provisioned = float(PROVISIONED_USD_HOUR["DynamoDB write unit (provisioned)"]) / HOUR_S
        return self.units * on_demand, self.capacity * provisioned


# Messages: the second of their send, how often they were received, and how many they are.
_Messages = tuple[int, int, int]


class World:
    """Queue, workers and table of a day."""

    def __init__(self, config: StageConfig, lags: Lags, curve: Curve, *, seed: int) -> None:
        self._config, self._curve = config, curve
        self._clock = _Clock(seed)
        least, most = config.writes_per_s
        need = math.ceil(curve.at(0) * (_UNITS + _JOBS_A_BATCH) / _TARGET)
        self.table = Scaler(config=config, lags=lags, capacity=min(max(need, least), most))
        self._workers = deque(
            ThrottleMemory(clock=self._clock, entropy=self._clock) for _ in range(config.max_concurrency)
        )
        self._ready: deque[_Messages] = deque()
        self._waiting = 0
        self._hidden: dict[int, list[_Messages]] = {}
        self._jobs_owe = 0.0
        self._fluctuation = 1.0
        self.sent = self.dead = self.commits = self.throttled = self.longest_s = 0
        self.throttled_in: set[int] = set()
        self.receives: Counter[int] = Counter()

    def run(self, seconds: int) -> Day:
        """Simulate so many seconds."""
        for second in range(seconds):
            self._second(second)
        table = self.table
        return Day(
            batches=self.sent,
            accepted=self.receives.total(),
            dead=self.dead,
            commits=self.commits,
            throttled=self.throttled,
            throttled_min=len(self.throttled_in),
            receives=self.receives,
            longest_s=self.longest_s,
            units=sum(table.consumed),
            capacity=float(sum(table.capacities)) * MINUTE_S,
            most=max(table.capacities),
        )

    def _second(self, second: int) -> None:
        self._clock.second = second
        self.table.second()
        arrived = self._arrivals(second)
        self.sent += arrived
        back = self._hidden.pop(second, [])
        self._ready.extend([*back, (second, 0, arrived)])
        self._waiting += arrived + sum(each[2] for each in back)
        # The mapping hands over full batches, and what waits at the end of its window.
        for _ in range(self._config.max_concurrency):
            if not self._waiting or (self._waiting < MESSAGES and second % self._config.batch_window_s):
                break
            self._invoke(list(self._received()))
        if self.table.take(self._jobs_owe):
            self._jobs_owe = 0.0
        if second % MINUTE_S == MINUTE_S - 1:
            self.table.minute()
            self._fluctuation = self._clock.random.gauss(1.0, 0.03)

    def _arrivals(self, second: int) -> int:
        expected = self._curve.at(second) * self._fluctuation
        return max(0, round(self._clock.random.gauss(expected, math.sqrt(expected))))

    def _received(self) -> Iterator[_Messages]:
        """Take as many messages as an invocation gets."""
        left = min(MESSAGES, self._waiting)
        self._waiting -= left
        while left:
            sent, count, number = self._ready.popleft()
            taken = min(number, left)
            if taken < number:
                self._ready.appendleft((sent, count, number - taken))
            left -= taken
            if taken:
                yield sent, count + 1, taken

    def _invoke(self, messages: list[_Messages]) -> None:
        """One invocation, as `metering.commit.committer` does it: old messages come last, each by itself."""
        memory = self._workers[0]
        self._workers.rotate(-1)
        if memory.body is not None and not memory.pausing:
            self._attempt(memory, MESSAGES)
        commits = [[each for each in messages if each[1] < ALONE_FROM_RECEIVE]]
        alone = [each for each in messages if each[1] >= ALONE_FROM_RECEIVE]
        commits += [[(sent, count, 1)] for sent, count, number in alone for _ in range(number)]
        for some in filter(None, commits):
            if not memory.pausing and self._attempt(memory, sum(number for _, _, number in some)):
                self._accept(some)
            else:
                self._put_back(some)

    def _attempt(self, memory: ThrottleMemory, batches: int) -> bool:
        self.commits += 1
        if self.table.take(_UNITS * (batches + _BESIDE)):
            memory.got_through()
            return True
        self.throttled += 1
        self.throttled_in.add(self._clock.second // MINUTE_S)
        # The memory only keeps the body, so any will do.
        memory.throttled(cast("CommitBody", self))
        return False

    def _accept(self, messages: list[_Messages]) -> None:
        for sent, count, number in messages:
            self._jobs_owe += _JOBS_A_BATCH * number
            self.receives[count] += number
            self.longest_s = max(self.longest_s, self._clock.second - sent)

    def _put_back(self, messages: list[_Messages]) -> None:
        for sent, count, number in messages:
            if count >= self._config.max_receives:
                self.dead += number
                continue
            for _ in range(number):
                again_s = self._clock.second + hidden_s(count, self._clock)
                self._hidden.setdefault(again_s, []).append((sent, count, 1))


PROVISIONED = StageConfig.load("prod", {"billing": "provisioned"})
SCENARIOS: dict[str, tuple[Lags, Curve]] = {
    "as AWS describes it": (Lags(), Curve()),
    "a change takes 10 minutes": (Lags(update_min=10), Curve()),
    "burst of 60 s": (Lags(burst_s=60), Curve()),
    "4 x for two hours": (Lags(), Curve(times=4)),
}


def simulated(
    lags: Lags, curve: Curve, *, config: StageConfig = PROVISIONED, seconds: int = DAY_S, seed: int = 1
) -> Day:
    """Simulate a day, or its first seconds."""
    return World(config, lags, curve, seed=seed).run(seconds)


def main() -> int:
    """Print the table of docs/scale.md; returns 1 if a batch became a dead letter on a day as AWS describes it."""
    days = {name: simulated(*scenario) for name, scenario in SCENARIOS.items()}
    sys.stdout.write("\n".join(lines(days)) + "\n")
    return judged(days)


def judged(days: Mapping[str, Day]) -> int:
    """Exit code for these days. Those of a slower AWS only show what would then happen."""
    return 1 if any(day.dead for name, day in days.items() if SCENARIOS[name][0] == Lags()) else 0


def lines(days: dict[str, Day]) -> Iterator[str]:
    """Lines of the table."""
    yield "| a day | throttled commits | in minutes | most receives | longest wait | dead | use | USD |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, day in days.items():
        on_demand, provisioned = day.usd
        yield (
            f"| {name} | {day.throttled:,} of {day.commits:,} | {day.throttled_min} | {max(day.receives)} "
            f"| {day.longest_s:,} s | {day.dead} | {day.use:.0%} | {provisioned:.2f} in place of {on_demand:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
