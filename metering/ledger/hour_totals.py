"""Totals of hours as an attribute of an item."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.fields import Fields
    from metering.stores.writes import Value


def totals_value(totals: Mapping[int, Total]) -> dict[str, Value]:
    """Encode totals of hours as an attribute: `hour -> [records, bytes]`."""
    return {hour_label(hour_s): [total.records, total.bytes] for hour_s, total in totals.items()}


def totals_of(hours: Fields) -> dict[int, Total]:
    """Decode the attribute; the inverse of `totals_value`."""
    totals: dict[int, Total] = {}
    for label in hours:
        total = hours.row(label, ("records", "bytes"))
        totals[hours.hour_named(label)] = Total(total.whole("bytes"), total.whole("records"))
    return totals
