"""The ports of one simulated process: each call takes time, and can fail in every way in which AWS's calls can fail."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from metering.errors import MeteringError, ThrottledError, TransactionCanceledError, UnavailableError
from metering.stores.writes import Check, Key
from tests.simulation.region.faults import READ_FAULTS, TRANSACTION_FAULTS, WRITE_FAULTS, Fault
from tests.simulation.region.scheduler import KilledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from metering.stores.objects import ObjectInfo
    from metering.stores.writes import Action, Delete, Item, Put, Table, Update
    from tests.simulation.region.world import World
    from tests.support.memory.items import MemoryItemStore
    from tests.support.memory.objects import MemoryObjectStore

T = TypeVar("T")

_SDK_RETRY_MS = 200
NEVER_MS = 1 << 62
_THROTTLES = ("ThrottlingError", "ProvisionedThroughputExceeded")
# Share of pages that are empty although more pages follow.
_EMPTY_PAGES = 0.02


class Process:
    """One simulated process, with clock, entropy and lifetime.

    Attributes:
        skew_ms: Error of its clock.
        dies_at_ms: Time at which a timeout kills the process.
    """

    def __init__(self, world: World, name: str, *, skew_ms: int = 0) -> None:
        self.world = world
        self.name = name
        self.skew_ms = skew_ms
        self.dies_at_ms = NEVER_MS
        self._dead = False
        self._scheduler = world.scheduler
        self._wait = world.scheduler.wait
        self._decide: Callable[[str, str, tuple[Fault, ...]], Fault | None] = world.faults.decide
        self._store = world.items
        self._chance = world.latency.random
        self.items = ProcessItems(self, world.items)
        self.eventual = EventualItems(self, world.items)
        self.objects = ProcessObjects(self, world.objects)

    def now_ms(self) -> int:
        return self._scheduler.now_ms + self.skew_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self._check()
        self._wait(duration_ms)
        self._check()

    def wait(self, duration_ms: int) -> None:
        """Let simulated time pass during a call."""
        self._wait(duration_ms)

    def token(self) -> str:
        return f"{self.world.names.getrandbits(128):032x}"

    def below(self, limit: int) -> int:
        return self.world.names.randrange(limit)

    def is_late(self) -> bool:
        """Whether a restore has replaced the ledger of this process."""
        return self._store is not self.world.items

    def spare(self) -> Process:
        """Let no call of this process fail."""
        self._decide = _no_fault
        return self

    def restart(self) -> None:
        self._dead = False
        self.dies_at_ms = NEVER_MS

    def kill(self) -> None:
        """Die here. Exception handlers and context managers may still run, but their calls fail."""
        self._dead = True
        raise KilledError

    def read(self, call: str, apply: Callable[[], T]) -> T:
        """A call that changes nothing."""
        self._check()
        fault = self._decide(self.name, call, READ_FAULTS)
        self._wait(1 + int(self._chance() * 30))
        if fault is None:
            if self._dead or self._scheduler.now_ms > self.dies_at_ms:
                self._check()
            return apply()
        if fault is Fault.PAUSED:
            self._pause()
            return apply()
        if fault is Fault.KILLED_BEFORE or fault is Fault.KILLED_AFTER:
            self.kill()
        raise UnavailableError(call, fault, may_have_applied=False)

    def turn_pages(self, call: str) -> None:
        """Sometimes make the extra call of an empty page, which is not the last page."""
        while self.world.pages.random() < _EMPTY_PAGES:
            self.read(call, lambda: None)

    def write(self, call: str, apply: Callable[[], T], *, actions: Sequence[Action] = ()) -> T:
        """Make a call that has an effect; the call's reply may be lost."""
        self._check()
        fault = self._decide(self.name, call, TRANSACTION_FAULTS if actions else WRITE_FAULTS)
        self._wait(1 + int(self._chance() * 30))
        self._check()
        if call.startswith("items.") and self.world.is_short():
            raise self._throttled(actions) if actions else ThrottledError(call, "ThrottlingException")
        if fault is None:
            return apply()
        if fault is Fault.CONFLICT:
            raise TransactionCanceledError([("TransactionConflict", None)] + [None] * (len(actions) - 1))
        if fault is Fault.ACTION_THROTTLED:
            raise self._throttled(actions)
        return self._faulty(call, fault, apply)

    def _faulty(self, call: str, fault: Fault, apply: Callable[[], T]) -> T:
        if fault is Fault.PAUSED:
            self._pause()
            return apply()
        if fault is Fault.KILLED_BEFORE:
            self.kill()
        if fault is Fault.SENT_TWICE:
            _quietly(apply)
            self._wait(_SDK_RETRY_MS)
            return apply()
        if fault is Fault.APPLIED_LATER:
            self._scheduler.at(self._scheduler.now_ms + self.world.faults.later_ms(), lambda: _quietly(apply))
        if fault is Fault.REPLY_LOST or fault is Fault.KILLED_AFTER:
            _quietly(apply)
        if fault is Fault.KILLED_AFTER:
            self.kill()
        raise UnavailableError(call, fault, may_have_applied=fault is not Fault.THROTTLED)

    def _throttled(self, actions: Sequence[Action]) -> MeteringError:
        """Error of a transaction with one throttled action: only the conditions of the other actions are checked."""
        place = int(self._chance() * len(actions))
        code = _THROTTLES[place % len(_THROTTLES)]
        return self._store.refusal(actions, {place: code}) or ThrottledError("items.transact", code)

    def _pause(self) -> None:
        self._wait(self.world.faults.pause_ms())
        self._check()

    def _check(self) -> None:
        if self._dead:
            raise KilledError
        if self._scheduler.now_ms > self.dies_at_ms:
            self.world.faults.histogram["killed at the time limit"] += 1
            self.kill()


