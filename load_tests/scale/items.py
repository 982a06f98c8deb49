"""Both tables of a computed region. Only items that a job writes are stored."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain

from load_tests.scale.meter import Kept, Meter
from load_tests.scale.region import KINDS, RECORDS, ROUNDS, Region, account_id, kind
from load_tests.scale.templates import KEPT, Staging, batch_id
from metering.audit.sequences import SeenSequences
from metering.audit.source_keeping import SourceMemory
from metering.hours import hour_label, month_bounds_s, parse_hour
from metering.ledger import partitions
from metering.ledger.booked_hours import POINTER_PREFIX, LakeFile, Published
from metering.ledger.markers import marker_key
from metering.ledger.notes.reconciliation import SOURCE_PK, SOURCES_KEY, SourceFigures
from metering.ledger.runs import Run, lake_chain, rollup_chain
from metering.ledger.usage.items import REGION_PREFIX, newest_run_of, usage_item_key
from metering.ledger.usage.kinds import DIRECTORY, kind_items
from metering.ledger.usage.region import NEVER, START_KEY, substitutes
from metering.stores.objects import lake_file_key, plan_key
from metering.stores.writes import Action, Delete, Item, Key, Put, Table, Update, Value, item_bytes, key_of
from metering.units import DAY_S, HOUR_S, KIB
from metering.usage.totals import REGION, Total, UsageKey, sum_totals

_PAGE_BYTES = 1_000_000
_HASH = "5f" * 32
_ROLLUP_RUN = 1_000_000
_ANY_KIND = kind(0)
# Kinds of the region's numbers: those of each account, in the same order, and the kinds that stand for others.
_KINDS = tuple(map(kind, range(KINDS)))
_OF_REGION = tuple(dict.fromkeys((*_KINDS, *chain.from_iterable(map(substitutes, _KINDS)))))
# Number of blocks whose batches come from one source, and number of the source's batches per hour.
BLOCKS_A_SOURCE = 4
_NUMBERS_AN_HOUR = (ROUNDS - 1) * BLOCKS_A_SOURCE
# Name of their number among the calls.
WRITE_UNITS = "write units"
_OURS = partitions.BATCH + "s-"


def source_id(number: int) -> str:
    """Id of a source."""
    return f"edge-{number:08d}"


class ComputedItems:
    """`ItemStore` of a region."""

    def __init__(
        self,
        region: Region,
        meter: Meter,
        *,
        staging: Staging | None = None,
        marker_days: int = 50,
        booked: Region | None = None,
    ) -> None:
        self._region = region
        # What usage has, if that is more than the ledger has.
        self._booked = booked or region
        self._meter = meter
        self._staging = staging
        self._markers_from_s = max(region.begin_s, region.end_s - marker_days * DAY_S)
        self.kept = Kept()
        self._accounts = {account_id(account): account for account in range(region.accounts)}
        self._sizes: dict[str, int] = {}
        self._batch_totals = list(map(region.batch_total, range(region.blocks)))
        # Jobs write from several threads, and the stored items are not safe for concurrent use.
        self._lock = threading.RLock()
        # The region's totals by lateness and kind, if a measurement needs them (`with_region`); else only what the
        # measured job adds.
        self._region_totals: dict[int, list[Total]] = {}
        # Counts the most expensive computations of items, which are not part of the job's time.
        self.computed: Counter[str] = Counter()

    def with_region(self) -> None:
        """Compute the region's totals, too, and list the accounts. This takes half a minute at the target."""
        region = self._booked
        for days in {region.days_there(hour_s) for hour_s in range(region.begin_s, region.end_s, HOUR_S)}:
            self._region_totals[days] = [
                sum_totals(region.kind_total(account, number, days) for account in range(region.accounts))
                for number in range(KINDS)
            ]

    # Reads.

    def get(self, table: Table, key: Key) -> Item | None:
        self._meter.call("get", items=1)
        return self.peek(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        found: dict[Key, Item] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), 100):
            part = wanted[start : start + 100]
            for key in part:
                if (item := self.peek(table, key)) is not None:
                    found[key] = item
            self._meter.call("get_many", items=len(part))
        return found

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        computed = self._computed(table, pk, sk_from, sk_to, descending=descending)
        return self._paged("query", self._merged(table, pk, computed, sk_from, sk_to, descending=descending))

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        found = self._everything(table, part, parts)
        return self._paged("scan", (item for item in found if str(item["pk"]).startswith(tuple(prefixes or ("",)))))

    def peek(self, table: Table, key: Key) -> Item | None:
        """Return an item without counting a call."""
        with self._lock:
            if (table, key) in self.kept.touched:
                return self.kept.written.peek(table, key)
        known, item = self._staged(key)
        return item if known else next(self._computed(table, key.pk, key.sk, key.sk + "\0", descending=False), None)

    def _staged(self, key: Key) -> tuple[bool, Item | None]:
        """Look up an item of a staged commit: whether the key belongs to a known commit, and the item."""
        staging, sort, name = self._staging, *_parted(key.pk)
        if staging is None:
            return False, None
        if sort == partitions.HOUR and key.sk.startswith(POINTER_PREFIX):
            commit_id = key.sk.removeprefix(POINTER_PREFIX)
            pointer = staging.pointer(commit_id, parse_hour(name)) if staging.pends(commit_id) else None
            return True, None if pointer is None else pointer.to_item()
        if sort == partitions.WAITING:
            return True, staging.waiting_item(key.sk).to_item() if staging.waits(key.sk) else None
        if sort == partitions.PENDING and staging.has(key.sk):
            return True, staging.pending_item(key.sk).to_item() if staging.pends(key.sk) else None
        return False, None

    # Writes: the item is computed once more, and then stored.

    def put(self, action: Put) -> None:
        self._meter.call("put", items=1)
        self._count_units(action)
        with self._lock:
            self._touch(action)
            self.kept.written.put(action)

    def update(self, action: Update) -> Item:
        self._meter.call("update", items=1)
        self._count_units(action)
        if action.table is Table.USAGE:
            self.computed["updated"] += 1
        with self._lock:
            self._touch(action)
            return self.kept.written.update(action)

    def delete(self, action: Delete) -> None:
        self._meter.call("delete", items=1)
        self._count_units(action)
        with self._lock:
            self._touch(action)
            self.kept.written.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        self._meter.call("transact", items=len(actions))
        self._count_units(*actions, *actions)
        with self._lock:
            for action in actions:
                self._touch(action)
            self.kept.written.transact(actions)

    def _count_units(self, *actions: Action) -> None:
        """Count write units: one per KiB of an item that is put, and one per other action, whose item is smaller."""
        units = sum(-(-self._size(each.item) // KIB) if isinstance(each, Put) else 1 for each in actions)
        with self._lock:
            self._meter.calls[WRITE_UNITS] += units

    def _touch(self, action: Action) -> None:
        place = (action.table, action.key)
        if place in self.kept.touched:
            return
        item = self.peek(*place)
        self.kept.touched.add(place)
        self.kept.partitions[action.table].setdefault(action.key.pk, set()).add(action.key)
        if item is not None:
            self.kept.written.put(Put(table=action.table, item=item))

    def _merged(
        self, table: Table, pk: str, computed: Iterator[Item], sk_from: str, sk_to: str, *, descending: bool
    ) -> Iterator[Item]:
        if pk not in self.kept.partitions[table]:
            return computed
        with self._lock:
            written = list(self.kept.written.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending))
        rest = (item for item in computed if (table, key_of(item)) not in self.kept.touched)
        return merge(written, rest, key=lambda item: str(item["sk"]), reverse=descending)

    def _paged(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items in pages of a megabyte."""
        pages, size, count = 0, 0, 0
        for item in items:
            yield item
            size += self._size(item)
            count += 1
            if size >= _PAGE_BYTES:
                self._meter.call(name, size_bytes=size, items=count)
                pages, size, count = pages + 1, 0, 0
        if size or not pages:
            self._meter.call(name, size_bytes=size, items=count)

    def _size(self, item: Item) -> int:
        """Size of an item, taken from the first item of its kind."""
        sort = str(item["pk"])[:2] + str(item["sk"])[:1]
        size = self._sizes.get(sort)
        if size is None:
            size = self._sizes[sort] = item_bytes(item)
        return size

    # What is computed.

    def _computed(self, table: Table, pk: str, sk_from: str, sk_to: str, *, descending: bool) -> Iterator[Item]:
        if table is Table.USAGE:
            found = self._usage(pk, sk_from, sk_to)
        elif pk.startswith(partitions.RUN):
            return self._runs(pk, sk_from, sk_to, descending=descending)
        elif pk.startswith(_OURS):
            found = self._marker(pk)
        else:
            found = self._ledger(pk)
        chosen = (item for item in found if sk_from <= str(item["sk"]) < sk_to)
        return iter(list(chosen)[::-1]) if descending else chosen

    def _ledger(self, pk: str) -> Iterator[Item]:
        staging, sort, name = self._staging, *_parted(pk)
        if sort == partitions.HOUR:
            yield from self._hour(parse_hour(name))
        elif pk == DIRECTORY:
            yield from (Key(pk, account)._asdict() for account in self._accounts)
        elif sort == partitions.KINDS and (name in self._accounts or name == REGION):
            # Kind names sort first, and are never queried.
            for number, each in enumerate(_OF_REGION if name == REGION else _OF_REGION[:KINDS]):
                yield kind_items(name, number, each)[0]
        elif sort == partitions.NOTE:
            yield from self._notes(pk)
        elif staging is not None:
            yield from _staged_items(staging, sort, name)

    @property
    def _scanned_s(self) -> int:
        """Time of the last full scan: a day before the region's end."""
        return max(self._region.end_s - DAY_S, self._region.begin_s)

    def _notes(self, pk: str) -> Iterator[Item]:
        """Each source's state after the last full scan, without gaps, and the scan's figures."""
        if pk == SOURCES_KEY.pk:
            yield SourceFigures(scanned_ms=self._scanned_s * 1_000).to_item()
        if pk != SOURCE_PK:
            return
        numbers = (self._scanned_s - self._region.begin_s) // HOUR_S * _NUMBERS_AN_HOUR
        if not numbers:
            return
        seen = SeenSequences(last=numbers - 1, last_ms=self._scanned_s * 1_000)
        memory = SourceMemory(seen=seen, last_seen_s=self._scanned_s)
        for number in range(-(-self._region.blocks // BLOCKS_A_SOURCE)):
            yield memory.to_item(memory.state(source_id(number), noticed_by_ms=0), life_s=60 * DAY_S)

    def _hour(self, hour_s: int) -> Iterator[Item]:
        region = self._region
        if region.begin_s <= hour_s < region.end_s:
            yield from (self._published(hour_s, days).to_item() for days in region.file_days(hour_s))
        if self._staging is not None and hour_s in self._staging.hours():
            yield from (pointer.to_item() for pointer in self._staging.pointers(hour_s))

    def _published(self, hour_s: int, days: int) -> Published:
        run = self._region.run_of(hour_s, days)
        totals = [self._region.file_total(days, number) for number in range(self._region.files_of(days))]
        files = [
            LakeFile(key=lake_file_key(hour_s, 0, run, number), rows=total.records, bytes=total.bytes)
            for number, total in enumerate(totals)
        ]
        return Published(hour_s=hour_s, shard=0, run=run, files=tuple(files))

    def _runs(self, pk: str, sk_from: str, sk_to: str, *, descending: bool) -> Iterator[Item]:
        chain = pk.removeprefix(partitions.RUN)
        if chain not in (lake_chain(0), rollup_chain(0)):
            return
        lake = chain == lake_chain(0)
        last = self._region.newest_run if lake else _ROLLUP_RUN
        numbers = range(1 if lake else _ROLLUP_RUN, last + 1)
        for number in reversed(numbers) if descending else numbers:
            if not sk_from <= f"{number:012d}" < sk_to:
                continue
            done_ms = (self._region.hour_of_run(number) + 2 * HOUR_S) * 1_000 if lake else 0
            run = Run(
                chain=chain,
                number=number,
                state="done",
                plan_key=plan_key(chain, number, "0" * 32),
                planned_at_ms=done_ms,
                done_at_ms=done_ms,
                cleaned=True,
            )
            yield run.to_item()

    def _marker(self, pk: str) -> Iterator[Item]:
        _, hour, round_, block = pk.removeprefix(partitions.BATCH).split("-")
        hour_s = int(hour) * HOUR_S
        region = self._region
        there = self._markers_from_s <= hour_s < region.end_s
        if there and region.there(hour_s, region.late_days(int(round_), int(block))):
            yield self.marker(hour_s, int(round_), int(block))

    def marker(self, hour_s: int, round_: int, block: int) -> Item:
        """Marker of a batch."""
        self.computed["marker"] += 1
        total = self._batch_totals[block]
        decided_s = hour_s + (self._region.late_days(round_, block) * DAY_S) + 1_800
        item: dict[str, Value] = {
            **marker_key(batch_id(hour_s, round_, block))._asdict(),
            "verdict": "accepted",
            "hash_version": 1,
            "sender": "AROAEXAMPLEID",
            "records": RECORDS,
            "metered": RECORDS,
            "refused": 0,
            "decided_at_ms": decided_s * 1_000,
            "expires_at": decided_s + 50 * DAY_S,
            "hash": _HASH,
            "commit_id": f"{round_:02d}{block % 1_000:08d}{decided_s // HOUR_S:022d}",
            "hours": {hour_label(hour_s): [total.records, total.bytes]},
        }
        if round_ < ROUNDS - 1:
            # In these rounds, each source numbers its batches without gaps; late batches are all in the last round.
            item["source"] = source_id(block // BLOCKS_A_SOURCE)
            hours = (hour_s - self._region.begin_s) // HOUR_S
            item["sequence"] = hours * _NUMBERS_AN_HOUR + round_ * BLOCKS_A_SOURCE + block % BLOCKS_A_SOURCE
        return item

    def _usage(self, pk: str, sk_from: str, sk_to: str) -> Iterator[Item]:
        if pk == START_KEY.pk:
            since_s = 0 if self._region_totals else NEVER
            yield {**START_KEY._asdict(), "since": hour_label(since_s), "v": 0, newest_run_of(0): _ROLLUP_RUN}
            return
        whole = pk.startswith(REGION_PREFIX) and bool(self._region_totals)
        *_, name, month = ["", *pk.split("#")]
        account = None if whole else self._accounts.get(name)
        if account is None and not whole:
            return
        region = self._booked
        first_s, end_s = month_bounds_s(month)
        if sk_from:
            first_s = max(first_s, parse_hour(sk_from[:13]))
        if sk_to[:1] == "2":
            end_s = min(end_s, parse_hour(sk_to[:13]) + HOUR_S)
        for hour_s in range(max(first_s, region.begin_s), min(end_s, region.end_s), HOUR_S):
            yield self.region_item(hour_s) if account is None else self.usage_item(account, hour_s)

    def region_item(self, hour_s: int) -> Item:
        """The region's item of an hour."""
        totals = self._region_totals[self._booked.days_there(hour_s)]
        return self._item(UsageKey(hour_s, REGION, *_ANY_KIND), totals)

    def usage_item(self, account: int, hour_s: int) -> Item:
        """Usage item of an account and hour."""
        self.computed["usage"] += 1
        region = self._booked
        days = region.days_there(hour_s)
        totals = [region.kind_total(account, number, days) for number in range(KINDS)]
        return self._item(UsageKey(hour_s, account_id(account), *_ANY_KIND), totals)

    @staticmethod
    def _item(key: UsageKey, totals: Sequence[Total]) -> Item:
        item: dict[str, Value] = {**usage_item_key(key, 0)._asdict()}
        for number, total in enumerate(totals):
            item[f"b{number}"] = total.bytes
            item[f"r{number}"] = total.records
        item["v"] = ROUNDS + 1
        item["n0"] = _ROLLUP_RUN
        return item

    # Full-table scans, in parts.

    def _everything(self, table: Table, part: int, parts: int) -> Iterator[Item]:
        if part == 0:
            with self._lock:
                written = list(self.kept.written.scan(table))
            yield from written
        computed = self._all_usage if table is Table.USAGE else self._all_ledger
        for item in computed(part, parts):
            if not self.kept.touched or (table, key_of(item)) not in self.kept.touched:
                yield item

    def _all_usage(self, part: int, parts: int) -> Iterator[Item]:
        region = self._region
        for account in range(part, region.accounts, parts):
            for hour_s in range(region.begin_s, region.end_s, HOUR_S):
                yield self.usage_item(account, hour_s)

    def _all_ledger(self, part: int, parts: int) -> Iterator[Item]:
        """Published hours and markers: the only items that grow with the history."""
        region = self._region
        for hour_s in range(region.begin_s + part * HOUR_S, region.end_s, parts * HOUR_S):
            yield from self._hour(hour_s)
            if hour_s >= self._markers_from_s:
                days = region.days_there(hour_s)
                for round_ in range(ROUNDS):
                    for block in range(region.blocks):
                        if region.late_days(round_, block) <= days:
                            yield self.marker(hour_s, round_, block)


def _staged_items(staging: Staging, sort: str, name: str) -> Iterator[Item]:
    """Lists and records of staged commits."""
    if sort == partitions.WAITING and name == "0":
        yield from (entry.to_item() for entry in staging.waiting_items())
    elif sort == partitions.PENDING and name == "0":
        yield from (entry.to_item() for entry in staging.pending_items())
    elif sort == partitions.COMMIT and (name[:1] == KEPT or staging.has(name)):
        yield staging.commit(name).to_item()


def _parted(pk: str) -> tuple[str, str]:
    """Prefix and name of a partition of the ledger."""
    prefix, mark, name = pk.partition("#")
    return prefix + mark, name
