"""Charges by resource: each line is cut into the resources whose bytes it is about, which only the lake knows.

A key's bytes of an hour belong to its resources in the order of their ids, and to its lines in the order of their
tiers: both are walked together, so no byte is lost and none is counted twice. Memory holds one hour of one payer.
Corrections and credit notes have no resource: what moves between prices is nobody's single transfer.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from metering.billing.rating.lines import PriceState
from metering.billing.usage.ports import UsageLine
from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.lake.rows import OWN_HOUR, RowQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.charges import Charge
    from metering.lake.view import LakeView
    from metering.reports.exports.grains import Resourced

Key = tuple[str, ...]
"""Account, service, usage type, and from and to location."""
_COLUMNS = UsageLine._fields[1:-1]


class ResourceRows(Protocol):
    """What resources used."""

    def of(self, hour_s: int) -> Mapping[Key, Sequence[tuple[str, int]]]:
        """Bytes of each resource in an hour, by key, in the order of resource ids."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeResources:
    """Resources of some accounts, from the lakes of all regions.

    Attributes:
        views: One of each region.
        accounts: Only these.
    """

    views: Sequence[LakeView]
    accounts: frozenset[str]

    def of(self, hour_s: int) -> Mapping[Key, Sequence[tuple[str, int]]]:
        query = RowQuery(columns=(*_COLUMNS, "resource_id", OWN_HOUR), where=(("account_id", self.accounts),))
        sums: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for view in self.views:
            for group, total in view.hour_totals(hour_s, query).items():
                *key, resource_id, own_s = group
                # A correction that was booked in this hour is none of its usage.
                if own_s == hour_s:
                    sums[tuple(map(str, key))][str(resource_id)] += total.bytes
        return {key: sorted(of.items()) for key, of in sums.items()}


def by_resource(charges: Iterable[Charge], resources: ResourceRows) -> Iterator[Resourced]:
    """Charges of one document, in the order of hours, cut into resources.

    Raises:
        OperationFailedError: The rows of the lake are not the usage that was rated.
    """
    hour_s = -1
    rows: Mapping[Key, Sequence[tuple[str, int]]] = {}
    for (own_s, *key), group in groupby(charges, lambda charge: charge.rated.line.key):
        lines = list(group)
        if lines[0].corrects or lines[0].credit_of or lines[0].rated.state is not PriceState.PRICED:
            yield from ((charge, "") for charge in lines)
            continue
        if own_s != hour_s:
            hour_s = own_s
            rows = resources.of(hour_s)
        yield from _cut(lines, rows.get(tuple(key), ()))


def _cut(lines: Sequence[Charge], resources: Sequence[tuple[str, int]]) -> Iterator[Resourced]:
    charged, used = sum(charge.rated.line.bytes for charge in lines), sum(size for _, size in resources)
    if charged != used:
        raise _differs(lines[0], charged, used)
    waiting = iter(resources)
    resource_id, left = "", 0
    for charge in lines:
        wanted = charge.rated.line.bytes
        while wanted:
            if not left:
                resource_id, left = next(waiting)
            taken = min(wanted, left)
            if taken:
                rated = charge.rated
                yield charge._replace(rated=rated._replace(line=rated.line._replace(bytes=taken))), resource_id
            wanted, left = wanted - taken, left - taken


def _differs(charge: Charge, charged: int, used: int) -> OperationFailedError:
    line = charge.rated.line
    return OperationFailedError(
        f"{line.account_id} {line.usage_type} at {rfc3339(line.hour_s)}: {charged:,} bytes are charged, and the rows "
        f"of its resources have {used:,}.",
        "Usage of an open month may have come in meanwhile: run it again. Of a closed month: metering period verify",
    )
