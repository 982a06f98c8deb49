"""Cost of a batch on AWS at list prices, from the calls that the production aggregator makes.

An invocation takes 100 messages, as the event source mapping on AWS delivers them (the emulator delivers 10). The
aggregator runs on memory stores. Sizes of items and objects are counted by the billing rules of AWS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from load_tests.stage import LIMITS, settings
from metering.adapters.aws.runtime import SystemEntropy
from metering.adapters.memory.alerts import MemoryAlerts
from metering.adapters.memory.clock import DeadlineAt, ManualClock
from metering.adapters.memory.items import MemoryItemStore
from metering.adapters.memory.metrics import MemoryMetrics
from metering.adapters.memory.objects import MemoryObjectStore
from metering.commit.aggregator import Aggregator
from metering.hours import hour_of
from metering.intake.reader import RecordBatchReader
from metering.lake.parquet.codec import ParquetRowCodec
from metering.operations.own_costs.list_prices import PROCESSING_USD
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Synthesis
from metering.stores.deliveries import Delivery
from metering.stores.writes import Check, Delete, Item, Key, Put, Table, Update, Value
from metering.units import HOUR_S, KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.stores.writes import Action

TARGET_BATCHES_PER_DAY = 12_000_000
# Scenarios with 1, 5 and 16 usage keys per batch.
SCENARIO_NAMES = ("load-1", "load-5", "load")
# SQS bills each 64 KiB of payload as one request.
_SQS_CHUNK_BYTES = 64 * KIB
_LAMBDA_MEMORY_GB = Decimal(1_769) / 1_024
_MESSAGES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """Average cost of a batch.

    Attributes:
        keys: Average number of usage keys in a batch.
        write_units, read_units: DynamoDB request units.
        puts: S3 PUTs.
        sqs_requests: Requests to send, receive and delete, each with ten messages.
        cpu_ms: Processor time of the aggregator on this machine, used as that of Lambda.
        usd: Sum at the prices of `PROCESSING_USD`.
    """

    scenario: str
    keys: Decimal
    commits: int
    write_units: Decimal
    read_units: Decimal
    puts: Decimal
    sqs_requests: Decimal
    cpu_ms: Decimal
    usd: Decimal

    @property
    def usd_per_day(self) -> Decimal:
        """Cost per day at 12 million batches a day."""
        return self.usd * TARGET_BATCHES_PER_DAY


def item_bytes(item: Item) -> int:
    """Return the size of an item by the rules of DynamoDB: names and values (developer guide, item sizes)."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Value) -> int:
    if isinstance(value, bool):
        return 1
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, int):
        return (len(str(abs(value))) + 1) // 2 + 1
    if isinstance(value, frozenset):
        return sum(len(text.encode()) for text in value)
    if isinstance(value, list):
        return 3 + sum(1 + _value_bytes(each) for each in value)
    return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in value.items())


class MeteredItemStore(MemoryItemStore):
    """A memory store that counts request units."""

    def __init__(self) -> None:
        super().__init__()
        self.write_units = 0
        self.read_units = 0
        self.commits = 0

    def transact(self, actions: Sequence[Action]) -> None:
        before = [self._size(action) for action in actions]
        super().transact(actions)
        after = [self._size(action) for action in actions]
        self.write_units += sum(2 * _units(max(pair), KIB) for pair in zip(before, after, strict=True))
        self.commits += 1

    def put(self, action: Put) -> None:
        super().put(action)
        self.write_units += _units(item_bytes(action.item), KIB)

    def get(self, table: Table, key: Key) -> Item | None:
        item = super().get(table, key)
        self.read_units += _units(0 if item is None else item_bytes(item), 4 * KIB)
        return item

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        found = super().get_many(table, keys)
        self.read_units += sum(_units(item_bytes(found[key]) if key in found else 0, 4 * KIB) for key in keys)
        return found

    def _size(self, action: Action) -> int:
        key = action.key if isinstance(action, Put | Update | Delete | Check) else Key("", "")
        item = MemoryItemStore.get(self, action.table, key)
        return 0 if item is None else item_bytes(item)


