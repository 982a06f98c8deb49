"""Cost of a batch on AWS at list prices, computed from the calls of the production aggregator and roll-up.

An invocation gets as many messages as the event source mapping of `prod` delivers (the emulator delivers 10), and the
roll-up runs once per 15 seconds of the target load. Aggregator and roll-up use memory stores; item sizes follow AWS's
billing rules. `load_tests.wire.as_on_aws` counts these calls and all others on an emulator.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from load_tests.stage import POLICY, settings
from metering import metric_names
from metering.adapters.aws.runtime import SystemEntropy
from metering.fleet.stage import StageConfig
from metering.hours import hour_of
from metering.ledger.usage.region import claim_numbers
from metering.operations.own_costs import PROCESSING_USD
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Shipment, Synthesis
from metering.stores.queues import Delivery
from metering.stores.writes import Action, Delete, Item, Key, Put, Table, Update, item_bytes
from metering.units import DAY_S, HOUR_S, KIB
from metering.wiring.aggregator import build_aggregator
from metering.wiring.lake import build_rollup
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts, MemoryMetrics
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from metering.ledger.usage.kinds import KindNumbers
    from metering.settings import Settings
    from metering.usage.totals import UsageKey, UsageKind

TARGET_BATCHES_PER_DAY = 12_000_000
# Scenarios with 1, 5 and 16 usage keys per batch.
SCENARIO_NAMES = ("load-1", "load-5", "load")
# SQS bills each 64 KiB of payload as one request.
_SQS_CHUNK_BYTES = 64 * KIB
_LAMBDA_MEMORY_GB = Decimal(1_769) / 1_024
MESSAGES = StageConfig.load("prod").batch_size
# Number of batches between two roll-up runs at the target load.
RUN_BATCHES = TARGET_BATCHES_PER_DAY * POLICY.rollup_every_s // DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCost:
    """Average cost of a batch.

    Attributes:
        keys: Average number of usage keys in a batch.
        claims: Write units for claiming kind numbers. Each kind of an account gets its number only once, so no other
            figure includes these units.
        write_units, read_units: DynamoDB request units.
        puts: S3 PUTs.
        sqs_requests: SQS requests to send, receive and delete, each with ten messages.
        cpu_ms: CPU time of aggregator and roll-up on this machine, assumed to equal Lambda's CPU time.
        usd: Total cost at the prices in `PROCESSING_USD`.
    """

    scenario: str
    keys: Decimal
    claims: int
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


class MeteredItemStore(MemoryItemStore):
    """A memory store that counts request units."""

    def __init__(self) -> None:
        super().__init__()
        self.write_units = 0
        self.read_units = 0
        self.transactions = 0

    def transact(self, actions: Sequence[Action]) -> None:
        before = [self._size(action) for action in actions]
        super().transact(actions)
        after = [self._size(action) for action in actions]
        self.write_units += sum(2 * _units(max(pair), KIB) for pair in zip(before, after, strict=True))
        self.transactions += 1

    def put(self, action: Put) -> None:
        with self._counted(action):
            super().put(action)

    def update(self, action: Update) -> Item:
        with self._counted(action):
            return super().update(action)

    def delete(self, action: Delete) -> None:
        with self._counted(action):
            super().delete(action)

    def get(self, table: Table, key: Key) -> Item | None:
        item = super().get(table, key)
        self.read_units += _units(0 if item is None else item_bytes(item), 4 * KIB)
        return item

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        found = super().get_many(table, keys)
        self.read_units += sum(_units(item_bytes(found[key]) if key in found else 0, 4 * KIB) for key in keys)
        return found

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        items = list(super().query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending))
        self.read_units += _units(sum(map(item_bytes, items)), 4 * KIB)
        return iter(items)

    @contextmanager
    def _counted(self, action: Action) -> Iterator[None]:
        before = self._size(action)
        yield
        self.write_units += _units(max(before, self._size(action)), KIB)

    def _size(self, action: Action) -> int:
        item = self.peek(action.table, action.key)
        return 0 if item is None else item_bytes(item)


def _units(size_bytes: int, unit_bytes: int) -> int:
    return max(1, -(-size_bytes // unit_bytes))


class _CountedObjects(MemoryObjectStore):
    puts = 0

    def put(self, key: str, body: bytes | Path, *, if_absent: bool) -> bool:
        self.puts += 1
        return super().put(key, body, if_absent=if_absent)


@dataclass
class _Region:
    """Ports of a region in memory."""

    items: MeteredItemStore
    objects: _CountedObjects
    clock: ManualClock
    settings: Settings
    entropy: SystemEntropy = field(default_factory=SystemEntropy)
    metrics: MemoryMetrics = field(default_factory=MemoryMetrics)
    alerts: MemoryAlerts = field(default_factory=MemoryAlerts)

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 60_000)


def measure(scenario: str, batches: int = RUN_BATCHES) -> BatchCost:
    """Measure the average cost over `batches` batches of a scenario, with one roll-up for each `RUN_BATCHES`."""
    now_s = int(time.time())
    clock = ManualClock(now_s * 1_000)
    names = settings(ledger_table="l", usage_table="u", data_bucket="b")
    region = _Region(items=MeteredItemStore(), objects=_CountedObjects(clock), clock=clock, settings=names)
    aggregator = build_aggregator(region, region.metrics)
    rollup = build_rollup(region, region.metrics)
    synthesis = Synthesis(
        name=scenario,
        scenario=replace(SCENARIOS[scenario], duplicates=0.0),
        seed=1,
        base_hour_s=hour_of(now_s) - HOUR_S,
        bucket="b",
    )
    shipments = list(synthesis.shipments(batches))
    claims = _claim(rollup.numbers, shipments, region.items)
    deliveries = [
        Delivery(message_id=str(n), body=each.body, sent_at_ms=now_s * 1_000, receive_count=1, sender_id="load")
        for n, each in enumerate(shipments)
    ]
    began = time.process_time()
    rolled_up = 0
    for first in range(0, batches, MESSAGES):
        aggregator.handle(deliveries[first : first + MESSAGES], region.deadline())
        if min(first + MESSAGES, batches) - rolled_up >= min(RUN_BATCHES, batches - rolled_up):
            rolled_up = first + MESSAGES
            rollup.run(region.deadline())
    return _cost(scenario, region, shipments, Decimal(str(time.process_time() - began)), claims)


def claim(numbers: KindNumbers, usages: Iterable[Iterable[UsageKey]]) -> dict[str, set[UsageKind]]:
    """Assign numbers to the kinds of all accounts and of the region, and list the accounts: once in an account's life.

    Returns the kinds.
    """
    kinds: dict[str, set[UsageKind]] = {}
    for usage in usages:
        for key in usage:
            kinds.setdefault(key.account_id, set()).add(key.kind)
    for account_id, of_account in kinds.items():
        numbers.claim(account_id, of_account)
    claim_numbers(numbers, set().union(*kinds.values()))
    numbers.enlist(kinds)
    return kinds


def _claim(numbers: KindNumbers, shipments: Sequence[Shipment], items: MeteredItemStore) -> int:
    """Claim numbers for the kinds of all accounts; returns the consumed write units, and resets their counter."""
    claim(numbers, (shipment.sent.totals for shipment in shipments))
    claims, items.write_units, items.read_units, items.transactions = items.write_units, 0, 0, 0
    return claims


def _cost(scenario: str, region: _Region, shipments: Sequence[Shipment], cpu_s: Decimal, claims: int) -> BatchCost:
    count = Decimal(len(shipments))
    # Each request sends, receives or deletes ten messages, and is billed once per 64 KiB.
    chunks = -(-sum(len(each.body) for each in shipments) // _SQS_CHUNK_BYTES)
    sqs = (2 * max(Decimal(chunks), count / 10) + count / 10) / count
    write, read = region.items.write_units / count, region.items.read_units / count
    usd = (
        write * PROCESSING_USD["DynamoDB write request unit (on demand)"]
        + read * PROCESSING_USD["DynamoDB read request unit (on demand)"]
        + sqs * PROCESSING_USD["SQS request (standard, 64 KiB)"]
        + PROCESSING_USD["Lambda request"] / MESSAGES
        + cpu_s / count * _LAMBDA_MEMORY_GB * PROCESSING_USD["Lambda GB-second (arm64)"]
        + region.objects.puts / count * PROCESSING_USD["S3 PUT"]
    )
    return BatchCost(
        scenario=scenario,
        keys=sum(len(each.sent.totals) for each in shipments) / count,
        claims=claims,
        commits=int(region.metrics.counts[metric_names.COMMITS]),
        write_units=write,
        read_units=read,
        puts=region.objects.puts / count,
        sqs_requests=sqs,
        cpu_ms=cpu_s * 1_000 / count,
        usd=usd,
    )


def print_costs(costs: Sequence[BatchCost]) -> None:
    """Print the table of costs, and the prices behind it."""
    print(
        f"cost per batch of its way into usage at list prices: {MESSAGES} messages an invocation, 100 records a batch, "
        f"a roll-up each {RUN_BATCHES:,} batches"
    )
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
