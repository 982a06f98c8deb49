"""Load test: throughput, constant speed, memory and cost of the service, deployed on MiniStack on this machine.

One run sends 40,000 batches of 100 records from 500 accounts, with up to 8 accounts and 16 usage keys per batch. The
rate is measured from the first send to the last verdict. The exit code is 1 if a limit is missed or `verify` fails.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from load_tests.costs import SCENARIO_NAMES, TARGET_BATCHES_PER_DAY, measure, print_costs
from metering.adapters.emulator.processes import descendants
from metering.audit.verify.expectations import SentBatches
from metering.audit.verify.manifest import read_header, read_sent
from metering.cli.commands.developer.local import start_local, stop_leftovers
from metering.cli.commands.developer.replay import send_traffic
from metering.cli.commands.operator.verify import explain, wait_until_settled
from metering.cli.connecting import connect
from metering.replay.scenarios import SCENARIOS
from metering.replay.traffic import synthetic_traffic
from metering.units import DAY_S
from metering.wiring.reports import build_verifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.replay.synthesis import Shipment
    from metering.wiring.connection import RegionConnection

_STATE = "load"
_TARGET_PER_S = TARGET_BATCHES_PER_DAY / DAY_S
_FLAT = 1.15
_MEMORY_MIB = 400
_SAMPLE_S = 0.5
# Length of the two timed stretches, in batches.
_STRETCH = 2_000
_WAIT_S = 1_200
# Most batches without a verdict: seven seconds of traffic. A service that keeps up has a short queue. With a long queue
# the test would measure how the emulator searches it.
_UNDER_WAY = 1_000
_PAUSE_S = 0.05


@dataclass(slots=True)
class Progress:
    """Samples: number of verdicts by time, and peak memory of each aggregator process."""

    done: list[tuple[float, int]] = field(default_factory=list)
    peak_kib: dict[int, int] = field(default_factory=dict)

    def seconds_at(self, batches: int) -> float:
        """Return the time at which `batches` batches had their verdict, interpolated between samples."""
        before = (0.0, 0)
        for moment in self.done:
            if moment[1] >= batches:
                share = (batches - before[1]) / max(moment[1] - before[1], 1)
                return before[0] + share * (moment[0] - before[0])
            before = moment
        return before[0]

    def ms_a_batch(self, around: int) -> float:
        """Return the time per batch over the stretch that ends at `around` batches."""
        first = max(around - _STRETCH, 0)
        return (self.seconds_at(around) - self.seconds_at(first)) * 1_000 / (around - first)


class CountedManifest(io.StringIO):
    """Manifest in memory. It counts the batches that were sent: a line each, and several lines a write.

    Attributes:
        sent: Number of lines after the header.
    """

    sent = 0

    def write(self, text: str) -> int:
        if not text.startswith('{"manifest"'):
            self.sent += text.count("\n")
        return super().write(text)


class Sampler(threading.Thread):
    """A thread that samples the queue and the processes of the emulator."""

    def __init__(self, region: RegionConnection, emulator_pid: int, manifest: CountedManifest) -> None:
        super().__init__(name="sampler", daemon=True)
        self.progress = Progress()
        self.began = time.monotonic()
        self._region = region
        self._pid = emulator_pid
        self._manifest = manifest
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            sent = self._manifest.sent
            done = sent - self._region.ingest.depth().total
            if not self.progress.done or done > self._done():
                self.progress.done.append((time.monotonic() - self.began, done))
            for pid, kib in aggregator_peaks(self._pid).items():
                self.progress.peak_kib[pid] = max(kib, self.progress.peak_kib.get(pid, 0))

    def paced(self, shipments: Iterable[Shipment]) -> Iterator[Shipment]:
        """Yield the shipments. Wait while more than `_UNDER_WAY` of them have no verdict."""
        for number, shipment in enumerate(shipments):
            while number - self._done() > _UNDER_WAY:
                time.sleep(_PAUSE_S)
            yield shipment

    def _done(self) -> int:
        return self.progress.done[-1][1] if self.progress.done else 0

    def end(self) -> Progress:
        """Stop sampling. Returns the samples."""
        self._ended.set()
        self.join()
        return self.progress


def aggregator_peaks(emulator_pid: int) -> dict[int, int]:
    """Return the peak resident memory in KiB of each process of the emulator that runs the aggregator, by its pid."""
    peaks: dict[int, int] = {}
    for pid in descendants(emulator_pid):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "")
        if b"POWERTOOLS_SERVICE_NAME=aggregator\0" in environ and peak:
            peaks[pid] = int(peak.split()[1])
    return peaks


def main(arguments: Sequence[str]) -> int:
    """Run the load test. Returns 0 only if every limit holds."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.load", description=__doc__)
    parser.add_argument("--batches", type=int, default=40_000)
    parser.add_argument("--endpoint", help="endpoint where the stage is deployed already; memory is not measured there")
    options = parser.parse_args(arguments)
    print_costs([measure(scenario) for scenario in SCENARIO_NAMES])
    if options.endpoint:
        return _run(connect(endpoint=options.endpoint, region="us-east-1", stage="local"), 0, options.batches)
    stop_leftovers(_STATE)
    state = start_local("us-east-1", "local", name=_STATE)
    try:
        return _run(connect(endpoint=state.endpoint, region="us-east-1", stage="local"), state.pid, options.batches)
    finally:
        stop_leftovers(_STATE)


