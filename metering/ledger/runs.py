"""Runs of a chain: `R#<chain>`, `<n>` in 12 digits. Each shard has two chains.

| chain      | its runs                                                    | room     |
|------------|-------------------------------------------------------------|----------|
| `U<shard>` | book usage of waiting commits, then place the commits (P23) | `rollup` |
| `L<shard>` | compact the lake (P24)                                      | `lake`   |
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from metering.errors import ConditionFailedError, EarlyEndError, LedgerCorruptError, ObjectMissingError
from metering.ledger import partitions
from metering.stores.codec import Fields, Form, StoredItem, Unwritten, number_after
from metering.stores.objects import ObjectStore, plan_key
from metering.stores.writes import Absent, Equals, ItemStore, Key, Put, Table, Update

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.stores.clock import Clock, Entropy, Retrier

RunState = Literal["planned", "done"]


def rollup_chain(shard: int) -> str:
    """Name of the chain that rolls up a shard's usage."""
    return f"U{shard}"


def lake_chain(shard: int) -> str:
    """Name of the chain that compacts a shard's part of the lake."""
    return f"L{shard}"


def partition_of_runs(chain: str) -> str:
    """Partition of a chain's runs."""
    return f"{partitions.RUN}{chain}"


def run_key(chain: str, number: int) -> Key:
    """Key of a chain's run."""
    return Key(partition_of_runs(chain), f"{number:012d}")


def newest_first(items: ItemStore, chain: str) -> Iterator[Run]:
    """Yield the runs of a chain, newest first; read page by page while the caller iterates.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    return map(Run.from_item, items.query(Table.LEDGER, partition_of_runs(chain), descending=True))


def runs_before(items: ItemStore, chain: str, number: int, *, first: int = 0) -> Iterator[Run]:
    """Yield runs of a chain with numbers in `[first, number)`, in order; read while the caller iterates.

    Raises:
        LedgerCorruptError: One of them cannot be read.
    """
    (pk, sk_to), sk_from = run_key(chain, number), run_key(chain, first).sk
    return map(Run.from_item, items.query(Table.LEDGER, pk, sk_from=sk_from, sk_to=sk_to))


def long_done(runs: Iterable[Run], *, wait_ms: int, now_ms: int) -> Iterator[Run]:
    """Yield runs of a chain until the first run that did not end at least `wait_ms` ago.

    Callers delete the runs' objects, so no wait is shortened. A run whose recorded end is in the future (wrong clock)
    is yielded with the next due run, because it ended before that run.

    Args:
        runs: Consecutive runs of the chain, oldest first.
        wait_ms: The wait.
        now_ms: The time now, epoch milliseconds.
    """
    held: list[Run] = []
    for run in runs:
        done_at_ms = run.done_at_ms or 0
        if run.state != "done" or now_ms - wait_ms < done_at_ms <= now_ms:
            return
        held.append(run)
        if done_at_ms > now_ms:
            continue
        yield from held
        held = []


def newest_run(items: ItemStore, chain: str) -> Run | None:
    """The newest run of a chain; None if the chain has no run yet."""
    return next(newest_first(items, chain), None)


def newest_done(items: ItemStore, chain: str) -> int:
    """Number of the newest done run of a chain; 0 if no run is done. All earlier runs are also done (P21)."""
    return next((run.number for run in newest_first(items, chain) if run.state == "done"), 0)


def run_name(shard: int, number: int) -> str:
    """Name of a run of the lake's chain: `<shard>#<n>`. Pointers and published items use this name."""
    return f"{shard}#{number:012d}"


def _chain(fields: Fields, _: str) -> str:
    chain = fields.after("pk", partitions.RUN)
    return chain if chain[:1] in ("U", "L") and chain[1:].isdecimal() else fields.fail("pk", "a chain")


def _plan(fields: Fields, name: str) -> str:
    return fields.any_text(name) if _is_done(fields) else fields.text(name)


def _done_at_ms(fields: Fields, name: str) -> int | None:
    return fields.whole(name) if _is_done(fields) else None


