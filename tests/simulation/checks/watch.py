"""Checks after every write of a history, on the state that any reader could see at that moment."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import hour_label, parse_hour
from metering.ledger.booked_hours import POINTER_PREFIX, PUBLISHED_PREFIX, LakeFile, Published
from metering.ledger.commits import Waiting
from metering.ledger.markers import conflict_key, marker_key
from metering.ledger.partitions import WAITING
from metering.ledger.periods import FrozenMonth
from metering.ledger.retries import Alias
from metering.ledger.usage.items import REGION_PREFIX
from metering.stores.objects import CLOSED_PREFIX, quarantined_batch_key, summary_key
from metering.stores.writes import Delete, Item, Key, Put, Table, Update, key_of
from metering.units import DAY_S, MINUTE_S
from tests.simulation.sent.senders import NOBODY, SentBy
from tests.support.memory.frozen import decode_usage
from tests.support.memory.rows import PlainRow, decode_rows, plain_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.simulation.region.world import World
    from tests.simulation.sent.traffic import SentContent
    from tests.support.memory.objects import MemoryObjectStore


def wrong_totals(objects: MemoryObjectStore, file: LakeFile) -> str:
    """Differences between a published file's totals and its rows."""
    key = summary_key(file.key)
    kept, body = objects.peek(key), objects.peek(file.key)
    if kept is None or body is None:
        return f"{file.key} is published without its totals"
    return "" if dict(decode_usage(kept, key)) == plain_usage(decode_rows(body)) else f"{key} is not of its file's rows"


def missing_objects(objects: MemoryObjectStore, manifest: str) -> Iterator[str]:
    """Objects named in a manifest that do not exist."""
    closed = FrozenMonth.from_json(objects.peek(manifest) or b"", manifest)
    named = [hour.key for hour in closed.hours] + [rows.key for rows in (closed.accounts, closed.days) if rows]
    return (key for key in named if objects.peek(key) is None)


_USAGE = Table.USAGE
# Markers live for 50 days by their worker's clock, and clocks are wrong by minutes.
_SHORTEST_LIFE_MS = 50 * DAY_S * 1000 - 10 * MINUTE_S * 1000


class ViolationError(AssertionError):
    """An invariant does not hold."""


class _Shown(NamedTuple):
    """Objects that a published file list or a pointer makes visible, unless the hour has the item `unless`."""

    keys: tuple[str, ...]
    unless: str


def _shown(item: Item) -> _Shown:
    if str(item["sk"]).startswith(POINTER_PREFIX):
        return _Shown((str(item["staging"]),), f"{PUBLISHED_PREFIX}{item.get('run')}")
    return _Shown(tuple(file.key for file in Published.from_item(item).files), "")


