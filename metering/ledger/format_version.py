"""The format of a region's data: which item kinds, keys, objects and file layouts its ledger and bucket hold.

The ledger remembers it in one item, so that code which does not know a format refuses to touch it. Whoever opens a
ledger asks once, never for each batch. This item keeps its key and its attributes in every format to come: all older
code must be able to read it. docs/releasing.md says what makes a new format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, FormatTooNewError
from metering.stores.fields import Fields
from metering.stores.writes import Absent, Key, Put, Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value

# The newest format that this code knows, and the one that it writes.
FORMAT_VERSION = 1
# That of a ledger which does not say its format.
FIRST_FORMAT = 1

FORMAT_KEY = Key("S#format", "S")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFormat:
    """What the ledger remembers of its format.

    Attributes:
        number: From 1.
        written_by: The version of metering that wrote it first; that one and newer ones know it.
    """

    number: int
    written_by: str

    def to_item(self) -> dict[str, Value]:
        return {"pk": FORMAT_KEY.pk, "sk": FORMAT_KEY.sk, "number": self.number, "written_by": self.written_by}

    @classmethod
    def from_item(cls, item: Item) -> LedgerFormat:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It says no format.
        """
        fields = Fields.of_item(item)
        return cls(number=fields.whole("number", least=1), written_by=fields.text("written_by"))


def check_format(items: ItemStore) -> None:
    """Returns if the ledger's format is known here. A ledger that does not say has format 1.

    Raises:
        FormatTooNewError: Newer code wrote it.
        LedgerCorruptError: What it says is no format.
        UnavailableError: The ledger gave no answer.
    """
    _found(items)


def stored_format(items: ItemStore) -> int:
    """Format of the ledger's data, known here or not. A ledger that does not say has format 1.

    Raises:
        LedgerCorruptError: What it says is no format.
        UnavailableError: The ledger gave no answer.
    """
    item = items.get(Table.LEDGER, FORMAT_KEY)
    return FIRST_FORMAT if item is None else LedgerFormat.from_item(item).number


def remember_format(items: ItemStore, *, written_by: str) -> None:
    """The same for who writes to the ledger: one that does not say its format yet says it afterwards.

    Args:
        items: The ledger's store.
        written_by: The version of this package.

    Raises:
        FormatTooNewError: Newer code wrote it.
        LedgerCorruptError: What it says is no format.
        UnavailableError: The ledger gave no answer.
    """
    if _found(items) is not None:
        return
    own = LedgerFormat(number=FORMAT_VERSION, written_by=written_by)
    try:
        items.put(Put(table=Table.LEDGER, item=own.to_item(), condition=Absent()))
    except ConditionFailedError:
        # Another process was first, perhaps one of a newer version.
        check_format(items)


def _found(items: ItemStore) -> LedgerFormat | None:
    item = items.get(Table.LEDGER, FORMAT_KEY)
    if item is None:
        return None
    found = LedgerFormat.from_item(item)
    if found.number > FORMAT_VERSION:
        raise FormatTooNewError(found=found.number, known=FORMAT_VERSION, needed=found.written_by)
    return found
