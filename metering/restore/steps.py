"""Steps of a restore: everything is prepared in a new table that no function knows, and opened last (P41).

| step     | effect                                                                                       |
|----------|----------------------------------------------------------------------------------------------|
| `table`  | the new ledger exists as of T, with `S#format` in state `adopting`                           |
| `fence`  | functions are stopped, and the old ledger is `fenced` and closed to them                     |
| `decide` | the list of adopted objects is stored once                                                   |
| `adopt`  | the new ledger has everything accepted since T, and usage equals the rows                    |
| `open`   | `S#format` is open; then a deployment gives the table to the functions                       |

Each step can be repeated, by several operators at once. Who ends a step first records its result; whoever comes later
continues behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import ConditionFailedError, MeteringError, OperationFailedError
from metering.hours import rfc3339
from metering.ledger.format_version import (
    FORMAT_KEY,
    FORMAT_VERSION,
    RESTORED_FORMAT,
    LedgerFormat,
    ledger_format,
)
from metering.restore.claim import Claim, Claims, Request, StepEnded
from metering.restore.ports import Outcome
from metering.stores.writes import Absent, Equals, ItemStore, Put, Table, Update
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.restore.ports import Fence, LedgerTables, NewLedger, Tell
    from metering.stores.clock import Clock
    from metering.version import DropIdentity

_POLL_S = 10
# A new policy of a table or role is in force after some seconds.
_DENIED_WITHIN_S = 5 * MINUTE_S


class Step(StrEnum):
    """Steps in the order of execution."""

    TABLE = "table"
    FENCE = "fence"
    DECIDE = "decide"
    ADOPT = "adopt"
    OPEN = "open"


# Record within the step `fence`: the functions were told to stop.
STOP = "stop"
# Steps after the new ledger is open: the deployment has no record, because the deployed table tells it.
DEPLOY = "deploy"
FINISH = "finish"


class InUse(NamedTuple):
    """The tables that are deployed."""

    ledger: str
    usage: str
    usage_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restores:
    """Restores of one region's ledger: the one under way, and the next.

    Attributes:
        in_use: Tables in use.
        items_of: Returns the items of a ledger table.
        has_kinds: Whether the dictionary of usage kinds can be read, in the old ledger or in `notes/`. If not, usage
            items of the table in use cannot be understood.
        emulated: Whether the region is on an emulator, which restores no table.
    """

    stage: str
    in_use: InUse
    tables: LedgerTables
    items_of: Callable[[str], ItemStore]
    claims: Claims
    clock: Clock
    has_kinds: Callable[[], bool]
    emulated: bool

    def newest(self) -> Claim | None:
        """The newest claim; None if no restore was ever begun."""
        return next(reversed(self.claims.every()), None)

    def asked(self, request: Request, who: str) -> Claim:
        """The claim that a request joins, or else the claim to put.

        Raises:
            OperationFailedError: Another restore is under way, or AWS cannot restore to that time.
        """
        newest = self.newest()
        if newest is not None and not self._is_lost(newest):
            if newest.request == request and not self.claims.ended(newest, FINISH):
                return newest
            if not self.is_complete(newest):
                raise self.claims.under_way(newest)
        self._check(request)
        generation = 1 + max(self._generation(self.in_use.ledger), 1 if newest is None else newest.generation)
        kept, number = self.has_kinds(), self.in_use.usage_generation
        return Claim(
            generation=generation,
            kind=request.kind,
            to_s=request.to_s,
            copy_of=request.copy_of,
            old_table=self.in_use.ledger,
            new_table=f"metering-{self.stage}-ledger-{generation}",
            old_usage_table=self.in_use.usage,
            usage_table="" if kept else f"metering-{self.stage}-usage-{number + 1}",
            usage_generation=number if kept else number + 1,
            begun_at_ms=self.clock.now_ms(),
            who=who,
        )

    def is_open(self, claim: Claim) -> bool:
        """Whether the new ledger was opened; a later restore may have fenced it since."""
        return is_open(self.tables, self.items_of, claim)

    def is_complete(self, claim: Claim) -> bool:
        """Whether the new ledger is open and deployed."""
        return self.in_use.ledger == claim.new_table and self.is_open(claim)

    def _is_lost(self, claim: Claim) -> bool:
        """Whether the ledger of a claim was opened and its table is gone since, so that only another restore helps."""
        return self.claims.ended(claim, Step.OPEN) is not None and not self.tables.exists(claim.new_table)

    def begun(self, claim: Claim) -> str:
        """The next step of a claim that is stored; empty for a claim that is not."""
        return self.step(claim) if self.newest() == claim else ""

    def trail(self, claim: Claim) -> ItemStore | None:
        """The ledger with the audit trail: the old ledger until the fence, and the new ledger once it is open."""
        if self.is_open(claim):
            return self.items_of(claim.new_table)
        if not self.tables.is_active(claim.old_table):
            return None
        items = self.items_of(claim.old_table)
        item = items.get(Table.LEDGER, FORMAT_KEY)
        return None if item is not None and item.get("state") == "fenced" else items

    def step(self, claim: Claim) -> str:
        """The step that comes next; empty after the last."""
        for step in Step:
            if self.claims.ended(claim, step) is None:
                return step
        if self.in_use.ledger == claim.old_table:
            return DEPLOY
        return "" if self.claims.ended(claim, FINISH) else FINISH

    def unfinished(self) -> list[Claim]:
        """Completed restores whose old tables still exist, oldest first.

        Raises:
            OperationFailedError: The newest restore is not complete.
        """
        claims = self.claims.every()
        if claims and not self.is_complete(claims[-1]):
            raise self.claims.under_way(claims[-1])
        return [claim for claim in claims if not self.claims.ended(claim, FINISH)]

    def finish(self, claim: Claim, who: str) -> None:
        """Drop the old tables of a complete restore, unless they are in use."""
        old = {claim.old_table, *([claim.old_usage_table] if claim.usage_table else [])}
        for table in sorted(old - {self.in_use.ledger, self.in_use.usage}):
            self.tables.drop(table)
        self.claims.end(claim, StepEnded(step=FINISH, ended_at_ms=self.clock.now_ms(), who=who, outcome=Outcome()))

    def _generation(self, table: str) -> int:
        if not self.tables.is_active(table):
            return 1
        item = self.items_of(table).get(Table.LEDGER, FORMAT_KEY)
        found = 1 if item is None else item.get("generation", 1)
        return found if isinstance(found, int) else 1

    def _check(self, request: Request) -> None:
        now_s = self.clock.now_ms() // 1000
        if request.to_s > now_s:
            raise OperationFailedError(f"{rfc3339(request.to_s)} is in the future.", "Name a time before the damage.")
        if request.kind == "copy" and not self.tables.exists(request.copy_of):
            raise OperationFailedError(f"Table {request.copy_of} does not exist.", "Name a table with a copy.")
        if request.kind == "time":
            self._check_window(request.to_s)
        if request.kind != "nothing":
            self._check_generation(request.to_s, request.copy_of or self.in_use.ledger)

    def _check_generation(self, to_s: int, source: str) -> None:
        """Refuse a moment that knows commits whose batches a later restore has accepted under other commits."""
        generation = self._generation(source)
        for claim in self.claims.every():
            opened = self.claims.ended(claim, Step.OPEN)
            if claim.generation == generation and opened is not None and to_s * 1000 < opened.ended_at_ms:
                raise OperationFailedError(
                    f"{source} was opened at {rfc3339(-(-opened.ended_at_ms // 1000))}, and is not whole before.",
                    "Name a later time, or use --from-nothing.",
                )
            if claim.generation > generation and to_s > claim.to_s:
                raise OperationFailedError(
                    f"{source} is of generation {generation}, and a later ledger begins at {claim.request}.",
                    "Name no later time than that, or use --from-nothing.",
                )

    def _check_window(self, to_s: int) -> None:
        if self.emulated:
            raise OperationFailedError(
                "An emulator does not restore a table to a point in time.",
                "Name a table with the ledger's items of that time: --from-copy TABLE",
            )
        window = self.tables.window(self.in_use.ledger) if self.tables.exists(self.in_use.ledger) else None
        if window is None:
            raise OperationFailedError(
                f"Table {self.in_use.ledger} has no point-in-time recovery, or it is gone.",
                f"S3 has all that was accepted: metering restore --from-nothing {self.claims.place}. If a backup was "
                "restored into another table, name it: --from-copy TABLE",
            )
        if not window[0] <= to_s <= window[1]:
            raise OperationFailedError(
                f"{self.in_use.ledger} can be restored to times from {rfc3339(window[0])} to {rfc3339(window[1])}, "
                f"and {rfc3339(to_s)} is not one of them.",
                "Name another time. What was accepted after it is adopted from S3, so an earlier time loses nothing.",
            )


def is_open(tables: LedgerTables, items_of: Callable[[str], ItemStore], claim: Claim) -> bool:
    """Whether the new ledger of a claim was opened."""
    if not tables.is_active(claim.new_table):
        return False
    found = ledger_format(items_of(claim.new_table))
    return found is not None and found.generation == claim.generation and found.state != "adopting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restorer:
    """Does the steps of one restore. A killed restore continues in the step that it was in.

    Attributes:
        claim: The claim that stands in S3.
        who: ARN of the caller.
        version: Version of metering.
        drop_identity: What the stage's batches of `drop/` have their ids by.
        say: Told of each step.
        tell: Told of progress within a step.
    """

    claim: Claim
    who: str
    version: str
    tables: LedgerTables
    items_of: Callable[[str], ItemStore]
    claims: Claims
    fence: Fence
    ledger: NewLedger
    clock: Clock
    drop_identity: DropIdentity
    say: Callable[[str], None] = lambda _text: None
    tell: Tell = lambda _what, _done, _of: None

    def run(self) -> Outcome:
        """Do the steps that have not ended; returns what the restore has put into the new ledger.

        Raises:
            OperationFailedError: A step cannot be done, such as the fence.
            MeteringError: A service does not answer. Run again.
        """
        for step in Step:
            if self._has_ended(step):
                continue
            self.say(step)
            try:
                outcome = self._do(step)
            except MeteringError:
                # The writes of a late step are refused once another operator has opened the ledger.
                if not is_open(self.tables, self.items_of, self.claim):
                    raise
                break
            self._end(step, outcome)
        ended = self.claims.ended(self.claim, Step.ADOPT)
        return Outcome() if ended is None else ended.outcome

    def _do(self, step: Step) -> Outcome:
        if step is Step.ADOPT:
            return self.ledger.prepare(self.tell)
        work = {
            Step.TABLE: self._table,
            Step.FENCE: self._fence,
            Step.DECIDE: self.ledger.decide,
            Step.OPEN: self.ledger.open,
        }
        work[step]()
        return Outcome()

    def _has_ended(self, step: Step) -> bool:
        if self.claims.ended(self.claim, step) is None:
            return False
        # Someone may have deployed since, and so opened the old ledger to functions again.
        return step is not Step.FENCE or self._is_closed() or is_open(self.tables, self.items_of, self.claim)

    def _end(self, step: str, outcome: Outcome) -> None:
        now_ms = self.clock.now_ms()
        self.claims.end(self.claim, StepEnded(step=step, ended_at_ms=now_ms, who=self.who, outcome=outcome))

    def _table(self) -> None:
        claim = self.claim
        if not self._is_begun():
            if claim.kind == "time":
                self.tables.restore(claim.old_table, claim.new_table, claim.to_s)
            elif claim.kind == "copy":
                self.tables.copy(claim.copy_of, claim.new_table)
            else:
                self.tables.create(claim.new_table)
            self._wait_for(claim.new_table)
            self._begin_ledger()
        self.tables.make_fit(claim.new_table)
        if claim.usage_table:
            self.tables.create(claim.usage_table)
            self._wait_for(claim.usage_table)
            self.tables.make_fit(claim.usage_table)

    def _wait_for(self, table: str) -> None:
        began_ms = self.clock.now_ms()
        while not self.tables.is_active(table):
            minutes = (self.clock.now_ms() - began_ms) // 1000 // MINUTE_S
            self.tell(f"waiting for table {table}, for {minutes} minutes", 0, 0)
            self.clock.sleep_ms(_POLL_S * 1000)

    def _is_begun(self) -> bool:
        """Whether the new table is the new ledger, which then has no more to get from the old table."""
        if not self.tables.is_active(self.claim.new_table):
            return False
        item = self.items_of(self.claim.new_table).get(Table.LEDGER, FORMAT_KEY)
        return item is not None and item.get("generation") == self.claim.generation

    def _begin_ledger(self) -> None:
        items = self.items_of(self.claim.new_table)
        item = items.get(Table.LEDGER, FORMAT_KEY)
        own = LedgerFormat(
            drop_identity=self.drop_identity,
            number=RESTORED_FORMAT,
            written_by=self.version,
            usage_generation=self.claim.usage_generation,
            generation=self.claim.generation,
            state="adopting",
        )
        before = None if item is None else item.get("generation")
        same = (
            Equals(attribute="generation", value=before)
            if isinstance(before, int)
            else Absent(attribute="pk" if item is None else "generation")
        )
        try:
            items.put(Put(table=Table.LEDGER, item=own.to_item(), condition=same))
        except ConditionFailedError:
            # Another operator wrote the same first.
            if not self._is_begun():
                raise

    def _fence(self) -> None:
        old = self.claim.old_table
        if self.tables.is_active(old):
            self._mark_fenced(self.items_of(old))
        self.fence.stop()
        self._end(STOP, Outcome())
        self._wait_for_functions()
        if self.tables.exists(old):
            self._close(old)

    def _wait_for_functions(self) -> None:
        """Wait until functions that began before the first stop have ended; a killed wait is not begun anew."""
        stopped = self.claims.ended(self.claim, STOP)
        timeout_s = self.fence.longest_timeout_s()
        began_ms = self.clock.now_ms() if stopped is None else stopped.ended_at_ms
        until_ms = began_ms + timeout_s * 1000
        while (left_ms := min(until_ms - self.clock.now_ms(), timeout_s * 1000)) > 0:
            self.tell("waiting for functions that still run, in seconds", timeout_s - left_ms // 1000, timeout_s)
            self.clock.sleep_ms(min(_POLL_S * 1000, left_ms))

    def _close(self, old: str) -> None:
        by = self.fence.deny(old)
        until_ms = self.clock.now_ms() + _DENIED_WITHIN_S * 1000
        while not self.fence.is_denied(old):
            if self.clock.now_ms() >= until_ms:
                raise OperationFailedError(
                    f"Functions may still write table {old}, in spite of {by}.",
                    "Nothing was decided yet. Look whether another policy allows it, and run the same command again.",
                )
            self.clock.sleep_ms(_POLL_S * 1000)

    def _is_closed(self) -> bool:
        return not self.tables.exists(self.claim.old_table) or self.fence.is_denied(self.claim.old_table)

    def _mark_fenced(self, items: ItemStore) -> None:
        """Let each process that starts on the old ledger refuse it, even if its format is unreadable."""
        item = items.get(Table.LEDGER, FORMAT_KEY)
        if item is None:
            number = self.claim.usage_generation
            own = LedgerFormat(number=FORMAT_VERSION, written_by=self.version, usage_generation=number, state="fenced")
            items.put(Put(table=Table.LEDGER, item=own.to_item()))
        elif item.get("state") != "fenced":
            items.update(Update(table=Table.LEDGER, key=FORMAT_KEY, set={"state": "fenced"}))
