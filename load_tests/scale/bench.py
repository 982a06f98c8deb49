"""One measurement: a job over a region of one size, in a process of its own."""

from __future__ import annotations

import gc
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from load_tests.scale.items import ComputedItems
from load_tests.scale.memory import MemoryWatch
from load_tests.scale.meter import Meter
from load_tests.scale.objects import ComputedObjects
from load_tests.scale.sdk import SdkCosts, measure
from load_tests.scale.templates import Templates
from load_tests.stage import settings
from metering.stores.clock import CALLS_AT_ONCE
from metering.stores.writes import Absent, AnyOf, Item, LessThan, Put, Table, Update, key_of
from metering.units import HOUR_S
from metering.wiring.jobs import LakeJobs, lake_jobs
from tests.support.memory.alerts import MemoryAlerts
from tests.support.memory.clock import DeadlineAt, ManualClock
from tests.support.memory.entropy import SeededEntropy
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.metrics import MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from load_tests.scale.region import Region
    from load_tests.scale.staging import Staging

_SAMPLES = 5_000
_FOREVER_MS = 10**12


class WrongResultError(Exception):
    """A job's result differs from the region's."""


def expect(**facts: bool) -> None:
    """Fail with the names of the false facts."""
    wrong = [name for name, holds in facts.items() if not holds]
    if wrong:
        raise WrongResultError(", ".join(wrong))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Cost of one step of a job.

    Attributes:
        cpu_s: CPU time, without computing the region and storing the usage that a job updates.
        sdk_s: CPU time that the SDK would take for its calls and items.
        waited_s: Time that it would wait for AWS.
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
    """A region in one process.

    Args:
        region: The region.
        folder: Folder of the templates, and of the job's written objects.
        staging: Commits in staging.
        kept: Staging objects that wait for the cleaner.
        marker_days: Number of history days that have markers.
        after_s: Time from the end of the region's history until now.
    """

    def __init__(
        self,
        region: Region,
        folder: Path,
        *,
        staging: Staging | None = None,
        kept: int = 0,
        marker_days: int = 50,
        after_s: int = 90 * 60,
    ) -> None:
        self.region = region
        self.staging = staging
        self.meter = Meter()
        self.items = ComputedItems(region, self.meter, staging=staging, marker_days=marker_days)
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
        self._sdk = self._measure_sdk()
        self._computing_s = self._measure_computing()

    @property
    def jobs(self) -> LakeJobs:
        """The production jobs, as in a function."""
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
        """The steps with this process's peak memory, without the items that were written here."""
        memory_mib = self._memory.most_mib(self.items.kept)
        return Result(
            job=job, accounts=self.region.accounts, share=self.region.share, steps=steps, memory_mib=memory_mib
        )

    def _measure_sdk(self) -> SdkCosts:
        usage = self.items.usage_item(0, self.region.begin_s)
        marker = self.items.marker(self.region.begin_s, 0, 0)
        return measure([marker, usage], _booking(usage), usage)

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
    """An update as the roll-up books two kinds of an account, by a run newer than any in the item."""
    run = 10**9
    return Update(
        table=Table.USAGE,
        key=key_of(usage),
        add={"b3": 10**9, "r3": 20, "b7": 10**9, "r7": 20, "v": 1},
        set={"n0": run},
        condition=AnyOf((Absent(attribute="n0"), LessThan(attribute="n0", value=run))),
    )
