"""Findings of a verification."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import TYPE_CHECKING, Literal

from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable

# Most differences that a verification names: enough to find a fault.
MAX_DIFFERENCES = 1_000


EVERY_ACCOUNT = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two totals that must be equal and are not.

    Attributes:
        between: `markers` and `rows` of one batch in one hour, `usage` and `rows` of one key, the total of an hour's
            files in the `ledger` and their `rows`, or the `accounts` of a month and `rows`. `usage/item` of an item in
            which is something that no release leaves so: its figures are none.
        batch_id: Empty for a key.
        key: None for a batch.
        account_id: Of a month, which then begins with `hour_s`; `EVERY_ACCOUNT` for the sum over all. That of an item.
            Empty for others.
        odd: Key of an item and what is odd in it; empty for others.
        expected: Total of the markers, of the usage table, of the ledger, or of the accounts.
        found: Total of the rows.
    """

    between: Literal["markers/rows", "usage/rows", "ledger/rows", "accounts/rows", "usage/item"]
    hour_s: int
    batch_id: str = ""
    key: UsageKey | None = None
    account_id: str = ""
    odd: str = ""
    expected: Total
    found: Total


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTotals:
    """Sums over the plans of log files, beside the batches that were made of them.

    Attributes:
        plans: Log files.
        lines: Their lines, each of which became one thing, unless `differences` names its file.
        metered_bytes: Bytes of the lines that are metered.
        accepted_bytes: Bytes of the accepted batches of these plans.
        refused_bytes: Bytes of refused batches of these plans, and of refused records; they are in quarantine.
        differences: Plan or batch, and what is wrong with it; at most MAX_DIFFERENCES of them.
        left_out: Whether there were more plans than one verification reads.
    """

    plans: int = 0
    lines: int = 0
    metered_bytes: int = 0
    accepted_bytes: int = 0
    refused_bytes: int = 0
    differences: tuple[tuple[str, str], ...] = ()
    left_out: bool = False

    def plus(self, other: LogTotals) -> LogTotals:
        return LogTotals(
            plans=self.plans + other.plans,
            lines=self.lines + other.lines,
            metered_bytes=self.metered_bytes + other.metered_bytes,
            accepted_bytes=self.accepted_bytes + other.accepted_bytes,
            refused_bytes=self.refused_bytes + other.refused_bytes,
            differences=(*self.differences, *other.differences)[:MAX_DIFFERENCES],
            left_out=self.left_out or other.left_out,
        )


NO_LOGS = LogTotals()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Findings of a verification, or of a part of it; parts are added up by `sum_verifications`.

    Attributes:
        stable: Whether nothing was in flight or waited for the roll-up, before and after, and every hour came to rest.
        sent: Number of distinct contents: those of the manifest, or those in the ledger and the queues.
        duplicate: Further copies of contents with a verdict. Only a manifest knows them.
        in_flight: Contents without a verdict while messages are in the queue.
        dead: Contents without a verdict in the dead-letter queue.
        lost: Ids of batches that have no verdict, or some invisible records.
        doubled: Ids of batches that have some records visible or counted more than once.
        unexpected: Id (or digest) and problem of batches whose verdict differs from the manifest.
        differences: At most MAX_DIFFERENCES of them.
        unstable: Hours in which usage kept changing; their differences are not judged.
        keys: Number of usage keys that were compared between usage table and visible rows.
        metered: Total of visible rows in the range.
        promised: Total of the accepted contents as their sender computed it; zero without a manifest.
        proven: Total of visible rows of the manifest's batches; zero without a manifest.
        logs: Sums over the plans of log files.
    """

    stable: bool = True
    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    in_flight: int = 0
    dead: int = 0
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    unexpected: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = ()
    unstable: tuple[int, ...] = ()
    keys: int = 0
    metered: Total = ZERO
    promised: Total = ZERO
    proven: Total = ZERO
    logs: LogTotals = NO_LOGS

    @property
    def passed(self) -> bool:
        """Whether the look was stable, and nothing is lost, doubled, dead, unexpected or different."""
        wrong = self.lost or self.doubled or self.unexpected or self.differences or self.dead or self.logs.differences
        return self.stable and not wrong


def sum_verifications(verifications: Iterable[Verification]) -> Verification:
    """Sum of several verifications, or of the parts of one; stable only if all are."""
    parts = tuple(verifications)
    return Verification(
        stable=all(part.stable for part in parts),
        sent=sum(part.sent for part in parts),
        accepted=sum(part.accepted for part in parts),
        duplicate=sum(part.duplicate for part in parts),
        conflict=sum(part.conflict for part in parts),
        rejected=sum(part.rejected for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        dead=sum(part.dead for part in parts),
        lost=tuple(batch_id for part in parts for batch_id in part.lost),
        doubled=tuple(batch_id for part in parts for batch_id in part.doubled),
        unexpected=tuple(each for part in parts for each in part.unexpected),
        differences=tuple(islice((each for part in parts for each in part.differences), MAX_DIFFERENCES)),
        unstable=tuple(sorted({hour_s for part in parts for hour_s in part.unstable})),
        keys=sum(part.keys for part in parts),
        metered=sum_totals(part.metered for part in parts),
        promised=sum_totals(part.promised for part in parts),
        proven=sum_totals(part.proven for part in parts),
        logs=reduce(LogTotals.plus, (part.logs for part in parts), NO_LOGS),
    )
