"""A region on an emulator, run as on AWS: invocations of a hundred messages, and a roll-up per 15 seconds of load.

MiniStack's event source mapping delivers ten messages per invocation, far fewer than AWS. This region therefore calls
the production use cases directly, with the real adapters. Time is counted in batches: at 12 million batches a day, 15 s
are 2,083 batches on any machine.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from load_tests.costs import MESSAGES, TARGET_BATCHES_PER_DAY, claim
from load_tests.stage import POLICY, settings
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemEntropy
from metering.hours import hour_of
from metering.ledger.usage.kinds import KindNames
from metering.replay.records import FLOWS
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Shipment, Synthesis, account_id
from metering.settings import Settings
from metering.stores.queues import Delivery
from metering.stores.writes import Table, item_bytes
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType
from metering.wiring.aggregator import build_aggregator
from metering.wiring.jobs import lake_jobs
from tests.support.emulated import make_tables
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts, MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.adapters.aws.session import Clients

# Only this service may have an edge as the metered side, so it is not renamed.
_FIXED = "AmazonCloudFront"
_RENAMED = [flow for flow in FLOWS if flow.service != _FIXED]
_RECORD = re.compile(r'"account_id":"(\d{12})","service":"(\w+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyKinds:
    """Kinds of a region with many kinds, by account."""

    kinds: int
    accounts: int

    def of_batch(self, shipment: Shipment, number: int) -> Shipment:
        """Replace the service names in a batch of inline records with those of each account."""
        body = _RECORD.sub(
            lambda found: f'"account_id":"{found[1]}","service":"{self._named(found[2], found[1], number)}"',
            shipment.body,
        )
        totals = {
            key._replace(service=self._named(key.service, key.account_id, number)): total
            for key, total in shipment.sent.totals.items()
        }
        return replace(shipment, body=body, sent=replace(shipment.sent, totals=totals))

    def all(self, seed: int) -> Mapping[UsageKey, Total]:
        """Usage of zero for every kind of every account that a seed generates."""
        ids = [account_id(seed, number) for number in range(self.accounts)]
        return {
            UsageKey(
                0,
                each,
                UsageType(flow.usage_type),
                self._named(flow.service, each, way),
                flow.from_location,
                flow.to_location,
            ): ZERO
            for each in ids
            for way in range(self._ways)
            for flow in FLOWS
        }

    @property
    def _names(self) -> int:
        """Number of names that a service has in the region."""
        return -(-self.kinds // len(_RENAMED))

    @property
    def _ways(self) -> int:
        """Number of names that a service has in an account."""
        return -(-self._names // self.accounts)

    def _named(self, service: str, account: str, number: int) -> Service:
        if service == _FIXED:
            return Service(service)
        # The last eight digits of an invented account id are its number.
        return Service(f"{service}x{(int(account[-8:]) * self._ways + number % self._ways) % self._names}")


REGION = "us-east-1"
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Traffic of one run.

    Attributes:
        most_units: Limit of write units a batch.
        most_usd, most_provisioned_usd: Limits of a day on demand, and with provisioned billing; None for no limit.
        kinds: Kinds of usage in the region; 0 for those of the scenario.
        rollup_every_s: Interval of the roll-up.
    """

    scenario: str
    accounts: int
    most_units: float
    most_usd: float | None
    most_provisioned_usd: float | None = None
    kinds: int = 0
    rollup_every_s: int = POLICY.rollup_every_s

    @property
    def run_batches(self) -> int:
        """Batches between two runs of the roll-up at the target."""
        return TARGET_BATCHES_PER_DAY * self.rollup_every_s // DAY_S

    @property
    def name(self) -> str:
        return f"{SCENARIOS[self.scenario].keys_per_batch} keys, {self.accounts:,} accounts"

    @property
    def short(self) -> str:
        some = f"{self.accounts // 1_000} k" if self.accounts >= 1_000 else str(self.accounts)
        accounts = "" if self.accounts == SCENARIOS[self.scenario].accounts else f", {some}"
        kinds = f", {self.kinds:,} kinds" if self.kinds else ""
        kinds += f", {self.rollup_every_s} s" if self.rollup_every_s != POLICY.rollup_every_s else ""
        return f"{SCENARIOS[self.scenario].keys_per_batch} keys{accounts}{kinds}"

    @property
    def many(self) -> ManyKinds | None:
        """The kinds of a region that has more kinds than its scenario."""
        return ManyKinds(kinds=self.kinds, accounts=self.accounts) if self.kinds else None

    def shipments(self, batches: int, *, now_s: int) -> list[Shipment]:
        """Distinct messages of the last complete hour."""
        synthesis = Synthesis(
            name=f"{self.scenario}-{self.accounts}",
            scenario=replace(SCENARIOS[self.scenario], accounts=self.accounts, duplicates=0.0),
            seed=SEED,
            base_hour_s=hour_of(now_s) - HOUR_S,
            bucket="b",
        )
        shipments = list(synthesis.shipments(batches))
        if self.many is not None:
            return [self.many.of_batch(shipment, number) for number, shipment in enumerate(shipments)]
        return shipments


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Usage kinds in a load: the number of accounts, of distinct kinds, and of kinds summed over accounts."""

    accounts: int
    distinct: int
    of_accounts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Number and bytes of both tables' items, by kind of item (`B#`)."""

    items: Mapping[str, int]
    bytes: Mapping[str, int]


