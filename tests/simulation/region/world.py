"""One simulated region: its stores, queue, clock, random streams and watch. The region itself causes no faults."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from metering.intake.senders import judged_sender, statement
from metering.ledger.format_version import RESTORED_FORMAT, LedgerFormat
from metering.ledger.usage.kinds import REGION_KINDS
from metering.stores.queues import Delivery
from metering.stores.writes import DYNAMODB_LIMITS, Action, ActionLimits, Check, Delete, Item, Key, Put, Table, Update
from tests.simulation.checks.watch import Watch
from tests.simulation.region.faults import MINUTE_MS, Decider
from tests.simulation.region.ports import Process
from tests.simulation.region.scheduler import Scheduler
from tests.simulation.sent.senders import NOBODY, OPERATOR, SERVICES, Senders, SentBy, sent_by
from tests.support.region import MemoryStores

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tests.simulation.sent.traffic import SentContent
    from tests.support.memory.items import MemoryItemStore

# Share of transactions that become visible gradually, and the longest delay until the first item is visible.
_SHARE = 0.3
LANDS_MS = 60


class _Before(NamedTuple):
    """Old version of an item, which readers see until `until_ms`."""

    item: Item | None
    until_ms: int


class Landing:
    """Transactions whose changes readers see item by item. The store has already applied them."""

    def __init__(self, store: MemoryItemStore, scheduler: Scheduler, chance: random.Random) -> None:
        self._store = store
        self._scheduler = scheduler
        self._chance = chance
        self._before: dict[tuple[Table, Key], _Before] = {}
        # Item that a transaction checked -> items of the transaction: a write of the item conflicts until they landed.
        self._checked: dict[tuple[Table, Key], list[tuple[Table, Key]]] = {}

    @contextmanager
    def of(self, actions: Sequence[Action]) -> Iterator[None]:
        """Around a block that applies a transaction: readers still see old items for a while afterwards."""
        if len(actions) == 1 or self._chance.random() >= _SHARE:
            yield
            return
        written = [action for action in actions if not isinstance(action, Check)]
        for action in actions:
            if isinstance(action, Check):
                self._checked.setdefault((action.table, action.key), []).extend((w.table, w.key) for w in written)
        before = [self.item(each.table, each.key, self._store.peek(each.table, each.key)) for each in written]
        yield
        now_ms = self._scheduler.now_ms
        for action, item in zip(written, before, strict=True):
            self._before[action.table, action.key] = _Before(item, now_ms + int(self._chance.random() * LANDS_MS))

    def wait_for(self, actions: Sequence[Action], wait: Callable[[int], None]) -> None:
        """Wait until a transaction is entirely visible."""
        until_ms = max((b.until_ms for a in actions if (b := self._before.get((a.table, a.key)))), default=0)
        if until_ms > self._scheduler.now_ms:
            wait(until_ms - self._scheduler.now_ms)

    def written(self, action: Put | Update | Delete) -> None:
        """Discard an item's old version, because a later write replaces that version for all readers."""
        self._before.pop((action.table, action.key), None)
        for other in self._checked.pop((action.table, action.key), ()):
            self._before.pop(other, None)

    def item(self, table: Table, key: Key, item: Item | None) -> Item | None:
        """The version of an item that readers see now; `item` is the final version."""
        before = self._before.get((table, key))
        if before is None:
            return item
        if before.until_ms <= self._scheduler.now_ms:
            del self._before[table, key]
            return item
        return before.item

    def seen(
        self, table: Table, items: Iterator[Item], belongs: Callable[[Key], bool], descending: bool
    ) -> Iterator[Item]:
        """Items of a query, each in the version that is visible when the item is read."""
        last: Key | None = None
        while True:
            item = next(items, None)
            key = None if item is None else Key(str(item["pk"]), str(item["sk"]))
            # Until then, items that the transaction deletes are still visible.
            for gone in self._gone(table, last, key, belongs, descending):
                seen = self.item(table, gone, None)
                if seen is not None:
                    yield seen
            if item is None or key is None:
                return
            seen = self.item(table, key, item)
            if seen is not None:
                yield seen
            last = key

    def _gone(
        self, table: Table, after: Key | None, before: Key | None, belongs: Callable[[Key], bool], descending: bool
    ) -> list[Key]:
        low, high = (before, after) if descending else (after, before)
        keys = [
            key
            for its_table, key in self._before
            if its_table is table
            and belongs(key)
            and (low is None or low.sk < key.sk)
            and (high is None or key.sk < high.sk)
            and self._store.peek(table, key) is None
        ]
        return sorted(keys, reverse=descending)


# Eventually consistent reads are usually behind by less than a second.
_EVENTUAL_MS = 5_000


