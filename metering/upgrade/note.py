"""What an upgrade has to remember (`S#upgrade`, `S`). All else it finds out by reading whether a step is done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.stores.fields import Fields
from metering.stores.writes import Absent, Delete, Key, Put, Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value

UPGRADE_KEY = Key("S#upgrade", "S")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeNote:
    """An upgrade in work.

    Attributes:
        stopped_at_ms: When it was sure that no worker of format 1 begins any more.
        revisions: Sum of the revisions of the old usage table before it was read; None before that.
    """

    stopped_at_ms: int
    revisions: int | None = None

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**UPGRADE_KEY._asdict(), "stopped_at_ms": self.stopped_at_ms}
        if self.revisions is not None:
            item["revisions"] = self.revisions
        return item

    @classmethod
    def from_item(cls, item: Item) -> UpgradeNote:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is no note of an upgrade.
        """
        fields = Fields.of_item(item)
        return cls(stopped_at_ms=fields.whole("stopped_at_ms"), revisions=fields.whole("revisions", absent=None))


def upgrade_note(items: ItemStore) -> UpgradeNote | None:
    """The note of an upgrade in work; None if there is none."""
    item = items.get(Table.LEDGER, UPGRADE_KEY)
    return None if item is None else UpgradeNote.from_item(item)


def note_stop(items: ItemStore, now_ms: int) -> UpgradeNote:
    """Note that no worker begins any more; an earlier note holds."""
    noted = upgrade_note(items)
    if noted is not None:
        return noted
    note = UpgradeNote(stopped_at_ms=now_ms)
    try:
        items.put(Put(table=Table.LEDGER, item=note.to_item(), condition=Absent()))
    except ConditionFailedError:
        return upgrade_note(items) or note
    return note


def note_revisions(items: ItemStore, note: UpgradeNote, revisions: int) -> UpgradeNote:
    """Note the sum of revisions of the old usage table, as it was before the table was read."""
    noted = replace(note, revisions=revisions)
    items.put(Put(table=Table.LEDGER, item=noted.to_item()))
    return noted


def forget_upgrade(items: ItemStore) -> None:
    """Delete the note: the upgrade is over."""
    items.delete(Delete(table=Table.LEDGER, key=UPGRADE_KEY))
