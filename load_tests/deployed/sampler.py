"""Samples a stage under load: verdicts, CPU time and memory of its processes."""

from __future__ import annotations

import io
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from metering.adapters.emulator.state import descendants

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.replay.synthesis import Shipment
    from metering.wiring.connection import RegionConnection

_SAMPLE_S = 0.5
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
# Maximum number of batches without a verdict: seven seconds of traffic. A service that keeps up has a short queue. With
# a long queue, the test would measure the emulator's search.
_UNDER_WAY = 1_000
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look.

    Attributes:
        at_s: Time since the first message.
        done: Number of batches with a verdict.
        cpu_s: CPU time of the emulator and of all functions so far.
    """

    at_s: float
    done: int
    cpu_s: float


@dataclass(slots=True, kw_only=True)
class Progress:
    """All samples of a run.

    Attributes:
        samples: Ordered by time; only samples with more verdicts than the one before.
        peak_kib: Peak resident memory of each aggregator process, by its pid.
    """

    samples: list[Sample] = field(default_factory=list)
    peak_kib: dict[int, int] = field(default_factory=dict)

    def seconds_at(self, batches: int) -> float:
        """Time at which `batches` batches had their verdict, interpolated between samples."""
        return self._at("done", batches, "at_s")

    def cpu_ms_a_batch(self, begin_s: float, end_s: float) -> float:
        """CPU time per batch between two times. All jobs in that time are included."""
        cpu_s, done = (self._at("at_s", end_s, name) - self._at("at_s", begin_s, name) for name in ("cpu_s", "done"))
        return cpu_s * 1_000 / max(done, 1)

    def _at(self, known: str, value: float, wanted: str) -> float:
        """One figure, interpolated to the sample at which another had a given value."""
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
    """Manifest in memory. Counts sent batches: each is one line, and one write has several lines.

    Attributes:
        sent: Number of lines after the header.
    """

    sent = 0

    def write(self, text: str) -> int:
        if not text.startswith('{"manifest"'):
            self.sent += text.count("\n")
        return super().write(text)


class Sampler(threading.Thread):
    """A thread that samples the queue and the emulator's processes.

    Args:
        emulator_pid: 0 if its processes are not visible.
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
            sent = self._manifest.sent
            done = sent - self._region.ingest.depth().total
            self._processes.look()
            if not self.progress.samples or done > self._done():
                self.progress.samples.append(
                    Sample(at_s=time.monotonic() - self.began, done=done, cpu_s=self._processes.cpu_s)
                )
        self.progress.peak_kib = self._processes.peak_kib

    def paced(self, shipments: Iterable[Shipment]) -> Iterator[Shipment]:
        """The shipments. Pauses while more than `_UNDER_WAY` batches have no verdict."""
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
    """CPU time and memory of an emulator and all its functions.

    Attributes:
        peak_kib: Peak resident memory of each aggregator process, by its pid.
    """

    def __init__(self, emulator_pid: int) -> None:
        self._pid = emulator_pid
        # By pid. A process that has ended keeps its last sample.
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
