"""Does this code know the format of a region's data? Asked once by whoever opens a ledger, never for each batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.domain.items import Absent, Put, Table
from metering.domain.ledger_format import FORMAT_KEY, FORMAT_VERSION, LedgerFormat
from metering.errors import ConditionFailedError, FormatTooNewError

if TYPE_CHECKING:
    from metering.ports import ItemStore


def check_format(items: ItemStore) -> None:
    """Returns if the ledger's format is known here. A ledger that does not say has format 1.

    Raises:
        FormatTooNewError: Newer code wrote it.
        LedgerCorruptError: What it says is no format.
        UnavailableError: The ledger gave no answer.
    """
    _found(items)


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
