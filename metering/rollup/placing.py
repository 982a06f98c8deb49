"""Placing: a commit leaves the waiting list for the lists that the compactor takes from (P23.2).

It is put into pending and into its hours first, for sure, and taken off the waiting list by a later call (P2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import TransactionCanceledError, UnavailableError
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.waiting import waiting_key
from metering.stores.writes import Check, Delete, Exists, Put, Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.rollup.plan import PlannedCommit
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Action, Item, Key

_WAITS = Exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Places commits of a shard.

    Attributes:
        actions: Most actions of a transaction.
    """

    shard: int
    items: ItemStore
    retrier: Retrier
    actions: int

    def place(self, commit: PlannedCommit) -> None:
        """Place a commit, if it still waits. Call it only when every sum of its run is added for sure.

        Raises:
            UnavailableError: A call's outcome is unknown; whoever comes next repeats it.
        """
        key = waiting_key(self.shard, commit.commit_id)
        for actions in self._transactions(commit, key):
            if not self._transact(actions):
                return
        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))

    def _transactions(self, commit: PlannedCommit, key: Key) -> Iterator[list[Action]]:
        # Each has the check: one that is late must not make a pointer or a pending entry again.
        check = Check(table=Table.LEDGER, key=key, condition=_WAITS)
        puts = [Put(table=Table.LEDGER, item=item) for item in self._entries(commit)]
        size = self.actions - 1
        for first in range(0, len(puts), size):
            yield [check, *puts[first : first + size]]

    def _entries(self, commit: PlannedCommit) -> Iterator[Item]:
        pending = Pending(
            shard=self.shard,
            commit_id=commit.commit_id,
            hours=frozenset(commit.totals),
            totals=commit.totals,
            created_at_ms=commit.created_at_ms,
        )
        yield pending.to_item()
        for hour_s, total in commit.totals.items():
            yield Pointer(
                hour_s=hour_s,
                commit_id=commit.commit_id,
                shard=self.shard,
                rows=total.records,
                bytes=total.bytes,
                staging_key=commit.staging_key,
            ).to_item()

    def _transact(self, actions: Sequence[Action]) -> bool:
        """Whether the transaction landed; False if the commit does not wait any more."""
        failures = 0
        while True:
            try:
                self.retrier.call(lambda: self.items.transact(actions))
            except TransactionCanceledError as error:
                if error.condition_failed:
                    return False
                failures += 1
                if failures >= self.retrier.attempts:
                    raise UnavailableError("Placing.place", "items are busy", may_have_applied=False) from error
                self.retrier.pause(failures)
            else:
                return True