def _is_done(fields: Fields) -> bool:
    return fields.one_of("state", ("planned", "done")) == "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(StoredItem):
    """One run of a chain. Every process that works on a run follows the plan object at `plan_key`, never its own plan.

    Attributes:
        chain: `U<shard>` or `L<shard>`.
        number: Number of the run, from 1; numbers only increase (P22).
        plan_key: Empty only for a run that a restore put, which is `done` without a plan (P41).
        cleaned: For the lake's chain: whether the run's pointers and staging objects are deleted.
        expires_at_s: For the roll-up's chain: expiry of the item. The newest run of a chain has no expiry.
    """

    chain: Annotated[str, Form(_chain, None)]
    number: Annotated[int, number_after("sk", "")]
    state: RunState
    plan_key: Annotated[str, "plan", Form(_plan)]
    planned_at_ms: int
    done_at_ms: Annotated[int | None, Form(_done_at_ms), Unwritten(None)] = None
    cleaned: Annotated[bool, Unwritten(False)] = False
    expires_at_s: Annotated[int | None, "expires_at"] = None

    @property
    def key(self) -> Key:
        return run_key(self.chain, self.number)

    @property
    def shard(self) -> int:
        return int(self.chain[1:])

    @property
    def name(self) -> str:
        """Name in messages, such as `U0#000000000012`."""
        return f"{self.chain}#{self.number:012d}"


# A chain of runs: the mechanism that the roll-up and the compactor share (P19 to P22).
#
# Any number of processes may work on a chain, and any process may die at any call. The run item with its plan is the
# claim, and the claim is final: no process takes over another one's run. The next process uses the newest run's plan.


class RunOverError(EarlyEndError):
    """The run is done, or a later run exists: this process is late, and stops its work on the run."""


class OutOfTimeError(EarlyEndError):
    """The process has too little time for the next step; the next process resumes at this step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain of runs, as used by one process."""

    name: str
    items: ItemStore
    objects: ObjectStore
    clock: Clock
    entropy: Entropy
    retrier: Retrier

    def newest(self) -> Run | None:
        """The newest run. Read the newest run before listing anything, never after (P19)."""
        return self.retrier.call(lambda: newest_run(self.items, self.name))

    def announce(self, plan: bytes, *, after: Run | None) -> bool:
        """PUT the plan, and announce it as the run that follows `after` (P20). The chain is read again before any work.

        Returns:
            False if another process announced a run with this number first.

        Raises:
            UnavailableError: The outcome is unknown; the next process reads the chain.
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
            RunOverError: The plan object is missing because the run is over: this process is late (P21).
            LedgerCorruptError: The plan object is missing although the run is planned.
        """
        try:
            return self.retrier.call(lambda: self.objects.get(run.plan_key))
        except ObjectMissingError as error:
            self.stop_if_over(run)
            raise LedgerCorruptError(f"run {run.name} is planned, and its plan {run.plan_key} is gone") from error

    def is_over(self, run: Run) -> bool:
        """Whether the run is done, or a later run exists."""
        newest = self.newest()
        return newest is not None and (newest.number > run.number or newest.state == "done")

    def stop_if_over(self, run: Run) -> None:
        """Check that the run still needs work.

        Raises:
            RunOverError: It is over.
        """
        if self.is_over(run):
            raise RunOverError

    def finish(self, run: Run) -> None:
        """Set the run to `done`. Call this only after every step of the run has a known outcome (P21).

        Raises:
            RunOverError: Another process was first.
            UnavailableError: The outcome is unknown; the next process repeats the run's steps.
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


# At most this many contradictions are named; the count includes all.
_NAMED = 5


class Contradictions:
    """Contradictions found in one invocation of a job. This is a plain class, because it is mutable."""

    def __init__(self) -> None:
        self._found: dict[str, LedgerCorruptError] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a contradiction raised in the `with` block, and continue after the block."""
        try:
            yield
        except LedgerCorruptError as error:
            self._found.setdefault(str(error), error)

    def merge(self, other: Contradictions) -> None:
        """Add the contradictions found by another part of the job."""
        for text, error in other._found.items():
            self._found.setdefault(text, error)

    def texts(self) -> list[str]:
        """One sentence for each."""
        return list(self._found)

    def add(self, text: str) -> None:
        """Note a contradiction that was found before."""
        self._found.setdefault(text, LedgerCorruptError(text))

    def tell(self) -> None:
        """Raise the contradictions, if there were any.

        Raises:
            LedgerCorruptError: It names the contradictions. Functions fail with this error; commands exit with code 1.
        """
        if not self._found:
            return
        first = next(iter(self._found.values()))
        if len(self._found) == 1:
            raise first
        more = len(self._found) - _NAMED
        text = "; ".join(list(self._found)[:_NAMED])
        raise LedgerCorruptError(f"{text}; and {more} more" if more > 0 else text) from first
