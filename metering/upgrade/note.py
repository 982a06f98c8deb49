"""What an upgrade has to remember (`S#upgrade`, `S`). All else it finds out by reading whether a step is done."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.stores.fields import Fields
from metering.stores.writes import Absent, AllOf, Delete, Exists, Key, Put, Table, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.items import ItemStore
    from metering.stores.writes import Condition, Item, Value

UPGRADE_KEY = Key("S#upgrade", "S")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeNote:
    """An upgrade in work.

    Attributes:
        out_at_ms: From when on no worker of format 1 runs: none begins any more, and each has its timeout.
        revisions: Sum of the revisions of the old usage table before it was read; None before that.
        settled: Whether the old usage table is not needed any more.
    """

    out_at_ms: int
    revisions: int | None = None
    settled: bool = False

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**UPGRADE_KEY._asdict(), "out_at_ms": self.out_at_ms}
        if self.revisions is not None:
            item["revisions"] = self.revisions
        if self.settled:
            item["settled"] = True
        return item

    @classmethod
    def from_item(cls, item: Item) -> UpgradeNote:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is no note of an upgrade.
        """
        fields = Fields.of_item(item)
        return cls(
            out_at_ms=fields.whole("out_at_ms"),
            revisions=fields.whole("revisions", absent=None),
            settled=fields.flag("settled", absent=False),
        )


def upgrade_note(items: ItemStore) -> UpgradeNote | None:
    """The note of an upgrade in work; None if there is none."""
    item = items.get(Table.LEDGER, UPGRADE_KEY)
    return None if item is None else UpgradeNote.from_item(item)


def note_stop(items: ItemStore, out_at_ms: int) -> UpgradeNote:
    """Note that no worker begins any more, and until when one may still run; an earlier note holds."""
    noted = upgrade_note(items)
    if noted is not None:
        return noted
    note = UpgradeNote(out_at_ms=out_at_ms)
    try:
        items.put(Put(table=Table.LEDGER, item=note.to_item(), condition=Absent()))
    except ConditionFailedError:
        return upgrade_note(items) or note
    return note


def note_revisions(items: ItemStore, revisions: int) -> None:
    """Note the sum of revisions of the old usage table, as it was before the table was read.

    A process that is late changes nothing: the upgrade has come to its end without it.
    """
    _change(items, {"revisions": revisions}, AllOf((Exists(), Absent(attribute="settled"))))


def note_settled(items: ItemStore) -> None:
    """Note that the old usage table is not needed any more."""
    _change(items, {"settled": True}, Exists())


def _change(items: ItemStore, values: Mapping[str, Value], condition: Condition) -> None:
    with suppress(ConditionFailedError):
        items.update(Update(table=Table.LEDGER, key=UPGRADE_KEY, set=values, condition=condition))


def forget_upgrade(items: ItemStore) -> None:
    """Delete the note: the upgrade is over."""
    items.delete(Delete(table=Table.LEDGER, key=UPGRADE_KEY))
