"""One simulated region: stores, queue, clock, randomness and watch. It has no faults of its own."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from metering.stores.writes import DYNAMODB_LIMITS, Key, Table
from tests.simulation.checks.watch import Watch
from tests.simulation.region.landing import Landing
from tests.simulation.region.ports import Process
from tests.simulation.region.scheduler import Scheduler
from tests.simulation.region.sqs import SimulatedQueue
from tests.simulation.sent.senders import Senders
from tests.support.region import MemoryStores

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.stores.writes import ActionLimits, Item
    from tests.simulation.region.faults import Decider
    from tests.simulation.sent.contents import SentContent


class World(MemoryStores):
    """All that processes share.

    Attributes:
        limits: Maximum number of actions in a transaction. With a small limit, small batches make several commits, and
            commits are placed by several transactions.
        short_until_ms: Until this time the tables lack write capacity: most writes are throttled.
        listen: Called with each new process, to wrap its ports.
    """

    def __init__(
        self,
        seed: int,
        faults: Decider,
        *,
        now_ms: int,
        limits: ActionLimits = DYNAMODB_LIMITS,
        senders: Senders | None = None,
    ) -> None:
        self.faults = faults
        self.limits = limits
        self.scheduler = Scheduler(now_ms)
        # One random stream per purpose, so that removing a fault or a batch shifts the others as little as possible
        # when a failing history is shortened.
        self.latency = random.Random(f"latency {seed}")
        self.names = random.Random(f"names {seed}")
        self.pages = random.Random(f"pages {seed}")
        self._shortage = random.Random(f"shortage {seed}")
        self.short_until_ms = 0
        super().__init__(self)
        self.queue = SimulatedQueue(self.scheduler, random.Random(f"queue {seed}"), faults.histogram)
        self.contents: dict[str, SentContent] = {}
        self.senders = senders or Senders.none()
        self.queue.judged = self.senders.judged
        self.senders.register(self.items)
        self.watch = Watch(self)
        self.landing = Landing(self.items, self.scheduler, random.Random(f"landing {seed}"))
        self.listen: Callable[[Process], None] | None = None
        self._processes: list[Process] = []

    def __getstate__(self) -> dict[str, object]:
        """For copying a region at rest. No earlier process takes part any more."""
        return {**vars(self), "_processes": []}

    def now_ms(self) -> int:
        """True time (S3 stamps objects with it)."""
        return self.scheduler.now_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self.scheduler.wait(duration_ms)

    def process(self, name: str, *, skew_ms: int = 0) -> Process:
        """A new process."""
        process = Process(self, name, skew_ms=skew_ms)
        if self.listen is not None:
            self.listen(process)
        self._processes.append(process)
        return process

    def is_short(self) -> bool:
        """Whether a write is throttled now because a table lacks write capacity."""
        if self.scheduler.now_ms >= self.short_until_ms or self._shortage.random() < 0.1:
            return False
        self.faults.histogram["throttled for a while"] += 1
        return True

    def peek(self, key: Key) -> Item | None:
        """Return a ledger item without counting a call."""
        return self.items.peek(Table.LEDGER, key)

    def expire(self, chance: random.Random) -> int:
        """TTL: delete some of the expired items; DynamoDB does not promise when."""
        now_s = self.scheduler.now_ms // 1000
        due = [
            Key(str(item["pk"]), str(item["sk"]))
            for item in self.items.everything(Table.LEDGER)
            if int(item.get("expires_at", now_s)) < now_s and chance.random() < 0.7  # type: ignore[arg-type]  # a number
        ]
        for key in due:
            self.items.remove(Table.LEDGER, key)
        return len(due)

    def end_of_life(self, prefix: str, age_s: int, chance: random.Random) -> int:
        """S3 lifecycle: delete some of the objects that are old enough."""
        now_s = self.scheduler.now_ms // 1000
        due = [
            info.key for info in self.objects.list(prefix) if info.modified_s + age_s < now_s and chance.random() < 0.7
        ]
        for key in due:
            self.objects.remove(key)
        return len(due)

    def end(self) -> None:
        """Free everything now: garbage that waits for collection evicts the next history from the CPU cache."""
        self.scheduler.end()
        for process in self._processes:
            vars(process).clear()
        vars(self).clear()
