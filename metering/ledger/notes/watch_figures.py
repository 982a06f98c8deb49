"""Figures of the watch's last run, for people who ask how a region is: `W#figures`, `W`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value


FIGURES_KEY = Key(f"{NOTE}figures", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFigures:
    """Figures that the watch measured in one run.

    Attributes:
        measured_s: Time of the run, epoch seconds.
        figures: Value by metric name; a figure that could not be measured is not there.
    """

    measured_s: int
    figures: Mapping[str, int] = field(default_factory=dict)

    def to_item(self) -> dict[str, Value]:
        # As text, because a figure may be negative: a margin that is not there.
        figures: dict[str, Value] = {name: str(value) for name, value in sorted(self.figures.items())}
        return {**FIGURES_KEY._asdict(), "measured_s": self.measured_s, "figures": figures}

    @classmethod
    def from_item(cls, item: Item) -> WatchFigures:
        fields = Fields.of_item(item)
        figures = fields.nested("figures")
        return cls(
            measured_s=fields.whole("measured_s"),
            figures={name: figures.decimal(name) for name in figures},
        )
