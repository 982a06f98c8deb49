"""The format of a region's data: the item kinds, keys, objects and file layouts in its ledger and bucket.

The ledger stores the format in one item, so that code without support for the format refuses to touch the data. A
process checks the format once when it opens a ledger, never for each batch. The item keeps its key and attributes in
every future format, so that all older code can read it. docs/releasing.md says which changes make a new format.

From format 2 on, the item also states the generation of the ledger's usage table (`usage.generation`). Format 3 is
format 2 in a ledger that was restored: its item states the ledger's own generation (P41). Older code refuses it,
because it would deploy a stage without the restored table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from metering.errors import (
    ConditionFailedError,
    FormatTooNewError,
    FormatTooOldError,
    GenerationError,
    OperationFailedError,
)
from metering.stores import codec
from metering.stores.writes import Absent, AllOf, Condition, Equals, ItemStore, Key, Put, Table
from metering.version import DropIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.stores.clock import Clock
    from metering.stores.writes import Action, Delete, Item, Update

# Ledger format of a new ledger.
FORMAT_VERSION = 2
# Format of a restored ledger, the newest that this code reads and writes. Releases before refuse it, so it is also that
# of a ledger with another identity of dropped objects: those releases would count them again by their ETag.
RESTORED_FORMAT = 3

LedgerState = Literal["open", "adopting", "fenced"]

FORMAT_KEY = Key("S#format", "S")


def _generation(fields: codec.Fields, name: str) -> int:
    # In all future formats, the other two attributes stay the same.
    own = fields.whole("number") in (FORMAT_VERSION, RESTORED_FORMAT)
    return fields.whole(name, least=1) if own else fields.whole(name, absent=1, least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFormat(codec.StoredItem):
    """Format of the ledger's data.

    Attributes:
        number: From 1.
        written_by: Version of metering that first wrote this format.
        usage_generation: Generation of the ledger's usage table; 1 in a format that states none.
        generation: Generation of the ledger; each restore makes the next one.
        state: `adopting` until a restored ledger is complete; `fenced` once a restore has replaced the ledger.
        restorer: The process that adopts; any other restorer that has begun before changes nothing any more.
        drop_identity: What the batch ids of objects below `drop/` are derived from, for the life of the stage.
    """

    key: ClassVar[Key] = FORMAT_KEY
    number: codec.FromOne
    written_by: str
    usage_generation: Annotated[int, codec.Form(_generation)]
    generation: Annotated[int, codec.Unwritten(1)] = 1
    state: Annotated[LedgerState, codec.Unwritten("open")] = "open"
    restorer: Annotated[str, codec.Unwritten("")] = ""
    drop_identity: Annotated[DropIdentity, codec.Unwritten("etag")] = "etag"


def check_format(items: ItemStore, *, usage_generation: int | None = None) -> LedgerFormat | None:
    """Check that this code writes the ledger's format; returns the format, or None for a new ledger.

    Raises:
        FormatTooNewError: Newer code wrote it.
        FormatTooOldError: An older release wrote the data, and no upgrade has run.
        GenerationError: The ledger belongs to another usage table.
        LedgerCorruptError: The stored value is not a format.
    """
    found = ledger_format(items)
    if found is None:
        return None
    _refuse_newer(found)
    if found.number < FORMAT_VERSION:
        raise FormatTooOldError(found=found.number, known=FORMAT_VERSION)
    check_open(found)
    if usage_generation not in (None, found.usage_generation):
        raise GenerationError(
            f"The ledger goes with usage table {found.usage_generation}, and {usage_generation} is deployed: deploy "
            "with the setting usage_generation as it was."
        )
    return found


def check_open(found: LedgerFormat) -> None:
    """Check that the ledger is in use: it is not being restored, and no restore has replaced it.

    Raises:
        GenerationError: It is not in use.
    """
    if found.state == "adopting":
        raise GenerationError("The ledger is being restored: see metering restore show.")
    if found.state == "fenced":
        raise GenerationError(
            f"The ledger of generation {found.generation} was replaced by a restore: see metering restore show."
        )


def adopting(generation: int, restorer: str = "") -> Condition:
    """Condition on the ledger's format: a restore is making the ledger of this generation (P41).

    Args:
        generation: The ledger's own generation.
        restorer: The process that adopts; empty for any.
    """
    ours = (Equals(attribute="restorer", value=restorer),) if restorer else ()
    state, made = Equals(attribute="state", value="adopting"), Equals(attribute="generation", value=generation)
    return AllOf((state, made, *ours))


# A long-lived reader asks this often whether the ledger is still in use.
_ASKED_EVERY_MS = 60_000


class WatchedLedger:
    """The tables of a region for a process that lives long: once a minute, a call first asks for the ledger's format.

    A restore replaces the ledger by another table. Without this check, the process would read the old one for ever.
    Each method raises, beside its own errors:
        OperationFailedError: The ledger is no longer in use, or has another generation than when it was opened.
    """

    def __init__(self, items: ItemStore, clock: Clock, opened: LedgerFormat | None) -> None:
        self._unwatched = items
        self._clock = clock
        self._generation = 1 if opened is None else opened.generation
        self._asked_ms = clock.now_ms()

    @property
    def _items(self) -> ItemStore:
        now_ms = self._clock.now_ms()
        if now_ms - self._asked_ms >= _ASKED_EVERY_MS:
            found = ledger_format(self._unwatched)
            if found is not None and (found.state, found.generation) != ("open", self._generation):
                raise OperationFailedError(
                    "The ledger was restored, and this process reads the old one.", "Connect, or start it, again."
                )
            self._asked_ms = now_ms
        return self._unwatched

    def get(self, table: Table, key: Key) -> Item | None:
        return self._items.get(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        return self._items.get_many(table, keys)

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        return self._items.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        return self._items.scan(table, part=part, parts=parts, prefixes=prefixes)

    def put(self, action: Put) -> None:
        self._items.put(action)

    def update(self, action: Update) -> Item:
        return self._items.update(action)

    def delete(self, action: Delete) -> None:
        self._items.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        self._items.transact(actions)


def check_readable(items: ItemStore) -> None:
    """Check that this code supports the ledger's format: the code's own format or an older format.

    Use this check only for data that is the same in all formats: states of regions, deeds, canaries.

    Raises:
        FormatTooNewError: Newer code wrote it.
        LedgerCorruptError: The stored value is not a format.
    """
    found = ledger_format(items)
    if found is not None:
        _refuse_newer(found)


def ledger_format(items: ItemStore) -> LedgerFormat | None:
    """The ledger's format, even if this code does not support it; None for a new ledger.

    Raises:
        LedgerCorruptError: The stored value is not a format.
    """
    item = items.get(Table.LEDGER, FORMAT_KEY)
    return None if item is None else LedgerFormat.from_item(item)


class Generations(NamedTuple):
    """Generation of the usage table that a ledger goes with, and of the ledger itself."""

    usage: int = 1
    ledger: int = 1


def generations_of(items: ItemStore) -> Generations:
    """Generations that are now in use. What was derived from a ledger of other generations is made anew (P41)."""
    found = ledger_format(items)
    return Generations() if found is None else Generations(found.usage_generation, found.generation)


def stored_format(items: ItemStore) -> int:
    """Number of the ledger's format, even if not supported; for a new or restored ledger, the number of a new one.

    Raises:
        LedgerCorruptError: The stored value is not a format.
    """
    found = ledger_format(items)
    return FORMAT_VERSION if found is None or found.number == RESTORED_FORMAT else found.number


def remember_format(items: ItemStore, *, written_by: str, usage_generation: int, drop_identity: DropIdentity) -> None:
    """Check the ledger's format before writing; write the format into a new ledger.

    Raises:
        FormatTooNewError: Newer code wrote it.
        FormatTooOldError: An older release wrote the data, and no upgrade has run.
        GenerationError: The ledger belongs to another usage table, or has its batches of `drop/` under other ids.
        LedgerCorruptError: The stored value is not a format.
    """
    found = check_format(items, usage_generation=usage_generation)
    if found is None:
        found = LedgerFormat(
            number=FORMAT_VERSION if drop_identity == "etag" else RESTORED_FORMAT,
            written_by=written_by,
            usage_generation=usage_generation,
            drop_identity=drop_identity,
        )
        try:
            items.put(Put(table=Table.LEDGER, item=found.to_item(), condition=Absent()))
        except ConditionFailedError:
            # Another process wrote the format first, perhaps a process of another version.
            found = check_format(items, usage_generation=usage_generation) or found
    if found.drop_identity != drop_identity:
        raise GenerationError(
            f"The ledger has objects of drop/ by {found.drop_identity}, and {drop_identity} is deployed, which would "
            "count them again: deploy with the setting drop_identity as it was."
        )


def _refuse_newer(found: LedgerFormat) -> None:
    if found.number > RESTORED_FORMAT:
        raise FormatTooNewError(found=found.number, known=RESTORED_FORMAT, needed=found.written_by)
