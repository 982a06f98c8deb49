"""Short stories in a small region; in each, an event occurs before one call of the process `first`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from tests.simulation.history import rows_of
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS, Fault
from tests.simulation.region.world import World
from tests.simulation.scenario import NOW_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.settings import Settings
    from tests.simulation.region.faults import Decider
    from tests.simulation.sent.traffic import SentContent
    from tests.support.memory.rows import PlainRow

T = TypeVar("T")
SETTINGS = jobs.settings(1, 200)
POLICY = jobs.policy(2, 10, 0)


class Between:
    """Runs `then` before call `number` of the process `first`. Subclasses add faults of other processes."""

    def __init__(self, number: int = 0) -> None:
        self.histogram: Counter[str] = Counter()
        self.calls = 0
        self.then: Callable[[], object] = lambda: None
        self.number = number

    def decide(self, process: str, call: str, choices: tuple[Fault, ...]) -> Fault | None:
        if process == "first":
            self.calls += 1
            self.happen(call)
        return self.fault(process, call, choices)

    def happen(self, _call: str) -> None:
        if self.calls == self.number:
            self.then()

    def fault(self, _process: str, _call: str, _choices: tuple[Fault, ...]) -> Fault | None:
        return None

    def later_ms(self) -> int:
        return 0

    pause_ms = later_ms


def world_of(contents: Iterable[SentContent], faults: Decider, seed: int = 3) -> World:
    world = World(seed, faults, now_ms=NOW_MS)
    world.queue.odd = False
    world.contents = {content.name: content for content in contents}
    return world


def play(world: World, story: Callable[[], T], *, limit_ms: int = 2 * HOUR_MS) -> T:
    done: list[T] = []
    world.scheduler.spawn(lambda: done.append(story()))
    world.scheduler.run_while(lambda: not done, limit_ms=limit_ms)
    return done[0]


def meter(world: World, *names: str, by: str = "worker", settings: Settings = SETTINGS) -> None:
    process = world.process(by)
    for name in names:
        world.queue.send(name, "S1")
        deliveries = world.queue.receive(10)
        assert jobs.aggregator(process, settings).handle(deliveries, jobs.deadline(process, MINUTE_MS)).retry == ()
        world.queue.acknowledge([delivery.message_id for delivery in deliveries])


def roll_up(world: World, by: str = "second", *, settings: Settings = SETTINGS, shard: int | None = None) -> None:
    process = world.process(by)
    assert jobs.rollup(process, settings).run(jobs.deadline(process, HOUR_MS), shard=shard).finished


def compact(world: World, by: str = "second", *, shards: int = 1) -> None:
    process = world.process(by)
    assert jobs.compactor(process, POLICY, shards=shards).run(jobs.deadline(process, HOUR_MS)).finished


def visible(world: World, *, shards: int = 1) -> list[PlainRow]:
    """All rows of the region that a reader sees."""
    reader = world.process("reader")
    view = jobs.lake_view(reader, shards=shards)
    return [row for hour_s in view.hours() for row in view.read(hour_s, lambda state: rows_of(reader, state))]
