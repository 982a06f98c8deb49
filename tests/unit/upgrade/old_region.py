"""A region as release 0.1.0 left it (`record.py` says what is in it), in memory, and its upgrade."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from metering.adapters.aws.dynamodb.attributes import from_attributes
from metering.hours import hour_label
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.ledger.commits import is_commit
from metering.ledger.shards import known_shards
from metering.stores.deliveries import Delivery
from metering.stores.writes import Key, Put, Table, Update, key_of
from metering.upgrade.upgrade import DataUpgrade, stopped
from metering.upgrade.usage_items import partitions_before, usage_add_before, usage_before
from metering.usage.totals import ZERO, Total, UsageKey
from tests.support.region import MemoryRegion
from tests.support.stage import settings

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

    def upgrade(self, *, kinds_per_account: int | None = None) -> DataUpgrade:
        """The upgrade, as one process does it."""
        return DataUpgrade(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            retrier=self.parts().retrier(),
            shards=SHARDS,
            kinds_per_account=kinds_per_account or self.settings.kinds_per_account,
            usage_generation=self.settings.usage_generation,
            version="0.2.0",
        )

    def upgraded(self) -> OldRegion:
        """The same region, upgraded without a fault."""
        now_ms = self.clock.now_ms()
        self.parts().retrier().call(lambda: stopped(self.items, now_ms=now_ms, worker_timeout_s=60))
        upgrade = self.upgrade()
        upgrade.wait_out()
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

    def send_new(self) -> UsageKey:
        """A batch of the new release, into an item that the upgrade has filled; returns its usage key."""
        key = max(self.old_usage(), key=lambda key: (key.hour_s, key))
        record = {
            "account_id": key.account_id,
            "service": key.service,
            "resource_id": "i-0new",
            "direction": "out",
            "from": key.from_location,
            "to": key.to_location,
            "bytes": 1_000_000,
            "start": key.hour_s,
            "end": key.hour_s,
        }
        body = {"schema": "metering.batch/1", "batch_id": "new", "record_count": 1, "records": [record]}
        delivery = Delivery(
            message_id="new",
            body=json.dumps(body),
            sent_at_ms=self.clock.now_ms(),
            receive_count=1,
            sender_id="sender",
        )
        assert not self.parts().worker().handle([delivery], self.deadline()).retry
        return key


def old_key(key: UsageKey, suffix: int) -> Key:
    """Key of the item of format 1 that counts a usage key."""
    day = hour_label(key.hour_s)[:10]
    return Key(f"A#{key.account_id}#{day[:7]}", f"{day}#{'#'.join(key.kind)}##{suffix}")


class LateCommit:
    """The last narrow commit of the region, taken out as if its transaction had not landed yet."""

    def __init__(self, region: OldRegion) -> None:
        self._region = region
        items = region.items
        waiting = [item for item in items.everything(Table.LEDGER) if str(item["pk"]).startswith("P#")]
        narrow = [item for item in waiting if not item["wide"]]
        commit_id = str(max(narrow, key=lambda item: str(item["created_at_ms"]))["sk"])
        self._held = [item for item in items.everything(Table.LEDGER) if commit_id in str(item["pk"]) + str(item["sk"])]
        staging_key = next(str(item["staging"]) for item in self._held if is_commit(item))
        usage = ParquetStagedUsage(region.objects).usage(staging_key)
        suffix = (zlib.crc32(commit_id.encode()) >> 16) % 4
        self._add = [
            Update(table=Table.USAGE_BEFORE, key=old_key(key, suffix), add=usage_add_before({key.hour_s: total}))
            for key, total in usage.items()
        ]
        for item in self._held:
            items.remove(Table.LEDGER, key_of(item))
        for update in self._add:
            assert items.peek(Table.USAGE_BEFORE, update.key) is not None
            items.update(replace(update, add={name: -amount for name, amount in update.add.items()}))

    def land(self) -> None:
        """Its transaction is applied now."""
        self._region.items.transact([*(Put(table=Table.LEDGER, item=item) for item in self._held), *self._add])