class Past:
    """Versions of items before their last write, for eventually consistent reads."""

    def __init__(self, store: MemoryItemStore, scheduler: Scheduler) -> None:
        self._store = store
        self._scheduler = scheduler
        self._before: dict[tuple[Table, Key], _Before] = {}

    def keep(self, *actions: Action) -> None:
        """Remember the items that actions are about to write."""
        until_ms = self._scheduler.now_ms + _EVENTUAL_MS
        for each in actions:
            self._before[each.table, each.key] = _Before(self._store.peek(each.table, each.key), until_ms)

    def item(self, table: Table, key: Key, item: Item | None) -> Item | None:
        """The version that an eventually consistent read returns; `item` is the newest."""
        before, now_ms = self._before.get((table, key)), self._scheduler.now_ms
        if before is None or before.until_ms <= now_ms or crc32(f"{key}{now_ms}".encode()) % 2:
            return item
        return before.item


VISIBILITY_MS = 7 * MINUTE_MS
MAX_RECEIVES = 5


@dataclass(slots=True)
class Message:
    message_id: str
    body: str
    sent_at_ms: int
    sender_id: str
    stated_sender: str = ""
    receives: int = 0
    visible_at_ms: int = 0


class SimulatedQueue:
    """The ingest queue. Neither `messages` (queued or in flight) nor `dead` (dead letters) are lost."""

    def __init__(self, scheduler: Scheduler, chance: random.Random, histogram: Counter[str]) -> None:
        self.messages: dict[str, Message] = {}
        self.dead: dict[str, Message] = {}
        # Every SentTimestamp that a body has ever had, including redrives: admission may have used any of these times.
        self.sent_times: dict[str, list[int]] = {}
        self.delivered: dict[str, int] = {}
        # Body -> original sender -> time of the first message. If senders are not checked, all senders are equal.
        self.senders: dict[str, dict[SentBy, int]] = {}
        self.judged = False
        self.odd = True
        self._scheduler = scheduler
        self._chance = chance
        self._histogram = histogram
        self._count = 0
        self._parked: list[Callable[[], object]] = []

    def send(self, body: str, sender_id: str, stated_sender: str = "") -> None:
        self._count += 1
        now_ms = self._scheduler.now_ms
        message_id = f"m{self._count}"
        self.messages[message_id] = Message(message_id, body, now_ms, sender_id, stated_sender)
        self.sent_times.setdefault(body, []).append(now_ms)
        self.senders.setdefault(body, {}).setdefault(self.sender_of(self.messages[message_id]), now_ms)
        self._wake()

    def park(self, wake: Callable[[], object]) -> None:
        """Register `wake`, to be called once when a message is sent."""
        self._parked.append(wake)

    def next_visible_ms(self) -> int | None:
        """Time at which the next message becomes visible; None if the queue is empty."""
        return min((message.visible_at_ms for message in self.messages.values()), default=None)

    def receive(self, limit: int) -> list[Delivery]:
        """Receive some messages, in any order."""
        now_ms = self._scheduler.now_ms
        found = [m for m in self.messages.values() if m.visible_at_ms <= now_ms]
        if self.odd and len(found) < len(self.messages) and self._chance.random() < 0.03:
            found.append(self._chance.choice([m for m in self.messages.values() if m.visible_at_ms > now_ms]))
            self._histogram["delivered while in flight"] += 1
        if len(found) > 1 and self._chance.random() < 0.5:
            self._chance.shuffle(found)
            self._histogram["delivered out of order"] += 1
        return [self._deliver(m, now_ms) for m in found[:limit] if not self._give_up(m)]

    def sender_of(self, message: Message) -> SentBy:
        """Original sender of a message."""
        return sent_by(message.sender_id, message.stated_sender) if self.judged else NOBODY

    def acknowledge(self, message_ids: Iterable[str]) -> list[Message]:
        """Delete messages; returns them. Occasionally, a deleted message is redelivered, as SQS permits."""
        acknowledged = []
        for message_id in message_ids:
            message = self.messages.get(message_id)
            if message is None:
                continue
            acknowledged.append(message)
            if self.odd and self._chance.random() < 0.02:
                self._histogram["delivered again after its deletion"] += 1
                continue
            del self.messages[message_id]
        return acknowledged

    def hide(self, seconds: Mapping[str, int]) -> None:
        """Set the visibility timeouts of messages: seconds by message id."""
        for message_id, hidden_s in seconds.items():
            if message_id in self.messages:
                self.messages[message_id].visible_at_ms = self._scheduler.now_ms + hidden_s * 1000

    def redrive(self) -> int:
        dead, self.dead = self.dead, {}
        for message in dead.values():
            if self.judged:
                # Sent by an operator's command, which states who the original sender was.
                self.send(message.body, OPERATOR, statement(judged_sender(self._delivery(message), SERVICES)))
            else:
                self.send(message.body, message.sender_id)
        return len(dead)

    def holds(self, body: str) -> bool:
        return any(m.body == body for m in self.messages.values()) or any(m.body == body for m in self.dead.values())

    def _deliver(self, message: Message, now_ms: int) -> Delivery:
        message.receives += 1
        message.visible_at_ms = now_ms + VISIBILITY_MS
        if message.receives > 1:
            self._histogram["delivered again"] += 1
        self.delivered[message.body] = self.delivered.get(message.body, 0) + 1
        return self._delivery(message)

    @staticmethod
    def _delivery(message: Message) -> Delivery:
        return Delivery(
            message_id=message.message_id,
            body=message.body,
            sent_at_ms=message.sent_at_ms,
            receive_count=message.receives,
            sender_id=message.sender_id,
            stated_sender=message.stated_sender,
        )

    def _give_up(self, message: Message) -> bool:
        if message.receives < MAX_RECEIVES:
            return False
        del self.messages[message.message_id]
        self.dead[message.message_id] = message
        self._histogram["moved to the dead-letter queue"] += 1
        return True

    def _wake(self) -> None:
        parked, self._parked = self._parked, []
        for wake in parked:
            self._scheduler.at(self._scheduler.now_ms, wake)


