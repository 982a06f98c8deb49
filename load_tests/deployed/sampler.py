"""A stage under load, sampled from outside: its queue, its processes, and when each commit's usage was visible."""

from __future__ import annotations

import io
import math
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from metering.adapters.emulator.state import descendants
from metering.cli.commands.developer.local import start_local, stop_leftovers
from metering.cli.connecting import connect
from metering.ledger.commits import known_shards
from metering.ledger.runs import newest_first, rollup_chain
from metering.rollup.plan import RollupPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.replay.synthesis import Shipment
    from metering.settings import GivenSettings
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import ItemStore
    from metering.wiring.connection import RegionConnection

_SAMPLE_S = 0.5
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Maximum number of batches without a verdict, which is seven seconds of traffic. If the service keeps up, the queue is
# short. If the queue were long, the test would measure the emulator's search.
_UNDER_WAY = 1_000
_PAUSE_S = 0.05


class LocalStage(NamedTuple):
    """A stage on an emulator; `pid` is 0 if its processes are not visible."""

    region: RegionConnection
    endpoint: str
    pid: int


@contextmanager
def local_stage(name: str, endpoint: str | None, *, given: GivenSettings | None = None) -> Iterator[LocalStage]:
    """Stage `local` at the given endpoint; without one, on an emulator of this name that stops after the block."""
    if endpoint:
        yield LocalStage(connect(endpoint=endpoint, region="us-east-1", stage="local"), endpoint, 0)
        return
    stop_leftovers(name)
    state = start_local("us-east-1", "local", given=given, name=name)
    try:
        region = connect(endpoint=state.endpoint, region="us-east-1", stage="local")
        yield LocalStage(region, state.endpoint, state.pid or 0)
    finally:
        stop_leftovers(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look."""

    at_s: float
    done: int
    cpu_s: float


@dataclass(slots=True, kw_only=True)
class Progress:
    """All samples of a run.

    Attributes:
        samples: Ordered by time; a sample without more verdicts than the previous sample is left out.
        peak_kib: Peak resident memory of each aggregator process, by its pid.
    """

    samples: list[Sample] = field(default_factory=list)
    peak_kib: dict[int, int] = field(default_factory=dict)

    def seconds_at(self, batches: int) -> float:
        """Time at which `batches` batches had their verdict, interpolated between samples."""
        return self._at("done", batches, "at_s")

    def cpu_ms_a_batch(self, begin_s: float, end_s: float) -> float:
        """CPU time per batch in an interval. All jobs in the interval count."""
        cpu_s, done = (self._at("at_s", end_s, name) - self._at("at_s", begin_s, name) for name in ("cpu_s", "done"))
        return cpu_s * 1_000 / max(done, 1)

    def _at(self, known: str, value: float, wanted: str) -> float:
        """A figure, interpolated at the time when another figure had a given value."""
        before = Sample(at_s=0.0, done=0, cpu_s=self.samples[0].cpu_s if self.samples else 0.0)
        for sample in self.samples:
            first, last = float(getattr(before, known)), float(getattr(sample, known))
            if last >= value:
                share = (value - first) / (last - first) if last > first else 1.0
                low = float(getattr(before, wanted))
                return low + share * (float(getattr(sample, wanted)) - low)
            before = sample
        return float(getattr(before, wanted))


class CountedManifest(io.StringIO):
    """Manifest in memory. Counts sent batches, one line per batch; one write may contain several lines."""

    sent = 0

    def write(self, text: str) -> int:
        if not text.startswith('{"manifest"'):
            self.sent += text.count("\n")
        return super().write(text)


class Sampler(threading.Thread):
    """A thread that samples the queue and the emulator's processes.

    Args:
        emulator_pid: 0 if the emulator's processes are not visible.
    """

    def __init__(self, region: RegionConnection, emulator_pid: int, manifest: CountedManifest) -> None:
        super().__init__(name="sampler", daemon=True)
        self.progress = Progress()
        self.began = time.monotonic()
        self.began_ms = time.time_ns() // 1_000_000
        self._region = region
        self._pid = emulator_pid
        self._manifest = manifest
        self._processes = Processes(emulator_pid)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            done = self._manifest.sent - self._region.ingest.depth().total
            self._processes.look()
            if not self.progress.samples or done > self._done():
                self.progress.samples.append(
                    Sample(at_s=time.monotonic() - self.began, done=done, cpu_s=self._processes.cpu_s)
                )
        self.progress.peak_kib = self._processes.peak_kib

    def paced(self, shipments: Iterable[Shipment]) -> Iterator[Shipment]:
        """The shipments. Pauses sending while more than `_UNDER_WAY` batches have no verdict."""
        for number, shipment in enumerate(shipments):
            while number - self._done() > _UNDER_WAY:
                time.sleep(_PAUSE_S)
            yield shipment

    def _done(self) -> int:
        return self.progress.samples[-1].done if self.progress.samples else 0

    def end(self) -> Progress:
        """Stop sampling. Returns the samples."""
        self._ended.set()
        self.join()
        return self.progress


class Processes:
    """CPU time and memory of an emulator and all its functions."""

    def __init__(self, emulator_pid: int) -> None:
        self._pid = emulator_pid
        # By pid. After a process has ended, its last sample is kept.
        self._cpu_s: dict[int, float] = {}
        self.peak_kib: dict[int, int] = {}

    @property
    def cpu_s(self) -> float:
        """CPU time of all processes so far."""
        return sum(self._cpu_s.values())

    def look(self) -> None:
        """Sample all running processes."""
        for pid in (self._pid, *descendants(self._pid)) if self._pid else ():
            try:
                self._look_at(pid)
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                continue

    def _look_at(self, pid: int) -> None:
        folder = Path(f"/proc/{pid}")
        # The program's name is in brackets and may contain spaces; user and system time are fields 14 and 15.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        self._cpu_s[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
        if b"POWERTOOLS_SERVICE_NAME=aggregator\0" not in (folder / "environ").read_bytes():
            return
        for line in (folder / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak_kib[pid] = max(int(line.split()[1]), self.peak_kib.get(pid, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """A commit whose usage is visible; times in epoch milliseconds."""

    sent_at_ms: int
    created_at_ms: int
    visible_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedRun:
    """A roll-up run and its commits.

    Attributes:
        full: Whether the run took the maximum number of commits, which means that its chain lagged behind.
    """

    planned_at_ms: int
    done_at_ms: int
    full: bool
    commits: tuple[Booked, ...]


def booked_runs(
    items: ItemStore, objects: ObjectStore, *, shards: int, most_commits: int, since_ms: int
) -> list[BookedRun]:
    """All finished runs that were planned since `since_ms`, ordered by plan time.

    Raises:
        ObjectMissingError: A run's plan was already cleaned up.
    """
    found = []
    for shard in known_shards(items, shards):
        for run in newest_first(items, rollup_chain(shard)):
            if run.planned_at_ms < since_ms:
                break
            if run.done_at_ms is None or not run.plan_key:
                continue
            plan = RollupPlan.from_json(objects.get(run.plan_key), run.plan_key)
            commits = tuple(
                Booked(sent_at_ms=each.sent_at_ms, created_at_ms=each.created_at_ms, visible_at_ms=run.done_at_ms)
                for each in plan.commits
            )
            found.append(
                BookedRun(
                    planned_at_ms=run.planned_at_ms,
                    done_at_ms=run.done_at_ms,
                    full=len(commits) >= most_commits,
                    commits=commits,
                )
            )
    return sorted(found, key=lambda run: run.planned_at_ms)


def caught_up_ms(runs: Sequence[BookedRun]) -> int | None:
    """Time at which the backlog that preceded the first run was booked; None if it was never booked."""
    return next((run.done_at_ms for run in runs if not run.full), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visibility:
    """Times of commits, in seconds.

    Attributes:
        steady: Commits created after the roll-up's first run was planned.
        before: Those before. The roll-up function ends when no commit waits, and starts once a minute.
    """

    steady: tuple[Booked, ...]
    before: tuple[Booked, ...]

    @classmethod
    def of(cls, runs: Sequence[BookedRun]) -> Visibility:
        """Times of the commits in some runs."""
        began_ms = runs[0].planned_at_ms if runs else 0
        commits = [each for run in runs for each in run.commits]
        return cls(
            steady=tuple(each for each in commits if each.created_at_ms >= began_ms),
            before=tuple(each for each in commits if each.created_at_ms < began_ms),
        )

    @property
    def p99_s(self) -> float:
        """99th percentile of the steady commits' time from sending to visible usage."""
        return p99(_whole(self.steady))

    def lines(self) -> list[str]:
        """Lines of the printed summary."""
        if not self.steady:
            return []
        committed = [(each.created_at_ms - each.sent_at_ms) / 1_000 for each in self.steady]
        booked = [(each.visible_at_ms - each.created_at_ms) / 1_000 for each in self.steady]
        told = [
            f"{title}: median {median(times):.0f} s, p99 {p99(times):.0f} s, of {len(times):,} commits"
            for title, times in (
                ("from the sending of a commit's first message until it is committed", committed),
                ("from the commit until it is in usage", booked),
                ("from the sending until it is in usage", _whole(self.steady)),
            )
        ]
        if self.before:
            told.append(
                f"{len(self.before):,} commits that came while the function was not running, for nothing had waited: "
                f"at most {max(_whole(self.before)):.0f} s"
            )
        return told


def p99(times: Iterable[float]) -> float:
    """The 99th percentile; 0 for an empty list."""
    ordered = sorted(times)
    return ordered[math.ceil(len(ordered) * 0.99) - 1] if ordered else 0.0


def _whole(commits: Iterable[Booked]) -> list[float]:
    return [(each.visible_at_ms - each.sent_at_ms) / 1_000 for each in commits]
