"""Most numbers of an account's dictionary, the same for everybody and for ever (P45).

| pk        | sk             | attributes |
|-----------|----------------|------------|
| `S#kinds` | `<generation>` | `cap`      |

Who claims the first number of a usage generation makes its own setting the cap of that generation. No number at or
above it is ever claimed. So a dictionary that is full stays full, and a kind that is not in it is booked under its name
from then on: a cap that rose would put one kind of one hour into two items, and neither would settle against the rows.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.stores.fields import Fields
from metering.stores.writes import Absent, Key, Put, Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore

_PK = "S#kinds"


def kind_cap_key(generation: int) -> Key:
    """Key of the cap of a usage generation."""
    return Key(_PK, str(generation))


def known_kind_cap(items: ItemStore, generation: int) -> int | None:
    """The cap of a usage generation; None if nobody has claimed a number of it yet.

    Raises:
        LedgerCorruptError: It cannot be read.
        UnavailableError: The ledger gives no answer.
    """
    item = items.get(Table.LEDGER, kind_cap_key(generation))
    return None if item is None else Fields.of_item(item).whole("cap", least=1)


def settled_kind_cap(items: ItemStore, generation: int, setting: int) -> int:
    """The cap of a usage generation, made durable if this is the first to ask.

    Raises:
        LedgerCorruptError: It cannot be read.
        UnavailableError: It is unknown whether it is durable. Whoever comes next begins again.
    """
    known = known_kind_cap(items, generation)
    if known is not None:
        return known
    put = Put(table=Table.LEDGER, item={**kind_cap_key(generation)._asdict(), "cap": setting}, condition=Absent())
    # Whoever was first, what is there now stays there.
    with suppress(ConditionFailedError):
        items.put(put)
    return settled_kind_cap(items, generation, setting)
