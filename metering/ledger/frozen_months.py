"""The frozen figures of a closed month, as they were put."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.closed_months import ClosedMonth
from metering.ledger.periods import Period, period_key
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore


def frozen_month(items: ItemStore, objects: ObjectStore, month: str) -> ClosedMonth | None:
    """The frozen figures of a month, or None if it is not closed."""
    item = items.get(Table.LEDGER, period_key(month))
    period = None if item is None else Period.from_item(item)
    if period is None or period.state != "closed":
        return None
    return ClosedMonth.from_json(objects.get(period.frozen_key), period.frozen_key)
