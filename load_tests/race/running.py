"""One run of one contender: its time, its service calls, and its totals."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from load_tests.costs import MESSAGES
from load_tests.race.site import Ours, Site, fill, make_site, naive_totals, wrong_accounts
from load_tests.wire.counts import WireCounts, total
from metering.adapters.aws.queues import queue_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.replay.synthesis import Shipment

WORKERS = 3


class Crew:
    """Worker processes that are ready, and begin on a signal."""

    def __init__(self, name: str, site: Site, *, lost: float, feeds: Sequence[Path] = ()) -> None:
        self._command = [sys.executable, "-m", "load_tests.race.worker", name, json.dumps(site.fields()), str(lost)]
        self._running = [self._start(str(feeds[number]) if feeds else "") for number in range(WORKERS)]
        self.kills = 0

    def go(self) -> None:
        """Let all begin."""
        for process in self._running:
            _tell(process)

    def kill_one(self, number: int) -> None:
        """SIGKILL one worker, and start another in its place."""
        self._running[number].kill()
        self._running[number].communicate()
        self._running[number] = self._start("")
        _tell(self._running[number])
        self.kills += 1

    @property
    def working(self) -> bool:
        """Whether any worker still runs."""
        return any(process.poll() is None for process in self._running)

    def end(self) -> float:
        """Stop all; returns the CPU time of the remaining workers."""
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        told = [process.communicate(timeout=120)[0] for process in self._running]
        # A worker that was killed before it started reports nothing.
        return float(sum(json.loads(text)["cpu_s"] for text in told if text))

    def _start(self, feed: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([*self._command, feed], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("a worker does not start")
        return process


def _tell(process: subprocess.Popen[str]) -> None:
    if process.stdin is None:
        raise RuntimeError("a worker cannot be told to begin")
    process.stdin.write("go\n")
    process.stdin.flush()


OURS = "ours"
COPIES = 0.05
LOST_REPLIES = 0.01
KILL_EVERY_S = 2.0
_ROLL_UP_EVERY_S = 15.0
_LOOK_S = 0.2
_LONGEST_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One contender's run.

    Attributes:
        seconds: Time from the workers' start until the queue is empty and no commit waits.
        units, puts: Write units and S3 PUTs per batch.
        cpu_ms: CPU time of the workers, and of our roll-up, per batch. Killed workers are excluded.
        wrong: Accounts with wrong totals, and the number of accounts.
        excess: Metered bytes divided by the sent bytes, minus 1.
        kills: Workers killed.
    """

    name: str
    batches: int
    seconds: float
    units: float
    puts: float
    cpu_ms: float
    wrong: int
    accounts: int
    excess: float
    kills: int

    @property
    def rate(self) -> float:
        return self.batches / self.seconds


@dataclass(kw_only=True)
class Race:
    """One run."""

    name: str
    shipments: Sequence[Shipment]
    endpoint: str
    counts: WireCounts
    trouble: bool
    kill_every_s: float = KILL_EVERY_S
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def run(self) -> Result:
        """Complete the run."""
        site = make_site(self.endpoint, sort_key=self.name == OURS)
        ours = Ours(site.clients(), site) if self.name == OURS else None
        if ours is not None:
            ours.claim(each.sent.totals for each in self.shipments)
        with TemporaryDirectory() as folder:
            return self._raced(site, ours, Path(folder))

    def _raced(self, site: Site, ours: Ours | None, folder: Path) -> Result:
        feeds: list[Path] = []
        if self.trouble:
            fill(site, self._bodies())
        else:
            feeds = _feeds(self._bodies(), folder)
        crew = Crew(self.name, site, lost=LOST_REPLIES if self.trouble else 0.0, feeds=feeds)
        try:
            before = self.counts.read(site.clients())
            began_s = time.monotonic()
            crew.go()
            rollup_cpu_s = self._until_done(site, crew, ours)
            seconds = time.monotonic() - began_s
            if ours is not None:
                ours.compact_and_clean()
        finally:
            cpu_s = crew.end()
        asked = self.counts.read(site.clients()) - before
        found, sent = naive_totals(site) if ours is None else ours.totals(), _sent(self.shipments)
        batches = len(self.shipments)
        return Result(
            name=self.name,
            batches=batches,
            seconds=seconds,
            units=total(asked, "write ") / batches,
            puts=asked.get("s3 calls PUT", 0) / batches,
            cpu_ms=(cpu_s + rollup_cpu_s) * 1_000 / batches,
            wrong=wrong_accounts(found, sent),
            accounts=len(sent),
            excess=_bytes(found) / _bytes(sent) - 1,
            kills=crew.kills,
        )

    def _bodies(self) -> list[str]:
        bodies = [each.body for each in self.shipments]
        if self.trouble:
            bodies += [body for body in bodies if self.chance.random() < COPIES]
            self.chance.shuffle(bodies)
        return bodies

    def _until_done(self, site: Site, crew: Crew, ours: Ours | None) -> float:
        """Wait until the queue is empty and no commit waits; returns the roll-up's CPU time."""
        queue = queue_at(site.clients(), site.queue_url)
        began_s = killed_s = rolled_up_s = time.monotonic()
        cpu_s = 0.0
        while queue.depth().total if self.trouble else crew.working:
            time.sleep(_LOOK_S)
            now_s = time.monotonic()
            if now_s - began_s > _LONGEST_S:
                raise RuntimeError(f"{self.name} does not come to its end")
            if self.trouble and now_s - killed_s >= self.kill_every_s:
                crew.kill_one(self.chance.randrange(WORKERS))
                killed_s = time.monotonic()
            if ours is not None and now_s - rolled_up_s >= _ROLL_UP_EVERY_S:
                cpu_s += ours.roll_up()
                rolled_up_s = now_s
        while ours is not None and ours.waits():
            cpu_s += ours.roll_up()
        return cpu_s


def _feeds(bodies: Sequence[str], folder: Path) -> list[Path]:
    """Distribute the messages of the invocations to the workers, one file per worker."""
    invocations = [bodies[start : start + MESSAGES] for start in range(0, len(bodies), MESSAGES)]
    feeds = []
    for number in range(WORKERS):
        feeds.append(folder / f"worker-{number}")
        feeds[-1].write_text("".join(f"{body}\n" for each in invocations[number::WORKERS] for body in each))
    return feeds


def _sent(shipments: Sequence[Shipment]) -> dict[str, tuple[int, int]]:
    totals: dict[str, tuple[int, int]] = {}
    for shipment in shipments:
        for key, each in shipment.sent.totals.items():
            size, records = totals.get(key.account_id, (0, 0))
            totals[key.account_id] = (size + each.bytes, records + each.records)
    return totals


def _bytes(totals: Mapping[str, tuple[int, int]]) -> int:
    return sum(size for size, _ in totals.values())
