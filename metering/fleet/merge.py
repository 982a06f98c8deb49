"""Several regions as one: their verifications added up, and the batch ids that are in more than one.

The ledgers do not know each other, so a batch that was sent to two regions is counted in both. Only a look at all of
them finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.verify.verification import MAX_DIFFERENCES, Verification
from metering.ledger.markers import is_marker, named_batch
from metering.ledger.notes.canary_batches import is_canary
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.stores.items import ItemStore


def merged(results: Iterable[Verification]) -> Verification:
    """The sum of verifications; settled only if all are."""
    total = Verification(settled=True)
    for each in results:
        total.settled = total.settled and each.settled
        total.sent += each.sent
        total.accepted += each.accepted
        total.duplicate += each.duplicate
        total.conflict += each.conflict
        total.rejected += each.rejected
        total.in_flight += each.in_flight
        total.dead += each.dead
        total.keys += each.keys
        total.lost += each.lost
        total.doubled += each.doubled
        total.unexpected += each.unexpected
        total.unsettled = sorted({*total.unsettled, *each.unsettled})
        total.differences = [*total.differences, *each.differences][:MAX_DIFFERENCES]
        total.metered = total.metered.plus(each.metered)
        total.promised = total.promised.plus(each.promised)
        total.proven = total.proven.plus(each.proven)
    return total


def in_several(regions: Mapping[str, ItemStore]) -> dict[str, tuple[str, ...]]:
    """Batch ids that have a verdict in more than one region, with those regions. The canary's are left out."""
    first: dict[str, str] = {}
    several: dict[str, tuple[str, ...]] = {}
    for region, items in regions.items():
        for batch_id in _batch_ids(items):
            if batch_id in first:
                several[batch_id] = (*several.get(batch_id, (first[batch_id],)), region)
            else:
                first[batch_id] = region
    return dict(sorted(several.items()))


def _batch_ids(items: ItemStore) -> Iterator[str]:
    for item in items.scan(Table.LEDGER):
        if is_marker(item) and not is_canary(batch_id := named_batch(item)):
            yield batch_id