class Watch:
    """Follows every write.

    Attributes:
        accepted: Batch id -> (content hash, commit id, time) of every verdict that was ever durable.
        visible_since: Hour -> resource id -> time at which its row became readable.
        booked: Time and rows of each commit, in the order of the commits.
        markers_lost: Batches whose marker was lost.
        decided: Contents with senders of which a message was acknowledged, so that a verdict exists.
        rebuilt: Batches whose lost marker was rebuilt, without a hash.
        put_again: Batches whose lost marker was put again, from its copy in S3.
        unwritten: Whether S3 has no markers, as if an earlier release had made all commits.
        aliases: Keys of aliases that were durable at any time.
        held: Batches that a restore could not decide, so that a person has to.
        follows: False between fence and opening of a restored ledger, which is not read meanwhile, and for processes
            of the ledger before.
    """

    def __init__(self, world: World) -> None:
        self.accepted: dict[str, tuple[str, str, int]] = {}
        self.rejected: set[str] = set()
        self.markers_lost: set[str] = set()
        self.decided: set[tuple[str, SentBy]] = set()
        self.rebuilt: set[str] = set()
        self.put_again: set[str] = set()
        self.unwritten = False
        self.held: set[str] = set()
        self.follows = True
        self.visible_since: dict[int, dict[str, int]] = {}
        self.booked: list[tuple[int, tuple[PlainRow, ...]]] = []
        self.frozen: set[str] = set()
        self.closing: set[str] = set()
        self._world = world
        # As verdicts, they may have expired by the end.
        self.aliases: set[Key] = set()
        # Object key -> partition of an hour -> resource ids of the object's rows there. Objects are never overwritten.
        self._rows: dict[str, dict[str, list[str]]] = {}
        # Partition of an hour -> waiting commit -> its staging object.
        self._waiting: dict[str, dict[str, str]] = {}
        # Key of a waiting entry -> the hours in that entry.
        self._waits_in: dict[Key, tuple[str, ...]] = {}
        # Partition of an hour -> sort key -> the objects that the item with this key makes visible.
        self._hours: dict[str, dict[str, _Shown]] = {}

    def written(self, action: Put | Update | Delete) -> None:
        if self.follows:
            self._written(action)

    def _written(self, action: Put | Update | Delete) -> None:
        pk, sk = key = action.key
        if action.table is _USAGE:
            # The region's items of a closed month may get the runs that they lacked. Readers ask the frozen month.
            if self.frozen and not pk.startswith(REGION_PREFIX):
                self._check_frozen(pk.rpartition("#")[2], "usage")
            return
        kind = pk[0]
        if kind == "H":
            self._hour_written(action, key)
        elif kind == "B" and sk == "M" and isinstance(action, Put):
            self._verdict(action.item)
        elif kind == "B" and sk.startswith("A#"):
            self.aliases.add(key)
        elif kind == "T":
            self._period(action)
        elif pk.startswith(WAITING):
            self._waiting_written(action, key)

    def _waiting_written(self, action: Put | Update | Delete, key: Key) -> None:
        """A waiting entry makes its rows visible until another list makes them visible."""
        if isinstance(action, Put):
            waiting = Waiting.from_item(action.item)
            hours = self._waits_in[key] = tuple(f"H#{hour_label(hour_s)}" for hour_s in waiting.totals)
            self._committed(waiting.staging_key, hours)
            for pk in hours:
                self._waiting.setdefault(pk, {})[key.sk] = waiting.staging_key
        else:
            hours = self._waits_in.pop(key, ())
            for pk in hours:
                del self._waiting[pk][key.sk]
        for pk in hours:
            self._check_hour(pk)

    def _hour_written(self, action: Put | Update | Delete, key: Key) -> None:
        hour = self._hours.setdefault(key.pk, {})
        item = None if isinstance(action, Delete) else self._world.items.peek(Table.LEDGER, key)
        if item is None:
            hour.pop(key.sk, None)
        else:
            hour[key.sk] = _shown(item)
        if isinstance(action, Put) and not key.sk.startswith(POINTER_PREFIX):
            self._check_frozen(key.pk[2:9], "a published hour")
            for wrong in filter(
                None, (wrong_totals(self._world.objects, f) for f in Published.from_item(action.item).files)
            ):
                raise ViolationError(f"I2: {wrong}")
        self._check_hour(key.pk)

    def put_object(self, key: str) -> None:
        if not self.follows:
            return
        if key.startswith("lake/"):
            self._check_frozen(key[8:15], "the lake")
        elif key.startswith(CLOSED_PREFIX):
            self._check_frozen(key[7:14], "an object")
            if key.endswith(".json"):
                for missing in missing_objects(self._world.objects, key):
                    raise ViolationError(f"I6: {key} names {missing}, which is not there")

    def lose_marker(self, batch_id: str) -> None:
        self._world.items.remove(Table.LEDGER, marker_key(batch_id))
        self.markers_lost.add(batch_id)

    def acknowledged(self, content: SentContent | None, sender: SentBy = NOBODY) -> None:
        """Check that the verdict of a deleted message is durable (I4)."""
        # Between fence and opening, the verdict of the ledger before is on its way into the next one.
        if content is not None and self.follows and not self.has_verdict(content, sender):
            raise ViolationError(f"I4: {content.name} of {sender} was acknowledged without a verdict")
        if content is not None:
            self.decided.add((content.name, sender))

    def has_verdict(self, content: SentContent, sender: SentBy = NOBODY) -> bool:
        """Whether a content has a durable verdict or, if the sender is forbidden, the sender's refusal is durable."""
        if not self._world.senders.may_send(content, sender):
            return self._world.objects.peek(self._world.senders.refusal_key(content, sender)) is not None
        if {content.batch_id, content.retry_of} & self.held:
            # A person decides, and has all contents.
            return True
        accepted = self.accepted.get(content.batch_id)
        if accepted is not None and accepted[0] == content.content_hash:
            return True
        if self._world.peek(conflict_key(content.batch_id, content.content_hash)) is not None:
            return True
        if self.is_metered_elsewhere(content):
            return True
        marker = self._world.peek(marker_key(content.batch_id))
        if marker is not None and (marker["verdict"] == "rejected" or content.location):
            return True
        hashes = (content.content_hash, f"body-{content.name}")
        return any(
            self._world.objects.peek(quarantined_batch_key(content.batch_id, name)) is not None for name in hashes
        ) and (content.batch_id in self.rejected)

    def is_metered_elsewhere(self, content: SentContent) -> bool:
        """Whether a retry's content is metered under its original id, or as another retry."""
        if content.retries is None:
            return False
        first = self.accepted.get(content.retry_of)
        alias = Alias(batch_id=content.retry_of, content_hash=content.content_hash, retry_id="", expires_at_s=0)
        return (first is not None and first[0] == content.content_hash) or alias.key in self.aliases

    def of_next_ledger(self) -> Watch:
        """The watch of a ledger that is restored now. This one is left to late processes, and follows nothing."""
        self.follows = False
        made = copy(self)
        made.accepted = dict(self.accepted)
        return made

    def follow(self, items: Iterable[Item]) -> dict[str, int]:
        """Follow a ledger that was just opened; returns the booked hour of each row that readers see in it."""
        self._hours, self._waiting, self._waits_in = {}, {}, {}
        for item in items:
            key = key_of(item)
            if key.pk[0] == "H":
                self._hours.setdefault(key.pk, {})[key.sk] = _shown(item)
            elif key.pk.startswith(WAITING):
                waiting = Waiting.from_item(item)
                self._waits_in[key] = tuple(f"H#{hour_label(hour_s)}" for hour_s in waiting.totals)
                for pk in self._waits_in[key]:
                    self._waiting.setdefault(pk, {})[key.sk] = waiting.staging_key
        seen: dict[str, int] = {}
        for pk in {**self._hours, **self._waiting}:
            for resource_id in self._seen(pk):
                if resource_id in seen:
                    raise ViolationError(f"I3: {resource_id} is visible twice: restored twice")
                seen[resource_id] = parse_hour(pk[2:])
        self.follows = True
        return seen

    def waiting_rows(self) -> set[str]:
        """Resource ids of rows that wait for the roll-up."""
        return {
            name
            for pk, waiting in self._waiting.items()
            for key in waiting.values()
            for name in self._hour_rows(key, pk)
        }

    def objects_seen(self) -> Iterator[tuple[PlainRow, ...]]:
        """Rows of each object that some reader reads."""
        shown = [each for hour in self._hours.values() for each in hour.values()]
        keys = {key for each in shown for key in each.keys}
        keys |= {key for waiting in self._waiting.values() for key in waiting.values()}
        # The staging object of a pointer whose file is published may be deleted.
        bodies = (self._world.objects.peek(key) for key in sorted(keys))
        return (decode_rows(body) for body in bodies if body is not None)

    def _committed(self, staging_key: str, hours: tuple[str, ...]) -> None:
        now_ms = self._world.scheduler.now_ms
        for pk in hours:
            since = self.visible_since.setdefault(parse_hour(pk[2:]), {})
            for resource_id in self._hour_rows(staging_key, pk):
                if resource_id in since:
                    raise ViolationError(f"I3: {resource_id} is visible twice: committed again")
                since[resource_id] = now_ms
        self.booked.append((now_ms, tuple(decode_rows(self._world.objects.peek(staging_key) or b""))))

    def _check_hour(self, pk: str) -> None:
        """Check that a reader of the hour now sees each readable row exactly once."""
        seen = self._seen(pk)
        expected = self.visible_since.get(parse_hour(pk[2:]), {})
        if len(seen) != len(expected) or set(seen) != expected.keys():
            doubled = sorted({name for name in seen if seen.count(name) > 1})
            lost = sorted(set(expected) - set(seen))
            raise ViolationError(f"I3/I5: hour {pk}: doubled {doubled}, lost {lost}, of {len(expected)} rows")

    def _seen(self, pk: str) -> list[str]:
        """Resource ids of all rows that a reader of the hour now sees."""
        seen: list[str] = []
        hour = self._hours.get(pk, {})
        waiting = {f"{POINTER_PREFIX}{commit_id}": key for commit_id, key in self._waiting.get(pk, {}).items()}
        # If a waiting commit has a pointer, it is counted once.
        for keys, unless in (*hour.values(), *(_Shown((key,), "") for sk, key in waiting.items() if sk not in hour)):
            if unless not in hour:
                for key in keys:
                    seen += self._hour_rows(key, pk)
        return seen

    def _hour_rows(self, key: str, pk: str) -> list[str]:
        body = self._world.objects.peek(key)
        if body is None:
            raise ViolationError(f"I5: {key} is gone, and readers of {pk} need it")
        by_hour = self._rows.get(key)
        if by_hour is None:
            by_hour = self._rows[key] = {}
            for row in decode_rows(body):
                by_hour.setdefault(f"H#{hour_label(row.booked_s)}", []).append(row.resource_id)
        return by_hour.get(pk, [])

    def _verdict(self, item: Item) -> None:
        batch_id = str(item["pk"])[2:]
        self._check_sender(batch_id, item)
        if item["verdict"] == "rejected":
            self.rejected.add(batch_id)
            accepted = self.accepted.get(batch_id)
            if accepted is not None and self._world.scheduler.now_ms < accepted[2] + _SHORTEST_LIFE_MS:
                raise ViolationError(f"I1: {batch_id} was accepted, then rejected")
            return
        if "hash" not in item:
            self._made_anew(batch_id)
            return
        if batch_id in self.markers_lost:
            self._put_again(batch_id, item)
            return
        if batch_id in self.accepted:
            raise ViolationError(f"I1: {batch_id} was accepted twice")
        self.accepted[batch_id] = (str(item["hash"]), str(item["commit_id"]), self._world.scheduler.now_ms)

    def _check_sender(self, batch_id: str, item: Item) -> None:
        """Check that only the owner of a batch id gets a marker for that id."""
        sender = str(item.get("sender", ""))
        owners = self._world.senders.owners
        if sender and batch_id in owners and owners[batch_id] != sender.partition(":")[0]:
            raise ViolationError(f"I1: {sender} made a marker of {batch_id}, which is {owners[batch_id]}'s")

    def _put_again(self, batch_id: str, item: Item) -> None:
        """A lost marker comes back as the commit wrote it in S3 (P50)."""
        if (str(item["hash"]), str(item["commit_id"])) != self.accepted[batch_id][:2]:
            raise ViolationError(f"I1: the marker of {batch_id} came back with other content")
        self.markers_lost.remove(batch_id)
        self.put_again.add(batch_id)

    def _made_anew(self, batch_id: str) -> None:
        if batch_id not in self.markers_lost:
            raise ViolationError(f"I1: the marker of {batch_id} was made anew, and was not lost")
        self.markers_lost.remove(batch_id)
        self.rebuilt.add(batch_id)

    def _period(self, action: Put | Update | Delete) -> None:
        month = action.key.pk[2:]
        item = self._world.peek(action.key)
        if item is not None and item["state"] == "closed":
            self.frozen.add(month)
        self.closing.add(month)

    def _check_frozen(self, month: str, what: str) -> None:
        if month in self.frozen:
            raise ViolationError(f"I6: {what} of the closed month {month} changed")
