"""Positions of payers in open months, as the biller last found them: one account of a payer can be priced by them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from metering.billing.rating.cuts import Positions
from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.hours import rfc3339
from metering.stores.bucket import positions_key
from metering.stores.fields import Fields
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.billing.prices.book import PriceBook
    from metering.stores.objects import ObjectStore

_SCHEMA = "metering.positions/1"
# Three runs of a biller that runs as seldom as it may.
_CURRENT_FOR_S = 6 * HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPositions:
    """Positions of one payer, and what they were found by.

    Attributes:
        as_of: When they were found, RFC 3339.
        through: Up to when the count of all regions was complete, RFC 3339; empty if it was not known.
        book: Name, version and digest of the price book.
        overrides, organization: Versions.
        regions: Regions whose usage is in them.
        left_out: Regions that gave no answer.
    """

    as_of: str
    through: str
    book: tuple[str, int, str]
    overrides: int
    organization: int
    regions: tuple[str, ...]
    left_out: tuple[str, ...]
    positions: Positions

    def fits(self, book: PriceBook, overrides_version: int, organization_version: int) -> bool:
        """Whether they were found by these prices and payers, and with the usage of every region."""
        now = ((book.name, book.version, book.sha256), overrides_version, organization_version)
        return now == (self.book, self.overrides, self.organization) and not self.left_out

    def is_current(self, regions: Iterable[str], now_s: int) -> bool:
        """Whether the biller has just found them, with the usage of all of these regions.

        The biller runs every two hours at most. If it stands still, usage goes on without it, and what it kept says
        less and less: its tiers would be too low, and what was free once would stay free.
        """
        made_s = datetime.fromisoformat(self.as_of).timestamp()
        return now_s - made_s <= _CURRENT_FOR_S and set(regions) <= set(self.regions)

    def to_json(self) -> bytes:
        name, version, sha256 = self.book
        return json.dumps(
            {
                "schema": _SCHEMA,
                "month": self.positions.month,
                "payer": self.positions.payer_id,
                "as_of": self.as_of,
                "through": self.through,
                "book": {"name": name, "version": version, "sha256": sha256},
                "overrides": self.overrides,
                "organization": self.organization,
                "regions": list(self.regions),
                "left_out": list(self.left_out),
                "positions": self.positions.to_value(),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, body: bytes, key: str) -> KeptPositions:
        """Inverse of `to_json`.

        Raises:
            LedgerCorruptError: They are no such positions.
        """
        fields = Fields.of_json(body, key)
        fields.one_of("schema", (_SCHEMA,))
        book = fields.nested("book")
        try:
            positions = Positions.from_value(json.loads(body)["positions"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LedgerCorruptError(f"{key}: {error}") from error
        return cls(
            as_of=fields.text("as_of"),
            through=fields.any_text("through"),
            book=(book.text("name"), book.whole("version"), book.any_text("sha256")),
            overrides=fields.whole("overrides"),
            organization=fields.whole("organization"),
            regions=fields.texts("regions"),
            left_out=fields.texts("left_out"),
            positions=positions,
        )


def read_positions(objects: ObjectStore, month: str, payer_id: str) -> KeptPositions | None:
    """The kept positions of a payer's month; None if the biller keeps none.

    Raises:
        LedgerCorruptError: What is kept is something else.
    """
    key = positions_key(month, payer_id)
    try:
        return KeptPositions.from_json(objects.get(key), key)
    except ObjectMissingError:
        return None


def moment(epoch_s: int) -> str:
    """RFC 3339 of a second; empty for 0, which is not known."""
    return rfc3339(epoch_s) if epoch_s else ""
