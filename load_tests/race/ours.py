"""This service in the race: the production aggregator, with its roll-up, compaction and cleaning."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from load_tests.stage import settings
from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.ledger.commits import waiting_commits
from metering.ledger.runs import Contradictions
from metering.settings import Settings
from metering.stores.writes import Table
from metering.wiring.aggregator import build_aggregator
from metering.wiring.jobs import lake_jobs
from tests.support.memory.alerts import MemoryAlerts
from tests.support.memory.clock import DeadlineAt
from tests.support.memory.metrics import MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from load_tests.race.site import Site
    from metering.adapters.aws.session import Clients
    from metering.stores.queues import ReceivedMessage
    from metering.usage.totals import Total, UsageKey, UsageKind


class Ours:
    """One worker, or the process of the jobs."""

    def __init__(self, clients: Clients, site: Site) -> None:
        self.clock, self.entropy = SystemClock(), SystemEntropy()
        self.metrics, self.alerts = MemoryMetrics(), MemoryAlerts()
        self.items = DynamoDbItemStore(clients.dynamodb, {Table.LEDGER: site.markers, Table.USAGE: site.usage})
        self.objects = S3ObjectStore(clients.s3, site.bucket)
        made = settings(ledger_table=site.markers, usage_table=site.usage, data_bucket=site.bucket)
        self.settings = Settings.model_validate({**made.model_dump(), "clean_wait_s": 0})
        self._aggregator = build_aggregator(self, self.metrics)
        self.jobs = lake_jobs(self, self.metrics, threads=16)

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 60_000)

    def handle(self, received: Sequence[ReceivedMessage]) -> set[str]:
        return set(self._aggregator.handle([each.delivery for each in received], self.deadline()).retry)

    def claim(self, usages: Iterable[Mapping[UsageKey, Total]]) -> None:
        """Assign the numbers of all accounts' kinds. Numbers are assigned once in an account's life."""
        accounts: dict[str, set[UsageKind]] = {}
        for usage in usages:
            for key in usage:
                accounts.setdefault(key.account_id, set()).add(key.kind)
        for account_id, kinds in accounts.items():
            self.jobs.rollup.numbers.claim(account_id, kinds)

    def roll_up(self) -> float:
        """Roll up waiting commits; returns the CPU time."""
        began_s = time.process_time()
        self.jobs.rollup.run(self.deadline())
        return time.process_time() - began_s

    def waits(self) -> bool:
        """Whether a commit waits for the roll-up."""
        return any(True for _ in waiting_commits(self.items, self.settings.shards))

    def compact_and_clean(self) -> None:
        """Compact everything, and clean up afterwards."""
        self.jobs.compactor_of(self.jobs.policy.everything()).run(self.deadline())
        self.jobs.cleaner.run(self.deadline())

    def totals(self) -> dict[str, tuple[int, int]]:
        """Bytes and records of each account in the usage table."""
        totals: dict[str, tuple[int, int]] = {}
        for item in self.jobs.usage_reading.scan(Contradictions()):
            for _, total in self.jobs.usage_reading.totals(item):
                size, records = totals.get(item.account_id, (0, 0))
                totals[item.account_id] = (size + total.bytes, records + total.records)
        return totals
