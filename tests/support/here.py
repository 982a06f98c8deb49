"""Commands run on an in-memory region, as functions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from metering.cli.command import Session
from metering.cli.printing.output import Format
from metering.ledger.notes.watch import Completeness
from metering.ledger.usage.kinds import KindNames
from metering.operations.logged_errors import DeedTrail
from metering.stores.writes import Put, Table
from metering.units import DAY_S
from tests.support.memory.queues import MemoryQueue

if TYPE_CHECKING:
    from pathlib import Path

    from metering.ledger.notes.deeds import Deed
    from tests.support.lake_world import World

CALLER = "arn:aws:sts::123456789012:assumed-role/Operator/ada"
_FAR_S = 4_102_444_800


class Facts:
    """Facts of an emulator's queues, which measure no age."""

    def oldest_age_s(self) -> None:
        return None

    def longest_retention_s(self) -> int:
        return 14 * DAY_S

    dead_letter_retention_s = longest_retention_s

    def redelivery(self) -> SimpleNamespace:
        return SimpleNamespace(visibility_s=420, max_receives=5)


class Here:
    """The part of a world's connection that commands use; `onramp` has the queues of log files, if it has sources."""

    stage = "dev"
    services = None
    log_sources = ()
    queue_facts = Facts()
    names = SimpleNamespace(data_bucket="data")

    def __init__(self, world: World, region: str = "us-east-1", *, log_sources: bool = False) -> None:
        self.region = region
        self.items, self.objects, self.clock = world.items, world.objects, world.clock
        self.settings, self.jobs, self.view = world.settings, world.jobs, world.jobs.view
        self.kind_names = KindNames(world.items)
        self.ingest, self.dead_letters, events, dead = (MemoryQueue(world.clock) for _ in range(4))
        self.onramp = SimpleNamespace(events=events, dead=dead) if log_sources else None

    def restoring(self) -> Here:
        return self

    def caller(self) -> str:
        return CALLER


class OperatorSession(Session):
    """A session that may change an in-memory region like AWS; `--yes` was given unless `agreed` is false."""

    def __init__(
        self,
        world: World,
        *,
        form: Format | None = Format.JSON,
        output: Path | None = None,
        agreed: bool = True,
        region: str = "eu-west-1",
        log_sources: bool = False,
    ) -> None:
        super().__init__(
            endpoint=None, region=region, stage="dev", form=form, output=output, agreed=agreed, changes=True
        )
        self.here = Here(world, region, log_sources=log_sources)

    def region(self) -> Here:  # type: ignore[override]  # as much of it as is used
        return self.here

    def trail(self) -> list[Deed]:
        return list(DeedTrail(items=self.here.items).between(0, _FAR_S))


class HereSession(OperatorSession):
    """A session that reads an in-memory region, which the watch has measured: its queues are not read."""

    def __init__(self, world: World, *, form: Format | None = Format.JSON, output: Path | None = None) -> None:
        super().__init__(world, form=form, output=output, region="us-east-1")
        measured = Completeness(through_s=world.clock.now_ms() // 1000)
        world.items.put(Put(table=Table.LEDGER, item=measured.to_item()))
