"""Verification of several regions: the sum of their findings, and the batch ids that are in more than one region.

The ledgers of two regions do not know each other, so a batch that was sent to both is counted in both. Only a look at
all of them finds it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.audit.verify.verification import Verification, sum_verifications
from metering.ledger.markers import is_marker, named_batch
from metering.ledger.notes.canary_batches import is_canary
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.stores.items import ItemStore


def merged(results: Iterable[Verification], several: Mapping[str, Sequence[str]]) -> Verification:
    """Sum of the regions' verifications. `several` (see `in_several`) is added as unexpected."""
    total = sum_verifications(results)
    doubled = [(batch_id, f"is in more than one region: {', '.join(names)}") for batch_id, names in several.items()]
    return replace(total, unexpected=(*total.unexpected, *doubled))


def in_several(regions: Mapping[str, ItemStore]) -> dict[str, tuple[str, ...]]:
    """Batch ids with a verdict in more than one region, with those regions. The canary's ids are left out."""
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
