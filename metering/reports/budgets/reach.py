"""How far sums go, in JSON and in words: for budgets, unusual days and accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.budgets.messages import not_counted_text
from metering.hours import rfc3339

if TYPE_CHECKING:
    from metering.billing.day_sums.uncounted import Reach
    from metering.reports.answer import Json

UPDATE = "To count it now: metering compact, then metering budget update"
"""On an emulator, `budget update` compacts first."""


def reach_document(reach: Reach) -> dict[str, Json]:
    """`counted_through`, null if nobody knows, and `not_counted`, where it is told."""
    document: dict[str, Json] = {"counted_through": rfc3339(reach.through_s) if reach.through_s else None}
    if reach.left is not None:
        total = reach.left.total
        document["not_counted"] = {
            "bytes": str(total.bytes),
            "records": total.records,
            "at_least": reach.left.at_least,
        }
    return document


def reach_lines(reach: Reach) -> list[str]:
    """The same for people: up to when all is counted, and what is not."""
    through = "It is not known yet up to when all that was accepted is counted."
    if reach.through_s:
        through = f"Counted through {rfc3339(reach.through_s)}: all that was accepted before."
    left = "" if reach.left is None else not_counted_text(reach.left)
    return [through, f"Not counted: {left}, accepted and in no sum yet. {UPDATE}"] if left else [through]
