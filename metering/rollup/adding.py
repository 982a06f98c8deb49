"""A plan's updates of usage items: one update for each item, each applied exactly once (P23.1, P45)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError, TransactionCanceledError, UnavailableError
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import waiting_key
from metering.ledger.usage.items import BUCKET_KINDS, newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.kinds import KindNumbers, partition_of_kinds
from metering.stores.writes import Absent, Action, AnyOf, Check, Delete, Exists, Item, Key, LessThan, Put, Table, Update
from metering.usage.totals import Total, UsageKey, UsageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.ledger.runs import Chain, Run
    from metering.rollup.plan import PlannedCommit, PlannedHour
    from metering.stores.clock import Retrier
    from metering.stores.writes import ItemStore


def updates_of(hours: Iterable[PlannedHour], run: Run, numbers: KindNumbers) -> Iterator[Update]:
    """The update of each usage item of a plan's hours, in the order of these.

    Raises:
        LedgerCorruptError: The dictionary lacks a kind whose number was durable before the plan was put.
        UnavailableError: The account's dictionary cannot be read now.
    """
    newest = newest_run_of(run.shard)
    # Once an update is booked, it is refused forever, because an item's newest run never decreases.
    not_yet = AnyOf((Absent(attribute=newest), LessThan(attribute=newest, value=run.number)))
    for hour in hours:
        for key, totals in _items(hour, numbers):
            number = next(iter(totals))
            yield Update(
                table=Table.USAGE,
                key=usage_item_key(key, number),
                add=usage_add(totals),
                set={newest: run.number},
                condition=not_yet,
            )


def _items(hour: PlannedHour, numbers: KindNumbers) -> Iterator[tuple[UsageKey, Mapping[int | None, Total]]]:
    """Additions to each item of an account's hour: totals by kind number (None: no number), all of one bucket.

    The usage key belongs to any one of the item's kinds.
    """
    if hour.numbered:
        known = numbers.known(hour.account_id, hour.numbered)
        buckets: dict[int, tuple[UsageKind, dict[int | None, Total]]] = {}
        for kind, total in hour.numbered.items():
            number = known.get(kind)
            if number is None:
                partition = partition_of_kinds(hour.account_id)
                raise LedgerCorruptError(f"{partition} has no number of {'#'.join(kind)}, and a plan relies on it")
            buckets.setdefault(number // BUCKET_KINDS, (kind, {}))[1][number] = total
        for kind, totals in buckets.values():
            yield _key(hour, kind), totals
    for kind, total in hour.named.items():
        yield _key(hour, kind), {None: total}


def _key(hour: PlannedHour, kind: UsageKind) -> UsageKey:
    return UsageKey(hour.hour_s, hour.account_id, *kind, hour.corrects_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adding:
    """Sends the updates of one run. Several processes may send a run's updates concurrently."""

    run: Run
    chain: Chain

    def land(self, updates: Sequence[Update]) -> int:
        """Apply updates: a single one directly, for one write unit; several in one transaction, at two units each.

        Returns:
            Number of updates that had not been applied before.

        Raises:
            RunOverError: An item contains a later run, and this run has ended.
            LedgerCorruptError: An item contains a later run, although this run is still planned.
            UnavailableError: It is unknown whether the updates took effect.
        """
        if len(updates) > 1:
            return self._block(updates)
        [update] = updates
        try:
            self.chain.retrier.call(lambda: self.chain.items.update(update))
        except ConditionFailedError as error:
            self._check_landed(update, error.existing)
            return 0
        return 1

    def _block(self, updates: Sequence[Update]) -> int:
        left = list(updates)
        failures = 0
        while left:
            try:
                self._transact(left)
            except TransactionCanceledError as error:
                rest = [
                    update
                    for update, reason in zip(left, error.reasons, strict=True)
                    if not self._has_landed(update, reason)
                ]
                if len(rest) == len(left):
                    failures += 1
                    self._pause(failures)
                left = rest
            else:
                return len(left)
        return 0

    def _transact(self, updates: Sequence[Update]) -> None:
        self.chain.retrier.call(lambda: self.chain.items.transact(updates))

    def _has_landed(self, update: Update, reason: tuple[str, Mapping[str, object] | None] | None) -> bool:
        if reason is None or reason[0] != "ConditionalCheckFailed":
            return False
        self._check_landed(update, reason[1])
        return True

    def _check_landed(self, update: Update, found: Mapping[str, object] | None) -> None:
        """Return normally if the item that refused an update already contains this run's update."""
        newest = newest_run_of(self.run.shard)
        number = None if found is None else found.get(newest)
        if number == self.run.number:
            return
        self.chain.stop_if_over(self.run)
        raise LedgerCorruptError(
            f"run {self.run.name} is planned, and {update.key.pk} / {update.key.sk} has {newest} = {number}"
        )

    def _pause(self, failures: int) -> None:
        if failures >= self.chain.retrier.attempts:
            raise UnavailableError("Adding.land", "usage items are busy", may_have_applied=False)
        self.chain.retrier.pause(failures)


# Placing: a commit moves from the waiting list to the lists that the compactor reads (P23.2).
#
# The commit is first put into pending and into its hours, and is only then removed from the waiting list (P2).


_WAITS = Exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Places commits of a shard."""

    shard: int
    items: ItemStore
    retrier: Retrier
    actions: int

    def place(self, commit: PlannedCommit) -> None:
        """Place a commit, if the commit still waits. Call this only once all sums of the run are durably added.

        Raises:
            UnavailableError: The outcome of a call is unknown; the next process repeats the call.
        """
        key = waiting_key(self.shard, commit.commit_id)
        for actions in self._transactions(commit, key):
            if not self.retrier.transact(self.items, actions):
                return
        gone = Delete(table=Table.LEDGER, key=key)
        self.retrier.call(lambda: self.items.delete(gone))

    def _transactions(self, commit: PlannedCommit, key: Key) -> Iterator[list[Action]]:
        # Each transaction has this check, because a late transaction must not recreate a pointer or a pending entry.
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
