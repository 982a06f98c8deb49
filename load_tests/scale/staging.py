"""Commits of one hour in staging: waiting for the roll-up, or pending for the compactor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from load_tests.scale.region import COMMIT_BATCHES, LATE_DAYS, ROUNDS, Region
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import CommitRecord, Waiting
from metering.stores.objects import staging_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

# A prime: consecutive commits have different accounts.
_SPREAD = 7_919
_GROUP_DIGITS = 8
# Id prefix of commits that a run has taken and the cleaner has not cleaned yet.
KEPT = "z"


@dataclass(frozen=True)
class Staging:
    """Commits of the hour after a region's last one, each with a late batch of an older hour.

    Attributes:
        commits: Number of commits, at most those of an hour.
        waiting: Whether they wait for the roll-up; if not, they are placed and pending.
        undue: Further pending commits, each with only the late pair left, and not due.
    """

    region: Region
    commits: int
    waiting: bool
    undue: int = 0

    @property
    def hour_s(self) -> int:
        return self.region.end_s

    @property
    def groups(self) -> int:
        """Commits of a round. Objects of different rounds have the same accounts."""
        return self.region.blocks // COMMIT_BATCHES

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the commits, in order."""
        return sorted(map(self.commit_id, range(self.commits)))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.ids)

    def has(self, commit_id: str) -> bool:
        return commit_id in self._known

    def waits(self, commit_id: str) -> bool:
        return self.waiting and self.has(commit_id)

    def pends(self, commit_id: str) -> bool:
        return not self.waiting and self.has(commit_id)

    def commit_id(self, number: int) -> str:
        group = number * _SPREAD % self.groups
        return f"{number // self.groups % ROUNDS:02d}{group:0{_GROUP_DIGITS}d}{self.hour_s // HOUR_S:08d}"

    @staticmethod
    def group_of(commit_id: str) -> int:
        return 0 if commit_id.startswith(KEPT) else int(commit_id[2 : 2 + _GROUP_DIGITS])

    def blocks(self, group: int) -> list[int]:
        return [group + place * self.groups for place in range(COMMIT_BATCHES)]

    def late_hour_s(self, group: int) -> int:
        return self.hour_s - (1 + group % LATE_DAYS) * DAY_S

    def late_block(self, group: int) -> int:
        return group * 4 % self.region.blocks

    @cached_property
    def _totals(self) -> dict[int, dict[int, Total]]:
        return {}

    def totals(self, group: int) -> dict[int, Total]:
        """Rows and bytes of a commit by hour."""
        found = self._totals.get(group)
        if found is None:
            region = self.region
            found = self._totals[group] = {
                self.hour_s: sum_totals(map(region.batch_total, self.blocks(group))),
                self.late_hour_s(group): region.batch_total(self.late_block(group)),
            }
        return found

    def key(self, commit_id: str) -> str:
        return staging_key(commit_id, self.hour_s)

    def hours(self) -> set[int]:
        return {self.hour_s, *(self.hour_s - days * DAY_S for days in range(1, LATE_DAYS + 1))}

    def waiting_items(self) -> Iterator[Waiting]:
        yield from map(self.waiting_item, self.ids if self.waiting else ())

    def waiting_item(self, commit_id: str) -> Waiting:
        return Waiting(
            shard=0,
            commit_id=commit_id,
            totals=self.totals(self.group_of(commit_id)),
            staging_key=self.key(commit_id),
            created_at_ms=self.hour_s * 1_000,
            sent_at_ms=self.hour_s * 1_000,
        )

    def pending_item(self, commit_id: str) -> Pending:
        totals = self.totals(self.group_of(commit_id))
        return Pending(
            shard=0, commit_id=commit_id, hours=frozenset(totals), totals=totals, created_at_ms=self.hour_s * 1_000
        )

    def pending_items(self) -> Iterator[Pending]:
        yield from map(self.pending_item, self.ids if not self.waiting else ())
        total = self.region.batch_total(0)
        hours = [self.hour_s - days * DAY_S - HOUR_S for days in range(1, LATE_DAYS + 1)]
        for number in range(self.undue):
            totals = {self.hour_s - HOUR_S: total, hours[number % LATE_DAYS]: total}
            yield Pending(
                shard=0,
                commit_id=f"u{number:031d}",
                hours=frozenset([hours[number % LATE_DAYS]]),
                totals=totals,
                # Later than any process's clock, so it is not due.
                created_at_ms=(self.hour_s + DAY_S) * 1_000,
            )

    def pointers(self, hour_s: int) -> Iterator[Pointer]:
        for commit_id in self.ids if not self.waiting else ():
            pointer = self.pointer(commit_id, hour_s)
            if pointer is not None:
                yield pointer

    def pointer(self, commit_id: str, hour_s: int) -> Pointer | None:
        total = self.totals(self.group_of(commit_id)).get(hour_s)
        if total is None:
            return None
        return Pointer(
            hour_s=hour_s,
            commit_id=commit_id,
            shard=0,
            rows=total.records,
            bytes=total.bytes,
            staging_key=self.key(commit_id),
        )

    def commit(self, commit_id: str) -> CommitRecord:
        totals = self.totals(self.group_of(commit_id))
        total = sum_totals(totals.values())
        return CommitRecord(
            commit_id=commit_id,
            state="committed",
            hours=tuple(sorted(totals)),
            staging_key=self.key(commit_id),
            rows=total.records,
            bytes=total.bytes,
            created_at_ms=self.hour_s * 1_000,
        )