def _units(size_bytes: int, unit_bytes: int) -> int:
    return max(1, -(-size_bytes // unit_bytes))


def measure(scenario: str, batches: int = 2_000) -> BatchCost:
    """Measure the average cost over `batches` batches of a scenario."""
    now_s = int(time.time())
    clock = ManualClock(now_s * 1_000)
    store, objects = MeteredItemStore(), _CountedObjects(clock)
    aggregator = Aggregator(
        items=store,
        objects=objects,
        reader=RecordBatchReader(objects=objects, bucket="b", limits=LIMITS),
        codec=ParquetRowCodec(),
        clock=clock,
        entropy=SystemEntropy(),
        metrics=MemoryMetrics(),
        settings=settings(ledger_table="l", usage_table="u", data_bucket="b"),
        alerts=MemoryAlerts(),
    )
    synthesis = Synthesis(
        name=scenario,
        scenario=replace(SCENARIOS[scenario], duplicates=0.0),
        seed=1,
        base_hour_s=hour_of(now_s) - HOUR_S,
        bucket="b",
    )
    shipments = list(synthesis.shipments(batches))
    deliveries = [
        Delivery(message_id=str(n), body=each.body, sent_at_ms=now_s * 1_000, receive_count=1, sender_id="load")
        for n, each in enumerate(shipments)
    ]
    began = time.process_time()
    for first in range(0, batches, _MESSAGES):
        aggregator.handle(deliveries[first : first + _MESSAGES], DeadlineAt(clock=clock, at_ms=clock.now_ms() + 60_000))
    cpu_s = Decimal(str(time.process_time() - began))
    size_bytes = sum(len(each.body) for each in shipments)
    keys = sum(len(each.sent.totals) for each in shipments)
    return _cost(scenario, batches, store, objects.puts, cpu_s, size_bytes, keys)


class _CountedObjects(MemoryObjectStore):
    puts = 0

    def put(self, key: str, body: bytes | object, *, if_absent: bool) -> bool:
        self.puts += 1
        return super().put(key, body, if_absent=if_absent)  # type: ignore[arg-type]  # bytes here, always


def _cost(
    scenario: str, batches: int, store: MeteredItemStore, puts: int, cpu_s: Decimal, size_bytes: int, keys: int
) -> BatchCost:
    count = Decimal(batches)
    # Each request sends, receives or deletes ten messages, and is billed once for each 64 KiB.
    chunks = -(-size_bytes // _SQS_CHUNK_BYTES)
    sqs = (2 * max(Decimal(chunks), count / 10) + count / 10) / count
    write, read = store.write_units / count, store.read_units / count
    usd = (
        write * PROCESSING_USD["DynamoDB write request unit (on demand)"]
        + read * PROCESSING_USD["DynamoDB read request unit (on demand)"]
        + sqs * PROCESSING_USD["SQS request (standard, 64 KiB)"]
        + PROCESSING_USD["Lambda request"] / _MESSAGES
        + cpu_s / count * _LAMBDA_MEMORY_GB * PROCESSING_USD["Lambda GB-second (arm64)"]
        + puts / count * PROCESSING_USD["S3 PUT"]
    )
    return BatchCost(
        scenario=scenario,
        keys=keys / count,
        commits=store.commits,
        write_units=write,
        read_units=read,
        puts=puts / count,
        sqs_requests=sqs,
        cpu_ms=cpu_s * 1_000 / count,
        usd=usd,
    )


def print_costs(costs: Sequence[BatchCost]) -> None:
    """Print the table of costs, and the prices that it is computed with."""
    print("cost per batch at list prices, with 100 messages per invocation and 100 records per batch")
    print(
        f"{'scenario':<10}{'keys':>6}{'commits':>9}{'WRU':>8}{'RRU':>7}{'PUT':>8}{'SQS':>7}{'CPU ms':>8}"
        f"{'micro-USD':>11}{'USD/day at 12 M':>17}"
    )
    for cost in costs:
        print(
            f"{cost.scenario:<10}{cost.keys:>6.1f}{cost.commits:>9}{cost.write_units:>8.2f}{cost.read_units:>7.2f}"
            f"{cost.puts:>8.3f}{cost.sqs_requests:>7.2f}{cost.cpu_ms:>8.2f}{cost.usd * 1_000_000:>11.3f}"
            f"{cost.usd_per_day:>17.2f}"
        )
    print("prices (us-east-1 list prices from secondary pages; a bill may differ):")
    for name, usd in PROCESSING_USD.items():
        print(f"  {name:<42}{usd:>16.10f} USD")


if __name__ == "__main__":
    print_costs([measure(scenario) for scenario in SCENARIO_NAMES])
