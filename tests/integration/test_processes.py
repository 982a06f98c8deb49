"""Several aggregators and compactors at once, killed at random, every message sent twice: all is counted once."""

from __future__ import annotations

import multiprocessing
import random
import time
from typing import TYPE_CHECKING

import pytest

from metering.hours import hour_label, parse_hour
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.view import LakeView
from metering.units import HOUR_S
from tests.integration.bench import problems
from tests.integration.processes import (
    MESSAGES,
    VISIBILITY_S,
    Site,
    aggregate,
    compact,
    overlapping,
    queue_of,
    region_of,
    works,
)
from tests.integration.region import Line, Scenario, body, record
from tests.support.emulated import clients_of, make_resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from tests.integration.region import Region

pytestmark = pytest.mark.emulator

BATCHES = 160
ACCOUNTS = 12
AGGREGATORS, COMPACTORS = 3, 2
KILL_EVERY_S = 0.7
AT_LEAST_KILLS = 8
LIMIT_S = 120


@pytest.fixture
def site(ministack: str, tmp_path: Path) -> Site:
    clients = clients_of(ministack)
    queue_url = clients.sqs.create_queue(
        QueueName=f"q-{tmp_path.name[:60]}-{time.time_ns()}", Attributes={"VisibilityTimeout": str(VISIBILITY_S)}
    )["QueueUrl"]
    return Site(endpoint=ministack, resources=make_resources(clients), queue_url=queue_url, log_dir=tmp_path)


class Crew:
    """Processes that are replaced when they are killed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        # Forked from a server that has imported everything and has no threads: a new process is there at once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.integration.processes"])
        self._jobs: list[Callable[[Site], None]] = [*[aggregate] * AGGREGATORS, *[compact] * COMPACTORS]
        self._running = [self._start(job) for job in self._jobs]
        self.kills = 0

    def kill_one(self, number: int) -> None:
        """SIGKILL, and another one in its place."""
        self._end(self._running[number])
        self._running[number] = self._start(self._jobs[number])
        self.kills += 1

    def dead(self) -> list[int | None]:
        """Exit codes of those that ended by themselves: none ever should."""
        return [process.exitcode for process in self._running if process.exitcode is not None]

    def stop(self) -> None:
        for process in self._running:
            self._end(process)

    def _start(self, job: Callable[[Site], None]) -> BaseProcess:
        process = self._context.Process(target=job, args=(self._site,), daemon=True)
        process.start()
        return process

    @staticmethod
    def _end(process: BaseProcess) -> None:
        process.kill()
        process.join()
        process.close()


@pytest.fixture
def crew(site: Site) -> Iterator[Crew]:
    made = Crew(site)
    yield made
    made.stop()


def traffic() -> tuple[list[str], Scenario]:
    """Batches of this hour and of the one before it, and what must come of them."""
    now_s = int(time.time())
    hours = [hour_label(now_s - now_s % HOUR_S - HOUR_S * back) for back in (1, 2)]
    bodies: list[str] = []
    totals: dict[Line, tuple[int, int]] = {}
    for number in range(BATCHES):
        account = number % ACCOUNTS
        records = [
            record(account, 2**60 + number * 10 + place, start=f"{hour}:{number % 60:02d}:00Z")
            for place, hour in enumerate(hours)
        ]
        bodies.append(body(f"b{number}", records))
        for place, hour in enumerate(hours):
            line = Line(hour, f"{account:012d}", "DataTransfer-Out-Bytes")
            before = totals.get(line, (0, 0))
            totals[line] = (before[0] + 2**60 + number * 10 + place, before[1] + 1)
    verdicts = {(f"b{number}", "M", "accepted") for number in range(BATCHES)}
    return bodies, Scenario(deliveries=[], totals=totals, verdicts=verdicts)


class Watch:
    """A reader that looks again and again: it never sees more than was sent, nor less than it saw before."""

    def __init__(self, region: Region, made: Scenario) -> None:
        self._view = LakeView(
            items=region.items, objects=region.objects, reader=ParquetLakeReader(region.objects), shards=1
        )
        self._hours = sorted({line.hour for line in made.totals})
        self._made = made
        self._seen: dict[Line, int] = {}

    def look(self) -> None:
        for hour in self._hours:
            for key, total in self._view.hour_usage(parse_hour(hour)).items():
                line = Line(hour, key.account_id, key.usage_type)
                assert self._seen.get(line, 0) <= total.bytes <= self._made.totals[line][0]
                self._seen[line] = total.bytes


def settled(region: Region) -> bool:
    return not any(str(item["pk"]).startswith(("P#", "U#")) for item in region.ledger())


def test_processes_that_are_killed_at_random_count_everything_once(site: Site, crew: Crew) -> None:
    bodies, made = traffic()
    queue, region = queue_of(site), region_of(site)
    watch = Watch(region, made)
    chance = random.Random(1)
    # An invocation's worth, and the same once more: two workers have the two at once.
    blocks = [bodies[start : start + MESSAGES] for start in range(0, BATCHES, MESSAGES)]
    assert queue.send_many([text for block in blocks for text in (*block, *block)]) == []
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        time.sleep(KILL_EVERY_S)
        assert crew.dead() == []
        watch.look()
        if crew.kills >= AT_LEAST_KILLS and queue.depth().total == 0 and settled(region):
            break
        if queue.depth().total or crew.kills < AT_LEAST_KILLS:
            crew.kill_one(chance.randrange(AGGREGATORS + COMPACTORS))
    watch.look()
    assert queue.depth().total == 0, "messages are left"
    assert settled(region), "commits are left uncompacted"
    assert problems(region, made) == ""
    assert crew.kills >= AT_LEAST_KILLS
    assert overlapping(works(site.log_dir)) > 0, "no two processes ever had the same batch at the same time"
