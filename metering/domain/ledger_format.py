"""The format of a region's data: which item kinds, keys, objects and file layouts its ledger and bucket hold.

The ledger remembers it in one item, so that code which does not know a format refuses to touch it. This item keeps its
key and its attributes in every format to come: all older code must be able to read it. docs/releasing.md says what
makes a new format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.domain.fields import Fields
from metering.domain.items import Key

if TYPE_CHECKING:
    from metering.domain.items import Item, Value

# The newest format that this code knows, and the one that it writes.
FORMAT_VERSION = 1

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
