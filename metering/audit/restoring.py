"""After a restore of the ledger: chains above all that was ever planned, and a new usage table (P41).

A ledger that was restored to an earlier time would give numbers of runs and of kinds a second time, to other content.
So every chain goes on above the numbers of the time that was lost, and usage is booked anew into a table that has no
number yet. Functions refuse to work from the deployment of that table until this is done.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, LedgerCorruptError, OperationFailedError
from metering.hours import hour_label
from metering.ledger.booked_hours import pending_key, pointer_key
from metering.ledger.commits import Waiting, waiting_in
from metering.ledger.format_version import FORMAT_KEY, ledger_format
from metering.ledger.runs import Run, lake_chain, newest_run, rollup_chain
from metering.ledger.shards import known_shards
from metering.ledger.usage.generation import claim_new_table, remember_generation
from metering.stores.writes import Absent, Delete, Equals, Put, Table, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.audit.rebuild import UsageRebuild
    from metering.stores.clock import Clock, Entropy, Retrier
    from metering.stores.items import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterRestore:
    """Makes a restored ledger fit to work on. It can be killed at any call, and begun again.

    Attributes:
        items: Ledger, and the new usage table.
        generation: Generation of the new usage table.
        resume: Finishes the runs of the lake that are planned, and plans none.
        rebuild: Books the rows of every hour in the new usage table (P38).
    """

    items: ItemStore
    clock: Clock
    entropy: Entropy
    retrier: Retrier
    shards: int
    generation: int
    resume: Callable[[], object]
    rebuild: Callable[[], UsageRebuild]

    def run(self) -> UsageRebuild:
        """Lift the chains, fill the usage table, and say that the two go together.

        Raises:
            OperationFailedError: No new usage table is deployed, or hours of it could not be measured.
            LedgerCorruptError: The ledger contradicts the protocol.
            UnavailableError: A store gives no answer; run it again.
        """
        before = self._goes_with()
        token = self.entropy.token()
        self.retrier.call(lambda: claim_new_table(self.items, self.generation, token=token))
        # A planned run has marked its rows, which no other run could take.
        self.resume()
        for shard in self.retrier.call(lambda: known_shards(self.items, self.shards)):
            self._take_back(shard)
            for chain in (rollup_chain(shard), lake_chain(shard)):
                self._lift(chain)
        result = self.rebuild()
        if result.unstable:
            named = ", ".join(hour_label(hour_s) for hour_s in result.unstable[:5])
            raise OperationFailedError(
                f"{len(result.unstable)} hours could not be measured: {named}.", "Run it again; it does the rest."
            )
        if result.unreadable:
            raise LedgerCorruptError(result.unreadable[0])
        self.retrier.call(lambda: remember_generation(self.items, self.generation))
        self._take_over(before)
        return result

    def _goes_with(self) -> int:
        found = self.retrier.call(lambda: ledger_format(self.items))
        if found is None or found.usage_generation >= self.generation:
            raise OperationFailedError(
                f"The ledger goes with usage table {self.generation}, which is deployed: there is no new one to fill.",
                "After a restore, raise the setting usage_generation, and deploy (docs/operator-guide.md, Restore).",
            )
        return found.usage_generation

    def _take_back(self, shard: int) -> None:
        """Take back placed rows of commits that still wait: the next run of the roll-up places them.

        Their run's plan may be deleted since, so nobody works on it. No run of the lake has taken them (P24).
        """
        for item in self.retrier.call(lambda: list(waiting_in(self.items, shard))):
            waiting = Waiting.from_item(item)
            keys = [pointer_key(hour_s, waiting.commit_id) for hour_s in waiting.totals]
            for key in (*keys, pending_key(shard, waiting.commit_id)):
                self.retrier.call(partial(self.items.delete, Delete(table=Table.LEDGER, key=key)))

    def _lift(self, chain: str) -> None:
        """Put a done run on top, above every number of the time that was lost: they grow slower than a second."""
        now_ms = self.clock.now_ms()
        newest = self.retrier.call(lambda: newest_run(self.items, chain))
        number = max(now_ms // 1000, 1 if newest is None else newest.number + 1)
        top = Run(
            chain=chain, number=number, state="done", plan_key="", planned_at_ms=now_ms, done_at_ms=now_ms, cleaned=True
        )
        put = Put(table=Table.LEDGER, item=top.to_item(), condition=Absent())
        # An existing run is our own, whose reply was lost, or that of another restore.
        with suppress(ConditionFailedError):
            self.retrier.call(lambda: self.items.put(put))

    def _take_over(self, before: int) -> None:
        switch = Update(
            table=Table.LEDGER,
            key=FORMAT_KEY,
            set={"usage_generation": self.generation},
            condition=Equals(attribute="usage_generation", value=before),
        )
        try:
            self.retrier.call(lambda: self.items.update(switch))
        except ConditionFailedError:
            found = self.retrier.call(lambda: ledger_format(self.items))
            if found is None or found.usage_generation != self.generation:
                raise OperationFailedError(f"{FORMAT_KEY.pk} is changed by somebody else.", "Run it again.") from None