def _run(region: RegionConnection, emulator_pid: int, batches: int) -> int:
    now_s = int(time.time())
    traffic = synthetic_traffic("load", SCENARIOS["load"], batches, now_s % 1_000, now_s, region.names.data_bucket)
    verifier = build_verifier(region)
    manifest = CountedManifest()
    sampler = Sampler(region, emulator_pid, manifest)
    sampler.start()
    _, sending_s = send_traffic(region, replace(traffic, shipments=sampler.paced(traffic.shipments)), manifest)
    settled = wait_until_settled(verifier, _WAIT_S)
    progress = sampler.end()
    took_s = progress.seconds_at(batches)
    manifest.seek(0)
    read_header(manifest.readline())
    result = verifier.verify(from_s=0, to_s=now_s + DAY_S, sent=SentBatches.collect(read_sent(manifest)))
    explain(result)
    problems = [] if settled and result.passed and result.accepted == batches else ["verify failed"]
    problems += _print_rate(batches, sending_s, took_s)
    problems += _print_flatness(progress, batches)
    problems += _print_memory(progress)
    for problem in problems:
        print(f"MISSED: {problem}")
    return 1 if problems else 0


def _print_rate(batches: int, sending_s: float, took_s: float) -> list[str]:
    rate = batches / took_s
    print(f"\n{batches:,} batches of 100 records: sent in {sending_s:.0f} s, all verdicts after {took_s:.0f} s")
    print(
        f"{rate:.0f} batches/s, {rate * 100:,.0f} records/s on {os.cpu_count()} cores, with sender and emulator: "
        f"{rate / _TARGET_PER_S:.2f} x 12 million a day ({_TARGET_PER_S:.0f}/s)"
    )
    return [] if rate >= _TARGET_PER_S else [f"{rate:.0f} batches/s is less than {_TARGET_PER_S:.0f}"]


def _print_flatness(progress: Progress, batches: int) -> list[str]:
    early, late = min(2 * _STRETCH, batches), batches
    first, last = progress.ms_a_batch(early), progress.ms_a_batch(late)
    print(
        f"time per batch: {first:.2f} ms from {early - _STRETCH:,} to {early:,}, "
        f"{last:.2f} ms from {late - _STRETCH:,} to {late:,}: {last / first:.2f} x"
    )
    return (
        [] if last <= first * _FLAT else [f"a batch takes {last / first:.2f} times as long at {late:,} as at {early:,}"]
    )


def _print_memory(progress: Progress) -> list[str]:
    if not progress.peak_kib:
        print("memory of an aggregator process: not measured")
        return []
    peak_mib = max(progress.peak_kib.values()) / 1_024
    print(f"peak memory of an aggregator process: {peak_mib:.0f} MiB, the most of {len(progress.peak_kib)} processes")
    return [] if peak_mib < _MEMORY_MIB else [f"an aggregator took {peak_mib:.0f} MiB, more than {_MEMORY_MIB}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
