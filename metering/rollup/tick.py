"""One tick of the roll-up function: it goes on until the next tick begins, with a run each few seconds (P44)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.rollup.rollup import RollupResult

if TYPE_CHECKING:
    from metering.rollup.rollup import Rollup
    from metering.stores.clock import Clock, Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class _UntilNextTick:
    """Deadline of a tick: nothing begins any more when the next tick does, and that one goes on where this stopped."""

    clock: Clock
    end_ms: int
    deadline: Deadline

    def remaining_ms(self) -> int:
        return min(self.deadline.remaining_ms(), self.end_ms - self.clock.now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupTick:
    """Rolls up for the length of a tick.

    Attributes:
        every_s: Least time between the beginnings of two runs of a chain.
        tick_s: Time from one tick to the next.
    """

    rollup: Rollup
    clock: Clock
    every_s: int
    tick_s: int

    def run(self, deadline: Deadline, *, shard: int | None = None) -> RollupResult:
        """Run whenever something waits and the last run began long enough ago. It ends early if nothing waits.

        Args:
            deadline: End of the process.
            shard: Shard of this invocation (`metering.ledger.shards.shards_of`); None for all.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. The other shards were rolled up.
            UnavailableError: The outcome of a call is unknown; the next tick resumes.
        """
        end_ms = self.clock.now_ms() + self.tick_s * 1000
        until = _UntilNextTick(clock=self.clock, end_ms=end_ms + self.rollup.reserve_ms, deadline=deadline)
        runs = commits = items = 0
        while True:
            result = self.rollup.run(until, shard=shard, every_s=self.every_s)
            runs += result.runs
            commits += result.commits
            items += result.items
            due_ms = self.clock.now_ms() + result.due_in_ms
            if not result.due_in_ms or due_ms >= end_ms:
                return RollupResult(
                    runs=runs, commits=commits, items=items, finished=result.finished, due_in_ms=result.due_in_ms
                )
            self.clock.sleep_ms(result.due_in_ms)