@dataclass
class WireRegion:
    """A region's own tables and bucket in an emulator, with the production use cases over them."""

    clients: Clients
    policy: Mapping[str, int] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("aggregator", "roll-up", "jobs", "claims"), 0.0)
    )

    def __post_init__(self) -> None:
        name = f"load-{uuid.uuid4().hex[:12]}"
        self.clock = ManualClock(int(time.time()) * 1_000)
        self.metrics, self.alerts, self.entropy = MemoryMetrics(), MemoryAlerts(), SystemEntropy()
        tables = {Table.LEDGER: f"{name}-ledger", Table.USAGE: f"{name}-usage"}
        make_tables(self.clients, tables.values(), bucket=name)
        self.items = DynamoDbItemStore(self.clients.dynamodb, tables)
        self.objects = S3ObjectStore(self.clients.s3, name)
        self.settings = _settings(tables, name, self.policy)
        self.aggregator = build_aggregator(self, self.metrics)
        self.jobs = lake_jobs(self, self.metrics, threads=16)

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 900_000)

    def invoke(self, deliveries: Sequence[Delivery]) -> None:
        """Run one invocation of the aggregator."""
        with self._timed("aggregator"):
            result = self.aggregator.handle(deliveries, self.deadline())
        if result.retry:
            raise RuntimeError(f"{len(result.retry)} messages went back: {result.contradictions}")

    def roll_up(self) -> None:
        """Run the roll-up once, and again if it left commits."""
        with self._timed("roll-up"):
            if not self.jobs.rollup.run(self.deadline()).finished:
                raise RuntimeError("the roll-up left something")

    def compact_and_clean(self) -> None:
        """Compact everything, and clean up as if the grace period of readers had ended."""
        with self._timed("jobs"):
            self.jobs.compactor_of(self.jobs.policy.everything()).run(self.deadline())
            self.clock.advance_s(2 * DAY_S)
            self.jobs.cleaner.run(self.deadline())
            self.jobs.rollup_cleaner.run(self.deadline())

    def usage_equals_markers(self) -> bool:
        """Whether usage, rows and markers agree. If these totals disagree, the run is invalid."""
        result = self.jobs.reconciler.check(from_s=0, to_s=self.clock.now_ms() // 1_000, deep=True)
        return bool(result.checks) and not result.different and not result.unstable

    def claim(self, usages: Iterable[Mapping[UsageKey, Total]]) -> Kinds:
        """Assign numbers to all kinds of some usage, as after the first hours of an account's life."""
        with self._timed("claims"):
            accounts = claim(self.jobs.rollup.numbers, usages)
        return Kinds(
            accounts=len(accounts),
            distinct=len(set().union(*accounts.values())),
            of_accounts=sum(map(len, accounts.values())),
        )

    def read_dictionaries(self, accounts: Iterable[str]) -> None:
        """Read accounts' dictionaries, as the first run of a new process does."""
        names = KindNames(self.items)
        for account in accounts:
            names.read(account)

    def stored(self) -> Stored:
        """Number and size of the items of both tables, by the prefix of their partitions."""
        items: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for table in (Table.LEDGER, Table.USAGE):
            for item in self.items.scan(table):
                kind = str(item["pk"])[:2]
                items[kind] += 1
                sizes[kind] += item_bytes(item)
        return Stored(items=items, bytes=sizes)

    def _timed(self, part: str) -> _Timed:
        return _Timed(self.cpu_s, part)


class _Timed:
    """Adds the CPU time of a `with` block to the total of a part."""

    def __init__(self, cpu_s: dict[str, float], part: str) -> None:
        self._cpu_s, self._part = cpu_s, part

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._cpu_s[self._part] += time.process_time() - self._began


def deliveries_of(bodies: Sequence[str], now_ms: int) -> Iterator[list[Delivery]]:
    """Messages by invocation."""
    for start in range(0, len(bodies), MESSAGES):
        yield [
            Delivery(message_id=str(start + place), body=body, sent_at_ms=now_ms, receive_count=1, sender_id="load")
            for place, body in enumerate(bodies[start : start + MESSAGES])
        ]


def _settings(tables: Mapping[Table, str], bucket: str, changes: Mapping[str, int]) -> Settings:
    made = settings(ledger_table=tables[Table.LEDGER], usage_table=tables[Table.USAGE], data_bucket=bucket)
    # Deleted objects are never read in this test.
    return Settings.model_validate({**made.model_dump(), "clean_wait_s": 0, **changes})
