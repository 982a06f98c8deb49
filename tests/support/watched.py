"""An in-memory region and its queues, with the production code of the watch, of freshness and of the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from metering.audit.freshness import Freshness
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.logged_errors import AlarmState, Subscriber
from metering.operations.status import RegionStatus, StatusLine, StatusReader
from metering.operations.watch import Watch
from metering.stores.queues import Redelivery
from metering.stores.writes import Item, Put, Table
from metering.units import DAY_S
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion
from tests.support.stage import settings as stage_settings

WINDOW_S = 35 * DAY_S


class Note(Protocol):
    """A value that is stored as one item."""

    def to_item(self) -> Item: ...


class QueueFacts:
    """Facts of a queue service. `age_s` is the age of the oldest message; None if the service does not report it."""

    age_s: int | None = None

    def oldest_age_s(self) -> int | None:
        return self.age_s

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=420, max_receives=5)


class WatchedRegion(MemoryRegion, QueueFacts):
    """A region of two shards. The class also stands in for queue service, CloudWatch and SNS."""

    def __init__(
        self, *, now_s: int, region: str = "us-east-1", stage: str = "local", marker_life_s: int = 50 * DAY_S
    ) -> None:
        super().__init__(now_s=now_s, settings=stage_settings(shards=2))
        self.region, self.stage = region, stage
        self.ingest, self.dead = MemoryQueue(self.clock), MemoryQueue(self.clock)
        self.published: dict[str, int] = {}
        self.alight: list[str] = []
        self.pagers = [Subscriber(protocol="email", endpoint="oncall@example.com", confirmed=True)]
        self.freshness = Freshness(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            clock=self.clock,
            region=region,
            stage=stage,
            shards=2,
            window_s=WINDOW_S,
        )
        self.watch = Watch(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            gauges=self,
            clock=self.clock,
            freshness=self.freshness,
            shards=2,
            window_s=WINDOW_S,
            marker_life_s=marker_life_s,
        )

    def put(self, *notes: Note) -> None:
        for note in notes:
            self.items.put(Put(table=Table.LEDGER, item=note.to_item()))

    def status(self) -> RegionStatus:
        return StatusReader(
            items=self.items,
            ingest=self.ingest,
            dead=self.dead,
            queue_facts=self,
            clock=self.clock,
            freshness=self.freshness,
            alarms=self,
            subscribers=self,
            region=self.region,
            stage=self.stage,
            version="0.2.0",
            batch_usd=Decimal("0.000002"),
        ).read()

    def line(self, what: str) -> StatusLine:
        return next(line for line in self.status().lines if line.what == what)

    def publish(self, values: Mapping[str, int]) -> None:
        self.published = dict(values)

    def states(self) -> Sequence[AlarmState]:
        return [
            AlarmState(
                name=alarm_name(self.stage, spec.name), arn="", state="ALARM" if spec.name in self.alight else "OK"
            )
            for spec in ALARMS
        ]

    def subscribers(self, severity: str) -> Sequence[Subscriber]:
        return self.pagers if severity == "page" else ()
