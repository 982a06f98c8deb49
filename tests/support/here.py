"""Commands that read, run on a region in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.cli.command import Session
from metering.cli.printing.output import Format
from metering.ledger.notes.watch import Completeness
from metering.ledger.usage.kinds import KindNames
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from pathlib import Path

    from metering.lake.view import LakeView
    from metering.settings import Settings
    from metering.wiring.jobs import LakeJobs
    from tests.support.lake_world import World
    from tests.support.memory.clock import ManualClock
    from tests.support.memory.items import MemoryItemStore
    from tests.support.memory.objects import MemoryObjectStore


@dataclass(frozen=True)
class Here:
    """As much of a connection as commands that read use."""

    items: MemoryItemStore
    objects: MemoryObjectStore
    clock: ManualClock
    settings: Settings
    jobs: LakeJobs
    region: str = "us-east-1"
    # Nothing of the queues is asked where the watch has measured.
    ingest: None = None
    dead_letters: None = None
    queue_facts: None = None

    @property
    def kind_names(self) -> KindNames:
        return KindNames(self.items)

    @property
    def view(self) -> LakeView:
        return self.jobs.view


class HereSession(Session):
    """A session whose region is a world in memory."""

    def __init__(self, world: World, *, form: Format | None = Format.JSON, output: Path | None = None) -> None:
        super().__init__(endpoint=None, region=None, stage="dev", form=form, output=output)
        now_s = world.clock.now_ms() // 1000
        world.items.put(
            Put(table=Table.LEDGER, item=Completeness(through_s=now_s).to_item())
        )  # fmt: skip
        self._here = Here(world.items, world.objects, world.clock, world.settings, world.jobs)

    def region(self) -> Here:  # type: ignore[override]  # as much of it as is used
        return self._here
