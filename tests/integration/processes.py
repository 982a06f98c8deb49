"""Aggregator and compactor as separate processes, which can be killed at any moment.

Each process logs start, end and messages of its work, so that tests detect two processes with one batch.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from metering.adapters.aws.queues import SqsQueue
from metering.adapters.aws.runtime import SystemClock
from metering.errors import UnavailableError
from metering.stores.queues import Delivery
from tests.integration.region import Region
from tests.support.emulated import Resources, clients_of
from tests.support.memory.clock import DeadlineAt
from tests.support.stage import compaction

# Time after which a message of a dead worker is visible again.
VISIBILITY_S = 3
# Messages of one invocation.
MESSAGES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the processes work."""

    endpoint: str
    resources: Resources
    queue_url: str
    log_dir: Path


class Work(NamedTuple):
    """One completed invocation."""

    pid: int
    began: int
    ended: int
    bodies: frozenset[str]


class Crew:
    """Worker processes; each killed process is replaced."""

    def __init__(self, site: Site, jobs: Iterable[Callable[[Any], None]]) -> None:
        self._site = site
        self._jobs = list(jobs)
        # The fork server has imported everything and has no threads, so a new process is ready at once.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(sorted({job.__module__ for job in self._jobs}))
        self._running = {number: self._start(job) for number, job in enumerate(self._jobs)}
        self.kills = 0

    def kill_one(self, number: int) -> None:
        """SIGKILL one worker, and start another in its place."""
        self.end(number)
        self._running[number] = self._start(self._jobs[number])
        self.kills += 1

    def end(self, number: int) -> None:
        process = self._running.pop(number)
        process.kill()
        process.join()
        process.close()

    def dead(self) -> list[int | None]:
        """Exit codes of processes that ended without being killed, which is an error."""
        return [process.exitcode for process in self._running.values() if process.exitcode is not None]

    def stop(self) -> None:
        for number in tuple(self._running):
            self.end(number)

    def _start(self, job: Callable[[Any], None]) -> BaseProcess:
        process = self._context.Process(target=job, args=(self._site,), daemon=True)
        process.start()
        return process


def region_of(site: Site) -> Region:
    """The region as a process uses it, with the machine's clock."""
    region = Region(clients_of(site.endpoint), resources=site.resources)
    region.clock = SystemClock()  # type: ignore[assignment]  # another `Clock`
    return region


def queue_of(site: Site) -> SqsQueue:
    return SqsQueue(clients_of(site.endpoint).sqs, site.queue_url)


def aggregate(site: Site) -> None:
    """Handle messages until killed."""
    region, queue = region_of(site), queue_of(site)
    with (site.log_dir / f"{os.getpid()}.ndjson").open("a") as log:
        while True:
            received = queue.receive(MESSAGES)
            if not received:
                time.sleep(0.05)
                continue
            deliveries = [message.delivery for message in received]
            _note(log, "began", deliveries)
            retry = region.handle(deliveries).retry
            _note(log, "ended", deliveries)
            queue.delete_many([one.receipt for one in received if one.delivery.message_id not in retry])


def compact(site: Site) -> None:
    """Roll up, compact and clean until killed, with almost no waiting."""
    region = region_of(site)
    jobs = region.jobs()
    compactor = replace(jobs.compactor_of(compaction(run_pairs=12, wait_today_s=0, wait_older_s=0)), reserve_ms=0)
    cleaner = replace(jobs.cleaner, wait_s=1, reserve_ms=0)
    while True:
        deadline = DeadlineAt(clock=region.clock, at_ms=region.clock.now_ms() + 60_000)
        try:
            jobs.rollup.run(deadline)
            compactor.run(deadline)
            cleaner.run(deadline)
        except UnavailableError:
            continue
        time.sleep(0.1)


def works(log_dir: Path) -> list[Work]:
    """Every completed invocation of all processes."""
    found: list[Work] = []
    for path in log_dir.glob("*.ndjson"):
        began = 0
        for line in path.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            entry = json.loads(line)
            if entry["what"] == "began":
                began = entry["at"]
            else:
                found.append(Work(int(path.stem), began, entry["at"], frozenset(entry["bodies"])))
    return found


def overlapping(found: Iterable[Work]) -> int:
    """Number of pairs of invocations in which two processes handled the same message content concurrently."""
    done = sorted(found, key=lambda work: work.began)
    return sum(
        1
        for place, first in enumerate(done)
        for second in done[place + 1 :]
        if second.began < first.ended and second.pid != first.pid and first.bodies & second.bodies
    )


def _note(log: TextIO, what: str, deliveries: list[Delivery]) -> None:
    line = {"what": what, "at": time.time_ns(), "bodies": [delivery.body[:80] for delivery in deliveries]}
    log.write(json.dumps(line) + "\n")
    log.flush()