class World(MemoryStores):
    """All that processes share.

    Attributes:
        limits: Maximum number of actions in a transaction. With a small limit, small batches need several commits, and
            placing a commit needs several transactions.
        region_kinds: Maximum number of the region's kinds.
        short_until_ms: Until this time, the tables lack write capacity and throttle most writes.
        processes: All processes that were made.
        fenced: The ledger before the present one, if that one was restored.
        listen: Called with each new process, so that a test can wrap the ports of the process.
    """

    def __init__(
        self,
        seed: int,
        faults: Decider,
        *,
        now_ms: int,
        limits: ActionLimits = DYNAMODB_LIMITS,
        senders: Senders | None = None,
    ) -> None:
        self.faults = faults
        self.limits = limits
        self.region_kinds = REGION_KINDS
        self.scheduler = Scheduler(now_ms)
        # One random stream per purpose, so that if a fault or a batch is removed from a failing history, the rest
        # changes as little as possible.
        self.latency = random.Random(f"latency {seed}")
        self.names = random.Random(f"names {seed}")
        self.pages = random.Random(f"pages {seed}")
        self._shortage = random.Random(f"shortage {seed}")
        self.short_until_ms = 0
        self.fenced: MemoryItemStore | None = None
        super().__init__(self)
        self.queue = SimulatedQueue(self.scheduler, random.Random(f"queue {seed}"), faults.histogram)
        self.contents: dict[str, SentContent] = {}
        self.senders = senders or Senders.none()
        self.queue.judged = self.senders.judged
        self.senders.register(self.items)
        self.watch = Watch(self)
        self.landing = Landing(self.items, self.scheduler, random.Random(f"landing {seed}"))
        self.past = Past(self.items, self.scheduler)
        self.listen: Callable[[Process], None] | None = None
        self.processes: list[Process] = []

    def __getstate__(self) -> dict[str, object]:
        """State for a copy of a region at rest. Earlier processes are omitted."""
        return {**vars(self), "processes": []}

    def now_ms(self) -> int:
        """True time, which S3 uses as the modification time of objects."""
        return self.scheduler.now_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self.scheduler.wait(duration_ms)

    def process(self, name: str, *, skew_ms: int = 0) -> Process:
        process = Process(self, name, skew_ms=skew_ms)
        if self.listen is not None:
            self.listen(process)
        self.processes.append(process)
        return process

    def restore_ledger(self, backup: Iterable[Item], *, generation: int) -> None:
        """Fence the ledger, and go on with one that has the items of a backup and is still to be adopted.

        Processes that were made before keep the fenced ledger.
        """
        self.items.fence()
        self.fenced = self.items
        self.items = self.items.restored(backup)
        self.watch = self.watch.of_next_ledger()
        self.landing = Landing(self.items, self.scheduler, random.Random(f"landing {generation}"))
        self.past = Past(self.items, self.scheduler)
        own = LedgerFormat(
            number=RESTORED_FORMAT, written_by="test", usage_generation=2, generation=generation, state="adopting"
        )
        self.items.put(Put(table=Table.LEDGER, item=own.to_item()))

    def is_short(self) -> bool:
        """Whether a write is throttled now because a table lacks write capacity."""
        if self.scheduler.now_ms >= self.short_until_ms or self._shortage.random() < 0.1:
            return False
        self.faults.histogram["throttled for a while"] += 1
        return True

    def peek(self, key: Key) -> Item | None:
        return self.items.peek(Table.LEDGER, key)

    def expire(self, chance: random.Random) -> int:
        """TTL: delete some of the expired items, because DynamoDB may delete them at any later time."""
        now_s = self.scheduler.now_ms // 1000
        due = [
            Key(str(item["pk"]), str(item["sk"]))
            for item in self.items.everything(Table.LEDGER)
            if int(item.get("expires_at", now_s)) < now_s and chance.random() < 0.7  # type: ignore[arg-type]  # a number
        ]
        for key in due:
            self.items.remove(Table.LEDGER, key)
        return len(due)

    def end_of_life(self, prefix: str, age_s: int, chance: random.Random) -> int:
        """S3 lifecycle: delete some of the objects that are old enough."""
        now_s = self.scheduler.now_ms // 1000
        due = [
            info.key for info in self.objects.list(prefix) if info.modified_s + age_s < now_s and chance.random() < 0.7
        ]
        for key in due:
            self.objects.remove(key)
        return len(due)

    def end(self) -> None:
        """Free all objects now, because uncollected garbage would evict the next history from the CPU cache."""
        self.scheduler.end()
        for process in self.processes:
            vars(process).clear()
        vars(self).clear()
