"""One measurement: a job over a region of one size, in a separate process."""

from __future__ import annotations

import gc
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from load_tests.scale.items import ComputedItems
from load_tests.scale.meter import MemoryWatch, Meter
from load_tests.scale.objects import ComputedObjects
from load_tests.scale.templates import Staging, Templates
from load_tests.stage import settings
from metering.adapters.aws.items import DynamoDbItemStore, to_attributes
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.session import Access, sdk_config
from metering.stores.clock import CALLS_AT_ONCE
from metering.stores.writes import Absent, AnyOf, Item, LessThan, Put, Table, Update, key_of
from metering.units import HOUR_S
from metering.wiring.jobs import LakeJobs, lake_jobs
from tests.support.memory.clock import DeadlineAt, ManualClock, MemoryAlerts, MemoryMetrics, SeededEntropy
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from load_tests.scale.region import Region

_REPEATS = 60
_KEYS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkCosts:
    """CPU time of the SDK: microseconds per call, and per item of a response."""

    call_us: Mapping[str, float]
    item_us: Mapping[str, float]

    def seconds(self, calls: Counter[str], items: Counter[str]) -> float:
        """CPU seconds that the SDK takes for these calls and the items in their responses."""
        of_calls = sum(self.call_us.get(name, 0.0) * count for name, count in calls.items())
        return (of_calls + sum(self.item_us.get(name, 0.0) * count for name, count in items.items())) / 1e6


