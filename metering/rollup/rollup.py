"""The roll-up: books the usage of waiting commits by runs, then places the commits for the compactor (P23).

Steps of a run, in this order, each sure before the next begins: **add** every sum of the plan to its usage item, once;
**place** every commit (pending entry and pointers, while its waiting entry is there), then delete the waiting entry;
set the run to `done`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.lake.ports import StagedUsage
    from metering.ledger.usage.kinds import KindNumbers
    from metering.settings import Policy
    from metering.stores.clock import Clock, Deadline, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics
    from metering.stores.writes import ActionLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPolicy:
    """How much one run takes, and how it books. Safety does not depend on it.

    Attributes:
        commits: Most commits of a run.
        blocks: Whether many usage items are booked in one transaction, at two units each.
    """

    commits: int
    blocks: bool

    @classmethod
    def of(cls, policy: Policy) -> RollupPolicy:
        """Roll-up part of a stage's policy."""
        return cls(commits=policy.rollup_commits, blocks=bool(policy.rollup_blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupResult:
    """Result of one call of `Rollup.run`.

    Attributes:
        runs: Runs that this call brought to `done`.
        commits: Commits of those runs.
        items: Updates of usage items that this call made.
        finished: Whether nothing waits any more; False if time ran out.
    """

    runs: int
    commits: int
    items: int
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """Rolls up the usage of one region. Any number of processes may do so at once.

    Attributes:
        shards: The stage's number of shards.
        reserve_ms: With less time left, no further step is begun.
    """

    items: ItemStore
    objects: ObjectStore
    staged: StagedUsage
    numbers: KindNumbers
    clock: Clock
    entropy: Entropy
    retrier: Retrier
    metrics: Metrics
    alerts: Alerts
    policy: RollupPolicy
    limits: ActionLimits
    shards: int
    reserve_ms: int = 10_000

    def run(self, deadline: Deadline, *, shard: int | None = None) -> RollupResult:
        """Resume what is planned, then plan and work until nothing waits or time runs short.

        Args:
            deadline: End of the process.
            shard: Only this shard; None for all that a commit may be in.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. The other shards were rolled up.
            UnavailableError: The outcome of a call is unknown; the next process resumes.
        """
        raise NotImplementedError
