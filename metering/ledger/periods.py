"""Periods: billing months that are closing or closed (`T#<month>`, `T`). A month without an item is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metering.ledger import partitions
from metering.stores.fields import Fields
from metering.stores.writes import Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value


PeriodState = Literal["closing", "closed"]
_PERIOD_STATES: tuple[PeriodState, ...] = ("closing", "closed")


def period_key(month: str) -> Key:
    """Key of a billing month."""
    return Key(f"{partitions.MONTH}{month}", "T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Billing month that no transaction can book into any more. A month without this item is open.

    Attributes:
        frozen_key: Key of the frozen month's object; empty while the month is closing.
    """

    month: str
    state: PeriodState
    frozen_key: str = ""

    @property
    def key(self) -> Key:
        return period_key(self.month)

    def to_item(self) -> dict[str, Value]:
        item: dict[str, Value] = {**self.key._asdict(), "state": self.state}
        if self.frozen_key:
            item["manifest"] = self.frozen_key
        return item

    @classmethod
    def from_item(cls, item: Item) -> Period:
        fields = Fields.of_item(item)
        state = fields.one_of("state", _PERIOD_STATES)
        made = cls(
            month=fields.after("pk", partitions.MONTH),
            state=state,
            frozen_key=fields.text("manifest") if state == "closed" else "",
        )
        fields.check_key(made.key)
        return made


def periods_of(items: ItemStore, months: Iterable[str]) -> dict[str, Period]:
    """Those of the months that are closing or closed, in order, with one request for a hundred months."""
    found = items.get_many(Table.LEDGER, [period_key(month) for month in sorted(set(months))])
    return {period.month: period for period in sorted(map(Period.from_item, found.values()), key=lambda p: p.month)}
