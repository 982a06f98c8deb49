"""What the biller found in its last run that came to an end: `W#biller`, `W`. The watch makes figures of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value

BILLER_KEY = Key(f"{NOTE}biller", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class BillerFigures:
    """Figures of one run.

    Attributes:
        first_s: When the biller of this region first ran, epoch seconds.
        finished_s: When the last whole run ended.
        counted_s: Everything that the compactor had published by this time is in the day sums.
        unpriced_bytes: Bytes of open months that the price book says nothing about.
        unpriced_types: Number of their usage types.
        blocked_months: Months that have ended and cannot be invoiced.
        crossed_s: When each alert of the last days was made.
        left_out: Regions that gave no answer, so that their usage is missing.
        looked: Region -> last day that was looked at for unusual usage, `2026-11-24`.
        why: A sentence about what blocks the first of those months; empty if nothing does.
    """

    first_s: int
    finished_s: int
    counted_s: int
    unpriced_bytes: int = 0
    unpriced_types: int = 0
    blocked_months: tuple[str, ...] = ()
    crossed_s: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    looked: Mapping[str, str] = field(default_factory=dict)
    why: str = ""

    def to_item(self) -> dict[str, Value]:
        return {
            **BILLER_KEY._asdict(),
            "first_s": self.first_s,
            "finished_s": self.finished_s,
            "counted_s": self.counted_s,
            # As text: DynamoDB's numbers have 38 digits.
            "unpriced_bytes": str(self.unpriced_bytes),
            "unpriced_types": self.unpriced_types,
            "blocked_months": list(self.blocked_months),
            "crossed_s": list(self.crossed_s),
            "left_out": list(self.left_out),
            "looked": dict(sorted(self.looked.items())),
            "why": self.why,
        }

    @classmethod
    def from_item(cls, item: Item) -> BillerFigures:
        fields = Fields.of_item(item)
        looked = fields.nested("looked")
        return cls(
            first_s=fields.whole("first_s"),
            finished_s=fields.whole("finished_s"),
            counted_s=fields.whole("counted_s"),
            unpriced_bytes=fields.decimal("unpriced_bytes"),
            unpriced_types=fields.whole("unpriced_types"),
            blocked_months=fields.texts("blocked_months"),
            crossed_s=fields.wholes("crossed_s"),
            left_out=fields.texts("left_out"),
            looked={name: looked.text(name) for name in looked},
            why=fields.any_text("why"),
        )
