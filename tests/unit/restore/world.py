"""A region whose ledger is restored: tables, functions and the new ledger in memory, killed at any call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.ledger.format_version import FORMAT_KEY, LedgerFormat, ledger_format
from metering.restore.claim import Claim, Claims, Request
from metering.restore.ports import Outcome, Tell
from metering.restore.steps import InUse, Restorer, Restores
from metering.stores.clock import Retrier
from metering.stores.writes import Key, Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.version import package_version
from tests.support.memory.clock import ManualClock, SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from metering.version import DropIdentity

NOW_S = 1_796_022_000
T_S = NOW_S - 6 * HOUR_S
STAGE = "dev"
OLD, OLD_USAGE = "metering-dev-data-Ledger", "metering-dev-data-Usage"
NEW = "metering-dev-ledger-2"
ADA, BEN = (f"arn:aws:sts::123456789012:assumed-role/Operator/{name}" for name in ("ada", "ben"))
TIME = Request(kind="time", to_s=T_S)
NOTHING = Request(kind="nothing")
BATCH = Key("B#one", "B")
DECISION = "ledger/2/decision.ndjson.gz"
TIMEOUT_S = 25
OUTCOME = Outcome(batches={"lake": 2, "copied": 1}, hashless=1, undecided=("edge-7",))


class KilledError(BaseException):
    """The process of an operator is killed."""


@dataclass
class MemoryTables:
    """`LedgerTables` in memory. A table is active once the clock is past its time."""

    clock: ManualClock
    on_call: Callable[[str], None]
    items: dict[str, MemoryItemStore] = field(default_factory=dict)
    active_s: dict[str, int] = field(default_factory=dict)
    fit: set[str] = field(default_factory=set)
    windows: dict[str, tuple[int, int]] = field(default_factory=dict)
    restored: list[tuple[str, str, int]] = field(default_factory=list)

    def exists(self, name: str) -> bool:
        return name in self.items

    def restore(self, source: str, target: str, at_s: int) -> None:
        if target not in self.items:
            self.restored.append((source, target, at_s))
            self._make(target, after_s=40)
            self._put(source, target)

    def copy(self, source: str, target: str) -> None:
        if target not in self.items:
            self._make(target, after_s=0)
        self._put(source, target)

    def create(self, target: str) -> None:
        if target not in self.items:
            self._make(target, after_s=20)

    def is_active(self, name: str) -> bool:
        return name in self.items and self.clock.now_ms() // 1000 >= self.active_s.get(name, 0)

    def make_fit(self, name: str) -> None:
        self.on_call("tables.make_fit")
        self.fit.add(name)

    def window(self, name: str) -> tuple[int, int] | None:
        return self.windows.get(name)

    def drop(self, name: str) -> None:
        self.on_call("tables.drop")
        self.items.pop(name, None)

    def size(self, name: str) -> tuple[int, int]:
        return (600_000_000, 600 << 30) if name in self.items else (0, 0)

    def of(self, name: str) -> MemoryItemStore:
        if not self.is_active(name):
            raise AssertionError(f"{name} is used before it is active")
        return self.items[name]

    def _make(self, name: str, *, after_s: int) -> None:
        self.on_call("tables.create")
        self.items[name] = MemoryItemStore(on_call=self.on_call)
        self.active_s[name] = self.clock.now_ms() // 1000 + after_s
        self.on_call("tables.created")

    def _put(self, source: str, target: str) -> None:
        for item in list(self.items[source].scan(Table.LEDGER)):
            if self.items[target].peek(Table.LEDGER, Key(str(item["pk"]), str(item["sk"]))) is None:
                self.items[target].put(Put(table=Table.LEDGER, item=item))


@dataclass
class MemoryFence:
    """`Fence` in memory; `deny` works unless `leaks`."""

    clock: ManualClock
    on_call: Callable[[str], None]
    leaks: bool = False
    stopped_s: int | None = None
    denied: set[str] = field(default_factory=set)
    waited_s: int | None = None

    def stop(self) -> None:
        self.on_call("fence.stop")
        self.stopped_s = self.clock.now_ms() // 1000

    def longest_timeout_s(self) -> int:
        return TIMEOUT_S

    def deny(self, table: str) -> str:
        self.on_call("fence.deny")
        assert self.stopped_s is not None
        self.waited_s = self.clock.now_ms() // 1000 - self.stopped_s
        if not self.leaks:
            self.denied.add(table)
        self.on_call("fence.denied")
        return "the table's policy"

    def is_denied(self, table: str) -> bool:
        return table in self.denied


@dataclass
class MemoryLedger:
    """`NewLedger` in memory, which adopts one batch."""

    world: World
    claim: Claim

    @property
    def items(self) -> MemoryItemStore:
        return self.world.tables.of(self.claim.new_table)

    def decide(self) -> None:
        assert self.world.is_fenced
        if self.items.peek(Table.LEDGER, BATCH) is not None:
            # The new ledger was changed, so a first decision would see what it adopted.
            assert self.world.is_decided
        self.world.objects.put(DECISION, b"all", if_absent=True)

    def prepare(self, tell: Tell) -> Outcome:
        assert self.world.is_decided
        self._check()
        tell("commits", 1, 1)
        self.items.put(Put(table=Table.LEDGER, item={**BATCH._asdict(), "verdict": "accepted"}))
        return OUTCOME

    def assist(self, tell: Tell) -> int:
        self._check()
        tell("lake files", 1, 1)
        return 1

    def open(self) -> None:
        self.items.update(Update(table=Table.LEDGER, key=FORMAT_KEY, set={"state": "open"}))

    def late_files(self) -> list[str]:
        # Files are late that the items of this ledger do not name.
        assert ledger_format(self.items) is not None
        return self.world.late

    def withdraw(self) -> list[str]:
        late, self.world.late = self.late_files(), []
        return late

    def _check(self) -> None:
        found = ledger_format(self.items)
        if found is None or found.state != "adopting":
            raise OperationFailedError("The ledger was opened by another restore.")


class World:
    """A stage with one region, whose old ledger has a batch too few."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.calls = 0
        self.kill_at: int | None = None
        self.kill_on = ""
        self.place = "--stage dev"
        self.objects = MemoryObjectStore(self.clock, on_call=self._call, on_reply=self._call)
        self.tables = MemoryTables(self.clock, self._call)
        for name in (OLD, OLD_USAGE):
            self.tables.items[name] = MemoryItemStore(on_call=self._call)
        own = LedgerFormat(number=2, written_by="0.2.0", usage_generation=4)
        self.tables.items[OLD].put(Put(table=Table.LEDGER, item=own.to_item()))
        self.tables.windows[OLD] = NOW_S - 9 * DAY_S, NOW_S - 300
        self.fence = MemoryFence(self.clock, self._call)
        self.in_use = InUse(OLD, OLD_USAGE, 4)
        self.late = ["lake/dt=2026-11-30/hour=01/0-000000000007-000.parquet"]
        self.has_kinds = True
        self.emulated = False
        self.drop_identity: DropIdentity = "etag"
        self.said: list[str] = []
        self.aside: list[str] = []

    def _call(self, name: str) -> None:
        self.calls += 1
        if self.calls == self.kill_at or name == self.kill_on:
            raise KilledError

    @property
    def is_decided(self) -> bool:
        return self.objects.head(DECISION) is not None

    @property
    def is_fenced(self) -> bool:
        old = self.format_of(OLD)
        return old is not None and old.state == "fenced" and OLD in self.fence.denied

    def format_of(self, table: str) -> LedgerFormat | None:
        item = self.tables.items[table].peek(Table.LEDGER, FORMAT_KEY)
        return None if item is None else LedgerFormat.from_item(item)

    @property
    def claims(self) -> Claims:
        retrier = Retrier(clock=self.clock, entropy=SeededEntropy(1), attempts=3)
        return Claims(objects=self.objects, retrier=retrier, place=self.place)

    @property
    def restores(self) -> Restores:
        return Restores(
            stage=STAGE,
            in_use=self.in_use,
            tables=self.tables,
            items_of=self.tables.of,
            claims=self.claims,
            clock=self.clock,
            has_kinds=lambda: self.has_kinds,
            emulated=self.emulated,
        )

    def restorer(self, claim: Claim, who: str = ADA) -> Restorer:
        return Restorer(
            claim=claim,
            who=who,
            version="0.3.0",
            tables=self.tables,
            items_of=self.tables.of,
            claims=self.claims,
            fence=self.fence,
            ledger=MemoryLedger(self, claim),
            clock=self.clock,
            drop_identity=self.drop_identity,
            say=self.said.append,
        )

    def claim(self, request: Request = TIME, who: str = ADA) -> Claim:
        return self.claims.put(self.restores.asked(request, who))

    def restore(self, request: Request = TIME, who: str = ADA) -> Outcome:
        """All that the command does up to the deployment."""
        return self.restorer(self.claim(request, who), who).run()

    def deploy(self) -> None:
        newest = self.restores.newest()
        assert newest is not None
        self.in_use = InUse(newest.new_table, newest.usage_table or self.in_use.usage, newest.usage_generation)


@dataclass
class Parts:
    """Parts of a restore over the memory world, as the command asks for them."""

    world: World
    outcome: Outcome = OUTCOME
    marker_life_s: int = 50 * DAY_S
    version: str = package_version()

    @property
    def restores(self) -> Restores:
        return self.world.restores

    @property
    def claims(self) -> Claims:
        return self.world.claims

    @property
    def tables(self) -> MemoryTables:
        return self.world.tables

    @property
    def fence(self) -> MemoryFence:
        return self.world.fence

    def who(self) -> str:
        return ADA

    def set_aside(self, table: str) -> None:
        self.world.aside.append(table)

    def ledger(self, claim: Claim) -> MemoryLedger:
        return MemoryLedger(self.world, claim)

    def restorer(self, claim: Claim, *, say: Callable[[str], None], tell: Tell) -> Restorer:
        made = replace(self.world.restorer(claim), say=say, tell=tell)
        object.__setattr__(made.ledger, "prepare", lambda _tell: self.outcome)
        return made
