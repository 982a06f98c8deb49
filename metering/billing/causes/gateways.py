"""Gateways whose flow log is missing: the inventory has them, and no line of them was metered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.causes.days import CauseDays
from metering.billing.causes.index import CauseIndexes
from metering.onramps.context import interfaces
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.onramps.context.document import Context
    from metering.stores.objects import ObjectStore

_KINDS = frozenset({interfaces.NAT_GATEWAY, interfaces.ENDPOINT, interfaces.INSPECTION_ENDPOINT})


def gateways_without_lines(
    objects: ObjectStore, context: Context, *, from_s: int, to_s: int
) -> tuple[tuple[str, str], ...] | None:
    """Resource and interface of the NAT gateways and endpoints of a context that have no usage on any day of a range.

    None if no day of the range has causes, so that it is unknown.

    Raises:
        ObjectMissingError: The index, or an object of it, was replaced during the call.
        ObjectDamagedError: An object is something else.
        UnavailableError: The bucket does not answer.
    """
    index = CauseIndexes(objects=objects).newest()
    days = [day_s for day_s in index.days if from_s - from_s % DAY_S <= day_s < to_s]
    if not days:
        return None
    holders = dict(context.holders)
    wanted = {each.id: holders.get(each.id, each.id) for each in context.interfaces if each.kind in _KINDS}
    # A regional NAT gateway is the resource of its lines; all others have the interface.
    ids = frozenset((*wanted, *wanted.values()))
    seen: set[str] = set()
    for day_s in days:
        for table in CauseDays(objects, index).tables(day_s, ["resource_id"], where={"resource_id": ids}):
            seen.update(table.column("resource_id").unique().to_pylist())
    return tuple(sorted((holder, each) for each, holder in wanted.items() if not {each, holder} & seen))