def _no_fault(_process: str, _call: str, _choices: tuple[Fault, ...]) -> None:
    return None


def _quietly(apply: Callable[[], object]) -> None:
    """Apply a call and drop its reply."""
    try:
        apply()
    except MeteringError:
        return


class ProcessItems:
    def __init__(self, process: Process, store: MemoryItemStore) -> None:
        self._process = process
        self._store = store
        self._watch = process.world.watch
        self._landing = process.world.landing
        self._past = process.world.past

    def get(self, table: Table, key: Key) -> Item | None:
        return self._process.read("items.get", partial(self._get, table, key))

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        found: dict[Key, Item] = {}
        for key in keys:
            # Each item is read at a different time.
            item = self._process.read("items.get_many", partial(self._get, table, key))
            if item is not None:
                found[key] = item
        return found

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        items = self._store.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)
        seen = self._landing.seen(table, items, lambda key: key.pk == pk and sk_from <= key.sk < sk_to, descending)
        return self._one_by_one("items.query", seen)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        return self._one_by_one("items.scan", self._store.scan(table, part=part, parts=parts, prefixes=prefixes))

    def put(self, action: Put) -> None:
        def apply() -> None:
            self._past.keep(action)
            self._store.put(action)
            self._landing.written(action)
            self._watch.written(action)

        self._process.write("items.put", apply)

    def update(self, action: Update) -> Item:
        def apply() -> Item:
            self._past.keep(action)
            item = self._store.update(action)
            self._landing.written(action)
            self._watch.written(action)
            return item

        return self._process.write("items.update", apply)

    def delete(self, action: Delete) -> None:
        def apply() -> None:
            self._past.keep(action)
            self._store.delete(action)
            self._landing.written(action)
            self._watch.written(action)

        self._process.write("items.delete", apply)

    def transact(self, actions: Sequence[Action]) -> None:
        def apply() -> None:
            self._past.keep(*actions)
            with self._landing.of(actions):
                self._store.transact(actions)
            for action in actions:
                if not isinstance(action, Check):
                    self._watch.written(action)

        self._process.write("items.transact", apply, actions=actions)
        # After the reply, the caller sees all effects of the transaction.
        self._landing.wait_for(actions, self._process.wait)

    def _get(self, table: Table, key: Key) -> Item | None:
        return self._landing.item(table, key, self._store.get(table, key))

    def _one_by_one(self, call: str, items: Iterator[Item]) -> Iterator[Item]:
        """Read each item at its own simulated time."""
        while True:
            self._process.turn_pages(call)
            item = self._process.read(call, partial(next, items, None))
            if item is None:
                return
            yield item


class EventualItems(ProcessItems):
    """The tables as eventually consistent reads see them: items of the last seconds may have their version before."""

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        for item in super().query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending):
            seen = self._process.world.past.item(table, Key(str(item["pk"]), str(item["sk"])), item)
            if seen is not None:
                yield seen

    def _get(self, table: Table, key: Key) -> Item | None:
        return self._process.world.past.item(table, key, super()._get(table, key))


class ProcessObjects:
    def __init__(self, process: Process, store: MemoryObjectStore) -> None:
        self._process = process
        self._store = store
        self._watch = process.world.watch

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        def apply() -> bool:
            written = self._store.put(key, body, if_absent=if_absent)
            if written:
                self._watch.put_object(key)
            return written

        return self._process.write("objects.put", apply)

    def upload(self, key: str, body: bytes, *, crc64nvme: str = "") -> str:
        def apply() -> str:
            etag = self._store.upload(key, body, crc64nvme=crc64nvme)
            self._watch.put_object(key)
            return etag

        return self._process.write("objects.upload", apply)

    def get(self, key: str) -> bytes:
        return self._process.read("objects.get", partial(self._store.get, key))

    def open(self, key: str, *, if_match: str | None = None, version_id: str | None = None) -> BinaryIO:
        return self._process.read(
            "objects.open", lambda: BytesIO(self._store.open(key, if_match=if_match, version_id=version_id).read())
        )

    def pinned(self, key: str, *, if_match: str, version_id: str = "") -> ObjectInfo:
        return self._process.read(
            "objects.pinned", partial(self._store.pinned, key, if_match=if_match, version_id=version_id)
        )

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        del last_bytes
        return self.open(key)

    def head(self, key: str) -> ObjectInfo | None:
        return self._process.read("objects.head", partial(self._store.head, key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        infos = self._store.list(prefix, after=after)
        while True:
            self._process.turn_pages("objects.list")
            info = self._process.read("objects.list", lambda: next(infos, None))
            if info is None:
                return
            yield info

    def delete(self, keys: Sequence[str]) -> None:
        self._process.write("objects.delete", lambda: self._store.delete(keys))
