"""A chain of runs: the mechanism that the roll-up and the compactor share (P19 to P22).

Any number of processes may work on a chain, and any of them may die at any call. The run item with its plan is the
claim, and it is final: there is no takeover. Whoever comes next works from the plan that the newest run names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, EarlyEndError, LedgerCorruptError, ObjectMissingError
from metering.ledger.runs import Run, newest_run
from metering.stores.bucket import plan_key
from metering.stores.writes import Absent, Equals, Put, Table, Update

if TYPE_CHECKING:
    from metering.stores.clock import Clock, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier


class RunOverError(EarlyEndError):
    """The run is done, or a later one is there: this process is late, and stops working on it."""


class OutOfTimeError(EarlyEndError):
    """The process has no time for the next step; the next process resumes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One chain, as one process works on it.

    Attributes:
        name: `U<shard>` or `L<shard>`.
    """

    name: str
    items: ItemStore
    objects: ObjectStore
    clock: Clock
    entropy: Entropy
    retrier: Retrier

    def newest(self) -> Run | None:
        """The newest run. Read it before anything is listed, never after (P19).

        Raises:
            UnavailableError: It cannot be read now.
        """
        return self.retrier.call(lambda: newest_run(self.items, self.name))

    def announce(self, plan: bytes, *, after: Run | None) -> bool:
        """PUT the plan, and announce it as the run after `after` (P20). The chain is read again before any work.

        Returns:
            False if another process announced a run of that number.

        Raises:
            UnavailableError: The outcome is unknown; whoever comes next reads the chain.
        """
        number = 1 if after is None else after.number + 1
        key = plan_key(self.name, number, self.entropy.token())
        self.retrier.call(lambda: self.objects.put(key, plan, if_absent=True))
        run = Run(chain=self.name, number=number, state="planned", plan_key=key, planned_at_ms=self.clock.now_ms())
        put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            return False
        return True

    def plan_of(self, run: Run) -> bytes:
        """The plan that a planned run names.

        Raises:
            RunOverError: It is gone, and so is the run: we are late (P21).
            LedgerCorruptError: It is gone although the run is planned.
            UnavailableError: It cannot be read now.
        """
        try:
            return self.retrier.call(lambda: self.objects.get(run.plan_key))
        except ObjectMissingError as error:
            self.stop_if_over(run)
            raise LedgerCorruptError(f"run {run.name} is planned, and its plan {run.plan_key} is gone") from error

    def is_over(self, run: Run) -> bool:
        """Whether the run is done, or a later one is there.

        Raises:
            UnavailableError: The chain cannot be read now.
        """
        newest = self.newest()
        return newest is not None and (newest.number > run.number or newest.state == "done")

    def stop_if_over(self, run: Run) -> None:
        """Returns if the run is still to be worked on.

        Raises:
            RunOverError: It is over.
            UnavailableError: The chain cannot be read now.
        """
        if self.is_over(run):
            raise RunOverError

    def finish(self, run: Run) -> None:
        """Set the run to `done`. Call it only after every step of the run has a sure outcome (P21).

        Raises:
            RunOverError: Another process was first.
            UnavailableError: The outcome is unknown; whoever comes next repeats the run's steps.
        """
        done = Update(
            table=Table.LEDGER,
            key=run.key,
            set={"state": "done", "done_at_ms": self.clock.now_ms()},
            condition=Equals(attribute="state", value="planned"),
        )
        try:
            self.retrier.call(lambda: self.items.update(done))
        except ConditionFailedError:
            raise RunOverError from None
