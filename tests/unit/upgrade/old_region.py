"""A region as release 0.1.0 left it (`record.py` says what is in it), in memory, and its upgrade."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metering.adapters.aws.dynamodb.attributes import from_attributes
from metering.ledger.shards import known_shards
from metering.stores.writes import Put, Table
from metering.upgrade.upgrade import DataUpgrade
from metering.upgrade.usage_items import partitions_before, usage_before
from metering.usage.totals import ZERO, Total, UsageKey
from tests.support.region import MemoryRegion
from tests.support.stage import settings

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

RECORDED = Path(__file__).with_name("release_0_1_0.json.gz")
SHARDS = 2


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return found


class OldRegion(MemoryRegion):
    """The region, a minute after its last worker was stopped. `settings` are changed by keyword."""

    def __init__(self, **changes: int) -> None:
        held = recorded()
        super().__init__(now_s=0, settings=settings(shards=SHARDS, **changes), seed=3)
        for table, name in ((Table.LEDGER, "ledger"), (Table.USAGE_BEFORE, "usage")):
            for attributes in held[name]:
                self.items.put(Put(table=table, item=from_attributes(attributes)))
        for key, (modified_s, text) in held["objects"].items():
            self.clock.sleep_ms(modified_s * 1000 - self.clock.now_ms())
            self.objects.put(key, base64.b85decode(text), if_absent=True)
        self.clock.sleep_ms((held["now_s"] + 60) * 1000 - self.clock.now_ms())

    def upgrade(self, items: ItemStore | None = None, objects: ObjectStore | None = None) -> DataUpgrade:
        """The upgrade, as one process does it."""
        return DataUpgrade(
            items=self.items if items is None else items,
            objects=self.objects if objects is None else objects,
            clock=self.clock,
            retrier=self.parts().retrier(),
            shards=SHARDS,
            kinds_per_account=self.settings.kinds_per_account,
            usage_generation=self.settings.usage_generation,
            version="0.2.0",
        )

    def upgraded(self) -> OldRegion:
        """The same region, upgraded without a fault."""
        upgrade = self.upgrade()
        upgrade.wait_out(60)
        upgrade.convert()
        return self

    def old_usage(self) -> dict[UsageKey, Total]:
        """What the old usage table says."""
        months, _ = partitions_before(self.items)
        found: dict[UsageKey, Total] = {}
        for account_id, each in months.items():
            for month in each:
                found |= {key: one.total for key, one in usage_before(self.items, account_id, month).items()}
        return {key: total for key, total in found.items() if total != ZERO}

    def shards(self) -> range:
        return known_shards(self.items, SHARDS)