def measure(items: Sequence[Item], update: Update, updated: Item) -> SdkCosts:
    """Measure the SDK with items like the job's, and with an update that returns the item."""
    wire = [to_attributes(item) for item in items]
    few, many = wire[:1], (wire * (200 // len(wire) + 1))[:200]
    one = items[0]
    key = key_of(one)
    calls: dict[str, float] = {}
    per_item: dict[str, float] = {}

    def store(answer: object) -> DynamoDbItemStore:
        client = _client("dynamodb", json.dumps(answer).encode())
        return DynamoDbItemStore(client, {table: str(table) for table in Table})

    reads: dict[str, Callable[[DynamoDbItemStore], object]] = {
        "query": lambda made: list(made.query(Table.LEDGER, "pk")),
        "scan": lambda made: list(made.scan(Table.LEDGER)),
    }
    for name, read in reads.items():
        small = _us(partial(read, store({"Items": few, "Count": 1})))
        large = _us(partial(read, store({"Items": many, "Count": 200})))
        per_item[name] = max(0.0, (large - small) / (len(many) - len(few)))
        calls[name] = max(0.0, small - per_item[name])
    keys = [key_of({**one, "sk": f"{number}"}) for number in range(100)]
    batch = store({"Responses": {"ledger": (wire * 100)[:100]}, "UnprocessedKeys": {}})
    calls["get_many"] = 0.0
    per_item["get_many"] = _us(lambda: batch.get_many(Table.LEDGER, keys)) / 100
    got = store({"Item": few[0]})
    calls["get"] = _us(lambda: got.get(Table.LEDGER, key))
    put = store({})
    calls["put"] = calls["delete"] = _us(lambda: put.put(Put(table=Table.LEDGER, item=one)))
    changed = store({"Attributes": to_attributes(updated)})
    calls["update"] = _us(lambda: changed.update(update))
    puts = [Put(table=Table.LEDGER, item={**one, "sk": f"{number}"}) for number in range(10)]
    per_item["transact"] = _us(lambda: put.transact(puts)) / len(puts)
    calls |= _of_s3(per_item)
    return SdkCosts(call_us=calls, item_us=per_item)


def _of_s3(per_item: dict[str, float]) -> dict[str, float]:
    entry = (
        "<Contents><Key>staging/2026-11-24/0123456789abcdef0123456789abcdef.parquet</Key>"
        "<LastModified>2026-11-24T13:00:00.000Z</LastModified><ETag>&quot;0&quot;</ETag><Size>1</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entry * _KEYS}</ListBucketResult>".encode()
    listing = S3ObjectStore(_client("s3", page), "bucket")
    per_item["s3.list"] = _us(lambda: list(listing.list("staging/")), repeats=5) / _KEYS
    body = S3ObjectStore(_client("s3", b"x" * 1_000), "bucket")
    get = _us(lambda: body.get("key"))
    empty = S3ObjectStore(_client("s3", b""), "bucket")
    put = _us(lambda: empty.put("key", b"x", if_absent=True))
    return {"s3.get": get, "s3.head": get, "s3.put": put, "s3.delete": put, "s3.list": 0.0}


def _us(work: Callable[[], object], *, repeats: int = _REPEATS) -> float:
    """Microseconds of CPU time: the minimum of several rounds, because other load can only slow a round down."""
    work()
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(max(1, repeats // 5)):
            work()
        best = min(best, (time.process_time() - began) / max(1, repeats // 5))
    return best * 1e6


def _client(service: str, body: bytes) -> Any:
    client = boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
        service,
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106 - it reaches nothing
        # The clients are made like the service's own clients, because request validation is part of the cost.
        config=sdk_config(Access(region="us-east-1"), service),
    )

    def answer(**_others: object) -> AWSResponse:
        headers = HTTPHeaders()
        headers["content-length"] = str(len(body))
        headers["etag"] = '"e"'
        headers["last-modified"] = "Tue, 24 Nov 2026 13:00:00 GMT"
        return AWSResponse("https://nowhere", 200, headers, _Raw(body))

    client.meta.events.register(f"before-send.{service}", answer)
    return client


class _Raw:
    """An HTTP response that needs no network."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_others: object) -> list[bytes]:
        return [self._body]

    def read(self, _size: int | None = None) -> bytes:
        body, self._body = self._body, b""
        return body

    def close(self) -> None:
        return


_SAMPLES = 5_000
_FOREVER_MS = 10**12


class WrongResultError(Exception):
    """A job's result differs from the region's data."""


def expect(**facts: bool) -> None:
    """Raise an error that names the facts that are false."""
    wrong = [name for name, holds in facts.items() if not holds]
    if wrong:
        raise WrongResultError(", ".join(wrong))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Time and calls of one step of a job.

    Attributes:
        cpu_s: CPU time, excluding the computation of the region and the storage of updated usage.
        sdk_s: CPU time that the SDK would take for the step's calls, and for the items in their responses.
        waited_s: Time that the step would wait for responses from AWS.
        calls: Number of calls by name.
    """

    cpu_s: float
    sdk_s: float
    waited_s: float
    calls: dict[str, int]

    @property
    def seconds(self) -> float:
        """Time on one core, at the assumed latencies, without any overlap."""
        return self.cpu_s + self.sdk_s + self.waited_s


@dataclass(slots=True, kw_only=True)
class Result:
    """Steps of a job in a region of one size, and its process's peak memory."""

    job: str
    accounts: int
    share: float
    steps: dict[str, Step] = field(default_factory=dict)
    memory_mib: int = 0


class Bench:
    """A computed region and its stores, in one process."""

    def __init__(
        self,
        region: Region,
        folder: Path,
        *,
        staging: Staging | None = None,
        kept: int = 0,
        marker_days: int = 50,
        after_s: int = 90 * 60,
        ledger: Region | None = None,
        booked: Region | None = None,
        like: Bench | None = None,
    ) -> None:
        self.region = region
        self.staging = staging
        self.meter = Meter()
        # The ledger may have been restored to a time before the region's end, and usage may have rows of after.
        self.items = ComputedItems(
            ledger or region, self.meter, staging=staging, marker_days=marker_days, booked=booked or region
        )
        written = folder / "written"
        self.objects = ComputedObjects(
            region, self.meter, templates=Templates(folder), written=written, staging=staging, kept=kept
        )
        self.clock = ManualClock((region.end_s + after_s) * 1_000)
        self.entropy = SeededEntropy(1)
        self.alerts = MemoryAlerts()
        self.metrics = MemoryMetrics()
        self.settings = settings(ledger_table="ledger", usage_table="usage", data_bucket="data")
        self._memory = MemoryWatch(lambda: len(self.items.kept.touched))
        # What a bench of the same region measured is true of this one.
        self._sdk: SdkCosts = like._sdk if like else self._measure_sdk()
        self._computing_s: dict[str, float] = like._computing_s if like else self._measure_computing()

    @property
    def jobs(self) -> LakeJobs:
        """The production jobs, constructed as in a Lambda function."""
        return lake_jobs(self, self.metrics, threads=CALLS_AT_ONCE)

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + _FOREVER_MS)

    def step(self, work: Callable[[], object]) -> Step:
        """Measure some work."""
        gc.collect()
        calls, items, computed = Counter(self.meter.calls), Counter(self.meter.items), Counter(self.items.computed)
        waited_ms, began = self.meter.waited_ms, time.process_time()
        work()
        cpu_s = time.process_time() - began
        calls, items = self.meter.calls - calls, self.meter.items - items
        made = self.items.computed - computed
        computing_s = sum(self._computing_s[name] * count for name, count in made.items())
        return Step(
            cpu_s=max(0.0, cpu_s - computing_s),
            sdk_s=self._sdk.seconds(calls, items),
            waited_s=(self.meter.waited_ms - waited_ms) / 1_000,
            calls=dict(calls),
        )

    def result(self, job: str, **steps: Step) -> Result:
        """The steps, and this process's peak memory excluding the items that the job wrote."""
        memory_mib = self._memory.most_mib(self.items.kept)
        return Result(
            job=job, accounts=self.region.accounts, share=self.region.share, steps=steps, memory_mib=memory_mib
        )

    def _measure_sdk(self) -> SdkCosts:
        usage = self.items.usage_item(0, self.region.begin_s)
        return measure([self.items.marker(self.region.begin_s, 0, 0), usage], _booking(usage), usage)

    def _measure_computing(self) -> dict[str, float]:
        """Seconds to compute an item, and to store an updated item."""
        end_s = self.region.end_s - HOUR_S
        usage = self.items.usage_item(3, end_s)

        def update() -> None:
            store = MemoryItemStore()
            store.put(Put(table=Table.USAGE, item=usage))
            store.update(booking)

        booking = _booking(usage)
        makers: dict[str, Callable[[], object]] = {
            "marker": lambda: self.items.marker(end_s, 1, 2),
            "usage": lambda: self.items.usage_item(3, end_s),
            "updated": update,
        }
        took: dict[str, float] = {}
        for name, make in makers.items():
            began = time.process_time()
            for _ in range(_SAMPLES):
                make()
            took[name] = (time.process_time() - began) / _SAMPLES
        return took


def _booking(usage: Item) -> Update:
    """An update like the roll-up's for two kinds of an account, by a run newer than all runs in the item."""
    run = 10**9
    return Update(
        table=Table.USAGE,
        key=key_of(usage),
        add={"b3": 10**9, "r3": 20, "b7": 10**9, "r7": 20, "v": 1},
        set={"n0": run},
        condition=AnyOf((Absent(attribute="n0"), LessThan(attribute="n0", value=run))),
    )
