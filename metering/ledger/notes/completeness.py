"""Completeness of the count, as the watch last measured it: `W#complete`, `W`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


COMPLETENESS_KEY = Key(f"{NOTE}complete", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Completeness of the count, as the watch last measured it.

    Attributes:
        through_s: Every batch sent before this time is counted, epoch seconds. This stays true, so it may be read late.
        published: Hours already published once that have new rows in staging.
        open: Wide commits that were open, the oldest first, at most as many as a sweep can take.
    """

    through_s: int
    published: frozenset[int] = frozenset()
    open: tuple[str, ...] = ()

    def to_item(self) -> dict[str, Value]:
        published: list[Value] = [hour_label(hour_s) for hour_s in sorted(self.published)]
        return {
            **COMPLETENESS_KEY._asdict(),
            "through_s": self.through_s,
            "published": published,
            "open": list(self.open),
        }

    @classmethod
    def from_item(cls, item: Item) -> Completeness:
        fields = Fields.of_item(item)
        return cls(
            through_s=fields.whole("through_s"),
            published=frozenset(fields.hours("published")),
            # Items written before the sweep of each minute existed name no commits.
            open=fields.texts("open") if "open" in fields else (),
        )
