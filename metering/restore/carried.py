"""Items that a restore cannot derive from rows: the new ledger takes them over from the old one, or from S3.

If the old ledger cannot be read, lines in S3 (`notes.written`) stand for its items. Other items stay as of T.

| partition                                         | becomes    | because                                         |
|---------------------------------------------------|------------|-------------------------------------------------|
| `K#tokens`, `W#producers`                         | carried    | a token revoked after T must not work again     |
| `W#budgets`, `W#budget-alerts`                    | carried    | people set budgets, and each alert is sent once |
| `W#reports`                                       | carried    | people saved these questions                    |
| `W#deed-<month>`                                  | carried    | the audit trail                                 |
| `W#ruling`, `W#log-ruling`                        | carried    | people's rulings on gaps                        |
| `I#<month>`                                       | carried    | an issued document stays issued                 |
| `G`                                               | carried    | states of regions that changed since T          |
| `D#<account>`, `S#kinds`                          | carried    | usage items name kinds by these numbers         |
| `S#shards`                                        | carried    | the number of used shards never falls           |
| `W#held`, `W#queues`                              | carried    | facts about queues, which are not restored      |
| `W#conflict`, `W#refused-senders`                 | carried    | people were alerted to these                    |
| `W#reconcile`, `W#worklist`, `W#sources`          | begun anew | progress in the old ledger                      |
| `W#drops`, `W#orphans`                            | begun anew | progress in the old ledger                      |
| `W#cleaning`, `W#lake`, `W#kinds`                 | begun anew | figures of the old ledger's chains              |
| `W#figures`, `W#watch`, `W#complete`              | begun anew | measured in the old ledger                      |
| `W#canary`                                        | begun anew | measured in the old ledger                      |
| `W#biller`                                        | begun anew | the day sums begin anew too                     |
| `W#api-large`, `W#doctor`                         | begun anew | their processes have ended                      |
| `W#source`                                        | as of T    | the reconciler adds the adopted markers         |
| `W#log-source`, `W#log-sources`                   | as of T    | the coverage job derives them from S3           |
| `W#log-sums-<kind>#<source>`                      | as of T    | the coverage job derives them from S3           |
| `B#<batch_id>`, `C#<commit_id>`, `T#<month>`      | as of T    | adopted one by one                              |
| `U#<shard>`, `P#<shard>`, `H#<hour>`, `R#<chain>` | as of T    | adopted one by one                              |
| `S#format`                                        | as of T    | about this ledger itself                        |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from metering.errors import GenerationError
from metering.ledger import partitions
from metering.ledger.commits import SHARDS_KEY, ShardRecord, UsedShards
from metering.ledger.format_version import FORMAT_KEY, adopting
from metering.ledger.markers import CONFLICT_PK
from metering.ledger.notes import access, checks, lake, money, reconciliation, watch
from metering.ledger.notes.written import DEEDS, WRITTEN_DOWN, newest_lines
from metering.ledger.usage.kinds import BEYOND_CAP_PK, KIND_CAPS_PK
from metering.stores.clock import CALLS_AT_ONCE, in_blocks, side_by_side
from metering.stores.writes import MAX_TRANSACTION_ACTIONS, Check, Delete, Put, Table, item_bytes, key_of
from metering.units import MIB

if TYPE_CHECKING:
    from metering.stores.clock import Clock, Retrier
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import Item, ItemStore, Key

CARRIED_WHOLE = (*WRITTEN_DOWN, watch.HELD_PK, watch.QUEUES_KEY.pk, CONFLICT_PK, access.REFUSED_SENDERS_PK)
# Beginnings of the names of several partitions.
CARRIED_MANY = (DEEDS, partitions.INVOICES, partitions.KINDS)
CARRIED = (*CARRIED_WHOLE, *CARRIED_MANY, KIND_CAPS_PK, SHARDS_KEY.pk)
BEGUN_ANEW = (
    reconciliation.RECONCILIATION_KEY.pk,
    reconciliation.WORK_LIST_KEY.pk,
    reconciliation.SOURCES_KEY.pk,
    checks.DROPS_KEY.pk,
    lake.ORPHANS_KEY.pk,
    lake.CLEANING_PK,
    lake.LAKE_FIGURES_PK,
    BEYOND_CAP_PK,
    watch.FIGURES_KEY.pk,
    watch.WATCH_KEY.pk,
    watch.COMPLETENESS_KEY.pk,
    checks.CANARY_PK,
    money.BILLER_KEY.pk,
    access.LARGE_KEY.pk,
    checks.DOCTOR_PK,
)
# Said by a token or a producer that is off: the revoker of the one, the role of the other, which no sender has.
OFF = "restore"
_OFF = ((access.TOKENS_PK, "token", "revoked_by"), (access.PRODUCERS_PK, "producer", "role_id"))
_READ_AT_ONCE = 100
# A transaction holds 4 MB.
_TRANSACTION_BYTES = 3 * MIB

Change = Put | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Changes of the new ledger. A repetition counts only what it changed, but names all that is off.

    Attributes:
        put: Number of new and replaced items.
        deleted: Number of items of T that the old ledger lacks.
        begun_anew: Number of deleted notes of jobs.
        unconfirmed: Tokens and producers that are off until an operator makes them anew, each as `token NAME`.
    """

    put: int
    deleted: int
    begun_anew: int
    unconfirmed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Carries items into a new ledger. Each call may be repeated, also by another process at the same time.

    Attributes:
        items: The new ledger, without `WritingDown`, because a late restorer must not put lines.
        generation: Its generation.
        threads: Number of parts of the old table that are read at once.
    """

    items: ItemStore
    generation: int
    clock: Clock
    retrier: Retrier
    threads: int = CALLS_AT_ONCE
    # Transactions with the same check would cancel each other.
    _one: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def from_table(self, old: ItemStore) -> Carried:
        """Carry the items of the old ledger, which is fenced.

        Raises:
            GenerationError: The new ledger is not being restored any more; nothing was changed since then.
            UnavailableError: A table did not answer.
        """

        def part(number: int) -> int:
            found = old.scan(Table.LEDGER, part=number, parts=self.threads, prefixes=CARRIED)
            return self._carry((key_of(item), item) for item in found if _is_carried(key_of(item)))

        put = sum(side_by_side(part, range(self.threads), threads=self.threads))
        # Never lowered: an earlier call may have committed copies in more shards than the old ledger had.
        shards = UsedShards.from_item(self.retrier.call(lambda: old.get(Table.LEDGER, SHARDS_KEY))).number
        ShardRecord(items=self.items, retrier=self.retrier, shards=shards).ensure()
        return Carried(put=put, deleted=self._delete_as(old), begun_anew=self._begin_anew())

    def from_lines(self, objects: ObjectStore, issued: Iterable[money.IssuedInvoice]) -> Carried:
        """Carry what S3 says, if the old ledger cannot be read: the newest line of each item, and documents as issued.

        Tokens and producers without a line may have been removed after T, so they are turned off. Thresholds that are
        crossed by the time that the biller has counted everything count as told.

        Raises:
            GenerationError: As `from_table`.
            ObjectDamagedError: A line cannot be read.
            UnavailableError: The table or S3 did not answer.
        """
        now_s = self.clock.now_ms() // 1000
        known: set[Key] = set()

        def lines() -> Iterator[tuple[Key, Item | None]]:
            for key, item in newest_lines(objects, threads=self.threads):
                if key.pk in (access.TOKENS_PK, access.PRODUCERS_PK):
                    known.add(key)
                # TTL has deleted expired items.
                expires = None if item is None else item.get("expires_at")
                yield key, None if isinstance(expires, int) and expires <= now_s else item

        changed = self._carry(lines()) + self._issue(issued)
        unconfirmed = tuple(self._turn_off(known, now_s))
        begun_anew = self._begin_anew()
        quiet = money.BillerFigures(first_s=now_s, finished_s=0, counted_s=0, quiet=True)
        self._change([Put(table=Table.LEDGER, item=quiet.to_item())])
        return Carried(put=changed, deleted=0, begun_anew=begun_anew, unconfirmed=unconfirmed)

    def _delete_as(self, old: ItemStore) -> int:
        """Delete items of whole partitions that the old ledger lacks."""
        count = 0
        for pk in CARRIED_WHOLE:
            for keys in in_blocks(map(key_of, self.items.query(Table.LEDGER, pk)), _READ_AT_ONCE):
                kept = old.get_many(Table.LEDGER, keys)
                count += self._carry((key, None) for key in keys if key not in kept)
        return count

    def _carry(self, wanted: Iterable[tuple[Key, Item | None]]) -> int:
        """Put absent and different items, and delete those that are None; returns the number of changes."""
        count = 0
        for block in in_blocks(wanted, _READ_AT_ONCE):
            found = self.items.get_many(Table.LEDGER, [key for key, _ in block])
            count += self._change(
                Delete(table=Table.LEDGER, key=key) if item is None else Put(table=Table.LEDGER, item=item)
                for key, item in block
                if found.get(key) != item
            )
        return count

    def _issue(self, issued: Iterable[money.IssuedInvoice]) -> int:
        """Put the missing items of documents: a document in S3 may have been sent."""
        count = 0
        for block in in_blocks((each.to_item() for each in issued), _READ_AT_ONCE):
            found = self.items.get_many(Table.LEDGER, [key_of(item) for item in block])
            count += self._carry((key_of(item), item) for item in block if key_of(item) not in found)
        return count

    def _turn_off(self, known: set[Key], now_s: int) -> Iterator[str]:
        for pk, word, attribute in _OFF:
            for item in self.items.query(Table.LEDGER, pk):
                key, said = key_of(item), item.get(attribute)
                if said != OFF:
                    if key in known or (pk == access.TOKENS_PK and said):
                        continue
                    revoked = {"revoked_s": now_s} if pk == access.TOKENS_PK else {}
                    self._change([Put(table=Table.LEDGER, item={**item, attribute: OFF, **revoked})])
                yield f"{word} {key.sk}"

    def _begin_anew(self) -> int:
        return self._change(
            Delete(table=Table.LEDGER, key=key_of(item))
            for pk in BEGUN_ANEW
            for item in self.items.query(Table.LEDGER, pk)
        )

    def _change(self, changes: Iterable[Change]) -> int:
        count = 0
        check = Check(table=Table.LEDGER, key=FORMAT_KEY, condition=adopting(self.generation))
        for actions in _in_transactions(changes):
            with self._one:
                if not self.retrier.transact(self.items, [check, *actions]):
                    raise GenerationError(f"The ledger of generation {self.generation} is not being restored any more.")
            count += len(actions)
        return count


def _is_carried(key: Key) -> bool:
    return (key.pk in CARRIED or key.pk.startswith(CARRIED_MANY)) and key != SHARDS_KEY


def _in_transactions(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """The changes in lists that fit into one transaction, each with a check."""
    actions, size = list[Change](), 0
    for change in changes:
        own = item_bytes(change.item) if isinstance(change, Put) else 0
        if actions and (len(actions) == MAX_TRANSACTION_ACTIONS - 1 or size + own > _TRANSACTION_BYTES):
            yield actions
            actions, size = [], 0
        actions.append(change)
        size += own
    if actions:
        yield actions
