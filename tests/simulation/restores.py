"""Restores in a history: the ledger is lost, and comes back as it was at an earlier moment, while late calls go on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.ledger.format_version import ledger_format
from metering.stores.writes import Table, key_of
from tests.simulation.checks.restored import Before
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS
from tests.simulation.region.scheduler import KilledError
from tests.simulation.sent.traffic import DAY_MS
from tests.support.memory.clock import MemoryAlerts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.settings import Settings
    from metering.stores.writes import Item, Key
    from tests.simulation.region.ports import Process
    from tests.simulation.region.world import World

_SHARE = 0.2
_EPOCH_MS = 30 * MINUTE_MS
_LIVES = 6
# A table can be restored to moments of this time.
_WINDOW_MS = 35 * DAY_MS
# Share of the backups in which a transaction is torn.
_TORN = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A ledger as it was at a moment. `torn` says that one transaction was not whole in it."""

    at_ms: int
    generation: int
    items: tuple[Item, ...]
    torn: bool = False


NOTHING = Backup(at_ms=0, generation=1, items=())


class Restores:
    """The restores of one history, at most two.

    Args:
        seed: Seed of a separate random stream, so that the rest of the history does not change.
        settings: The settings of the stage now, and its number of shards.
        opened: Called when a restored ledger was opened.
        broken: Whether usage was damaged in this history.
    """

    def __init__(
        self,
        world: World,
        seed: int,
        *,
        epochs: int,
        settings: Callable[[], tuple[Settings, int]],
        opened: Callable[[], None],
        broken: Callable[[], bool],
        always: bool = False,
    ) -> None:
        self._world = world
        self._chance = random.Random(f"restore {seed}")
        happens = self._chance.random() < _SHARE
        self.happens = happens or always
        self._settings = settings
        self._opened = opened
        self._broken = broken
        self._epochs = [self._chance.randrange(epochs) for _ in range(1 if self._chance.random() < 0.7 else 2)]
        self._backups: list[Backup] = []
        self._before: Before | None = None
        self._restored: Backup = NOTHING
        self._generation = 1
        # Whether functions of the ledger before are over when the restore decides, as a restore waits for them.
        self._waits = self._chance.random() < 0.5
        self._number = 0

    def live(self, epoch: int, start_ms: int) -> None:
        """Keep backups of some moments of an epoch, and perhaps lose the ledger in it."""
        if not self.happens:
            return
        for _ in range(4):
            keep = self._keep_torn if self._chance.random() < _TORN else self._keep
            self._world.scheduler.at(start_ms + self._chance.randrange(_EPOCH_MS), keep)
        for number in range(self._epochs.count(epoch)):
            at_ms = start_ms + number * 15 * MINUTE_MS + self._chance.randrange(14 * MINUTE_MS)
            self._world.scheduler.at(at_ms, self._restore)

    def finish(self) -> None:
        """Complete a restore that goes on."""
        if self._before is None:
            return
        self._world.scheduler.run_while(lambda: self._before is not None, limit_ms=6 * HOUR_MS)
        if self._before is not None:
            raise ViolationError("restore: it does not come to an end")

    def _keep(self, *, items: Sequence[Item] | None = None, torn: bool = False) -> None:
        if self._before is not None:
            return
        world = self._world
        found = list(world.items.everything(Table.LEDGER)) if items is None else items
        made = Backup(at_ms=world.scheduler.now_ms, generation=self._generation, items=tuple(found), torn=torn)
        self._backups.append(made)

    def _keep_torn(self) -> None:
        """Keep a backup at the next transaction, of which the backup has a part."""
        items = self._world.items
        before: list[Item] = []

        def called(call: str) -> None:
            if call == "items.transact":
                before[:] = items.everything(Table.LEDGER)

        def replied(call: str) -> None:
            if call != "items.transact":
                return
            items.on_call = items.on_reply = lambda _: None
            if items is not self._world.items:
                # A late update of usage, beside a ledger that was restored since.
                return
            after = list(items.everything(Table.LEDGER))
            torn = self._torn({key_of(item): item for item in before}, {key_of(item): item for item in after})
            self._keep(items=torn, torn=True)

        items.on_call, items.on_reply = called, replied

    def _torn(self, before: dict[Key, Item], after: dict[Key, Item]) -> list[Item]:
        changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        for key in self._chance.sample(changed, self._chance.randrange(len(changed))) if changed else ():
            if key in before:
                after[key] = before[key]
            else:
                del after[key]
        return list(after.values())

    def _restore(self) -> None:
        """Lose the ledger, and let two people restore it."""
        if self._before is not None:
            return
        world, chance = self._world, self._chance
        # The ledger of before a restore has no moment after the one that the restore went back to.
        possible = [
            each
            for each in self._backups
            if (each.generation == self._generation or each.at_ms <= self._restored.at_ms)
            and each.at_ms >= world.scheduler.now_ms - _WINDOW_MS
        ]
        backup = chance.choice(possible) if possible and chance.random() < 0.85 else NOTHING
        world.faults.histogram["ledger restored"] += 1
        world.faults.histogram["ledger restored from nothing"] += backup is NOTHING
        world.faults.histogram["ledger restored from a torn moment"] += backup.torn
        world.faults.histogram["ledger restored to before a restore"] += 1 < backup.generation + 1 <= self._generation
        late = [process for process in world.processes if not process.is_late()]
        # What a late process tells is of the ledger before.
        told, world.alerts = world.alerts, MemoryAlerts()
        world.alerts.sent += told.sent
        self._before = Before.of(world)
        self._generation += 1
        self._restored = backup
        world.restore_ledger(backup.items, generation=self._generation)
        world.items.on_call = lambda _: None
        if self._waits:
            for process in late:
                process.dies_at_ms = min(process.dies_at_ms, world.scheduler.now_ms)
        for delay_ms in (0, chance.randrange(10 * MINUTE_MS)):
            self._start(delay_ms + chance.randrange(2 * MINUTE_MS), backup, spared=False)
        self._start(12 * MINUTE_MS, backup, spared=True)

    def _start(self, delay_ms: int, backup: Backup, *, spared: bool) -> None:
        self._number += 1
        process = self._world.process(f"restorer {self._number}", skew_ms=self._chance.randrange(-60_000, 60_000))
        if spared:
            process.spare()
        lives = 100 if spared else _LIVES
        run = partial(self._run, process, self._generation, backup.at_ms, lives)
        self._world.scheduler.spawn(run, delay_ms=delay_ms)

    def _run(self, process: Process, generation: int, since_ms: int, lives: int) -> None:
        world = self._world
        for _ in range(lives):
            settings, shards = self._settings()
            try:
                jobs.restoration(process, settings, generation=generation, since_ms=since_ms, shards=shards).run()
            except KilledError:
                world.faults.histogram["restorer killed"] += 1
                world.scheduler.wait(500)
                process.restart()
            except UnavailableError:
                world.scheduler.wait(MINUTE_MS)
            except OperationFailedError:
                world.faults.histogram["restorer came too late"] += 1
            except MeteringError:
                if self._is_adopting(generation):
                    raise
            self._look(generation)
            if not self._is_adopting(generation):
                return

    def _is_adopting(self, generation: int) -> bool:
        found = ledger_format(self._world.items)
        return found is not None and found.generation == generation and found.state == "adopting"

    def _look(self, generation: int) -> None:
        """Go on with a ledger that was opened."""
        if self._before is None or generation != self._generation or self._is_adopting(generation):
            return
        before, self._before = self._before, None
        before.check(self._world, broken=self._broken())
        self._world.faults.histogram["batches held by a restore"] += len(self._world.watch.held)
        self._opened()
