"""What a verification found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from metering.usage.totals import ZERO, Total, UsageKey

# Enough to see what is wrong; all of them are counted.
MAX_DIFFERENCES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two places that must say the same and do not.

    Attributes:
        between: `markers` and `rows` of one batch in one hour, or `usage` and `rows` of one key.
        batch_id: Empty for a key.
        key: None for a batch.
        expected: What the first place says.
        found: What the rows say.
    """

    between: Literal["markers/rows", "usage/rows"]
    hour_s: int
    batch_id: str = ""
    key: UsageKey | None = None
    expected: Total
    found: Total


@dataclass(slots=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        settled: Before and after the look nothing was in flight and no commit open, and every hour came to rest.
        sent: Distinct contents: those of the manifest, or those that the ledger and the queues know of.
        duplicate: Further copies of contents that have their verdict (a manifest knows them, the ledger does not).
        in_flight: Contents without a verdict while messages are in the queue.
        dead: Contents without a verdict in the dead-letter queue.
        lost: Ids of batches without a verdict anywhere, or of whose records some are not visible.
        doubled: Ids of batches of whose records some are visible or counted more than once.
        unexpected: Id (or digest) and what is wrong: a verdict that differs from what the manifest expects.
        differences: At most MAX_DIFFERENCES of them.
        unsettled: Hours that kept changing or have an open commit: nothing is said of what differs in them.
        keys: Totals of an hour and usage key that were compared between usage table and visible rows.
        metered: Sum of visible rows in the range.
        promised: With a manifest: what its sender says that the contents that were accepted add up to.
        proven: With a manifest: what the visible rows of its batches add up to.
    """

    settled: bool = False
    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    in_flight: int = 0
    dead: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexpected: list[tuple[str, str]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    unsettled: list[int] = field(default_factory=list)
    keys: int = 0
    metered: Total = ZERO
    promised: Total = ZERO
    proven: Total = ZERO

    @property
    def passed(self) -> bool:
        """Settled, and nothing lost, doubled, dead, unexpected or different."""
        wrong = self.lost or self.doubled or self.unexpected or self.differences or self.dead
        return self.settled and not wrong

    def differ(self, difference: Difference) -> None:
        """Note a difference; of very many, the first ones are kept."""
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(difference)
