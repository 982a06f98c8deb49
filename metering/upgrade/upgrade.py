"""Upgrade of a region's data from format 1 to format 2 (docs/decisions/0044-upgrade.md).

The intake stands, and the workers of format 1 are out. Any number of processes may do this at once, and any of them may
die at any call: the next one finds out by reading what is done. Until the chains are closed, format 1 is untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, OperationFailedError
from metering.ledger.format_version import FORMAT_KEY, FORMAT_VERSION, LedgerFormat, ledger_format
from metering.ledger.shards import known_shards
from metering.ledger.usage.generation import remember_generation
from metering.stores.threads import side_by_side
from metering.stores.writes import Equals, Put, Table
from metering.upgrade.comparing import HourComparison
from metering.upgrade.filling import Filling
from metering.upgrade.note import note_revisions, note_settled, note_stop, upgrade_note
from metering.upgrade.runs import OldRuns
from metering.upgrade.usage_items import partitions_before
from metering.upgrade.wide_commits import CHUNK_ACTIONS, WideCommits
from metering.usage.totals import add_totals

if TYPE_CHECKING:
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.upgrade.note import UpgradeNote
    from metering.usage.totals import Total

Tell = Callable[[str], None]

# The upgrade is about accounts, and each is a task of its own.
_ACCOUNTS_A_LINE = 1_000
# A write that was sent before its process died may be applied a little later.
SETTLE_MS = 30_000


def _silent(_message: str) -> None:
    """Tell nothing."""


def is_old(items: ItemStore) -> bool:
    """Whether a ledger has format 1."""
    found = ledger_format(items)
    return found is not None and found.number < FORMAT_VERSION


def stopped(items: ItemStore, *, now_ms: int, worker_timeout_s: int) -> None:
    """Note that no worker of format 1 begins any more. An earlier note holds.

    Args:
        items: The ledger's store.
        now_ms: Time at which that is sure.
        worker_timeout_s: Longest run of a worker.
    """
    note_stop(items, now_ms + worker_timeout_s * 1000 + SETTLE_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUpgrade:
    """Upgrades one region's data.

    Attributes:
        items: Ledger, new usage table, and the old one as `Table.USAGE_BEFORE`.
        shards: The stage's number of shards.
        kinds_per_account: Most kinds of an account that get a number.
        usage_generation: Generation of the new usage table.
        version: Version of this package.
        chunk_actions: Most actions of a chunk of a wide commit.
        threads: Calls that are made side by side. More than one only over stores that threads may share.
    """

    items: ItemStore
    objects: ObjectStore
    clock: Clock
    retrier: Retrier
    shards: int
    kinds_per_account: int
    usage_generation: int
    version: str
    chunk_actions: int = CHUNK_ACTIONS
    threads: int = 1

    def wait_out(self) -> None:
        """Wait until no worker of format 1 runs any more, as `stopped` noted.

        Raises:
            OperationFailedError: Nobody noted it.
            UnavailableError: The ledger gives no answer.
        """
        note = self._note()
        while (left_ms := note.out_at_ms - self.clock.now_ms()) > 0:
            self.clock.sleep_ms(left_ms)

    def convert(self, tell: Tell = _silent) -> None:
        """Finish what is open, fill and compare the new usage table, move the runs, and switch over.

        Raises:
            OperationFailedError: A comparison failed; nothing was switched over.
            LedgerCorruptError: An item or an object cannot be read.
            UnavailableError: A store gives no answer; whoever comes next goes on.
        """
        if not self._is_old():
            return
        finished = self._wide_commits().finish()
        tell(f"finished {finished} wide commits")
        usage = self._fill(tell)
        tell(f"compared the rows of {self._rows().compare(usage)} hours")
        runs = self._old_runs().move()
        tell(f"took over {runs} runs")
        self._switch()
        tell(f"the data has format {FORMAT_VERSION}")

    def look_again(self, repair: Callable[[], object], tell: Tell = _silent) -> None:
        """Ask whether a worker of format 1 wrote after the old usage table was read, and repair what it booked.

        Args:
            repair: Books in the new usage table what rows have and usage lacks (P38).
            tell: Told what is done.

        Raises:
            LedgerCorruptError: An item or an object cannot be read.
            UnavailableError: A store gives no answer; whoever comes next goes on.
        """
        note = self._note()
        late = self._wide_commits().finish()
        _, revisions = self.retrier.call(lambda: partitions_before(self.items))
        if not late and revisions == note.revisions:
            tell("nothing was written to the old usage table since")
            return
        tell("a worker of the version before wrote late: repairing usage")
        repair()
        self.retrier.call(lambda: note_revisions(self.items, revisions))

    def tidy(self) -> None:
        """Delete the runs that were copied, and note that the old usage table is not needed any more.

        Raises:
            UnavailableError: The ledger gives no answer; whoever comes next goes on.
        """
        self._old_runs().delete()
        self.retrier.call(lambda: note_settled(self.items))

    def _fill(self, tell: Tell) -> dict[int, Total]:
        note = self._note()
        months, revisions = self.retrier.call(lambda: partitions_before(self.items))
        if note.revisions != revisions:
            self.retrier.call(lambda: note_revisions(self.items, revisions))
        filling = Filling(
            items=self.items,
            retrier=self.retrier,
            kinds_per_account=self.kinds_per_account,
            usage_generation=self.usage_generation,
            shards=self.retrier.call(lambda: known_shards(self.items, self.shards)),
        )

        def account(account_id: str) -> dict[int, Total]:
            hours: dict[int, Total] = {}
            for month in sorted(months[account_id]):
                add_totals(hours, filling.fill(account_id, month))
            return hours

        usage: dict[int, Total] = {}
        for done, hours in enumerate(side_by_side(account, sorted(months), threads=self.threads), start=1):
            add_totals(usage, hours)
            if done % _ACCOUNTS_A_LINE == 0 or done == len(months):
                tell(f"filled and compared the usage of {done} of {len(months)} accounts")
        return usage

    def _note(self) -> UpgradeNote:
        note = self.retrier.call(lambda: upgrade_note(self.items))
        if note is None:
            raise OperationFailedError("No upgrade of this region is in work.", "Run metering upgrade again.")
        return note

    def _is_old(self) -> bool:
        return self.retrier.call(lambda: is_old(self.items))

    def _switch(self) -> None:
        self.retrier.call(lambda: remember_generation(self.items, self.usage_generation))
        switched = LedgerFormat(
            number=FORMAT_VERSION, written_by=self.version, usage_generation=self.usage_generation
        ).to_item()
        old = Equals(attribute="number", value=FORMAT_VERSION - 1)
        try:
            self.retrier.call(lambda: self.items.put(Put(table=Table.LEDGER, item=switched, condition=old)))
        except ConditionFailedError:
            # Another process was faster, or this one before its reply was lost.
            if self._is_old():
                raise OperationFailedError(f"{FORMAT_KEY.pk} is changed by somebody else.", "Run it again.") from None

    def _wide_commits(self) -> WideCommits:
        return WideCommits(
            items=self.items,
            objects=self.objects,
            retrier=self.retrier,
            shards=self.shards,
            chunk_actions=self.chunk_actions,
        )

    def _rows(self) -> HourComparison:
        return HourComparison(
            items=self.items,
            objects=self.objects,
            retrier=self.retrier,
            shards=self.shards,
            threads=self.threads,
        )

    def _old_runs(self) -> OldRuns:
        return OldRuns(items=self.items, retrier=self.retrier, shards=self.shards, threads=self.threads)
