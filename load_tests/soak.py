"""Soak test: a long run through the real aggregator and compactor on MiniStack (`--batches 200000`).

Three aggregator and two compactor processes work on one region. SIGKILL ends a random one every two seconds, but never
the first aggregator. Messages become visible again after a shortened visibility timeout, and one in twenty batches is
sent twice. After each tenth of the run every batch must have its marker, and usage must equal the sent bytes. At the
end markers, usage and lake must be equal. A stopped run resumes after the last proven tenth; the state file names it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import linear_regression

from load_tests.soak_region import Region, expected_bytes
from metering.adapters.emulator import ministack as emulator
from metering.adapters.emulator.state import process_began

_PORT = 4650
_KILL_EVERY_S = 2.0
_BACKLOG = 400
# No process is killed during the last few messages: each kill would delay the end by a visibility timeout.
_CALM = 100
_TENTHS = 10
# Time for the processes to start.
_WARM_UP_S = 5.0
_LEG_LIMIT_S = 3_600.0
_FLAT = 1.15


@dataclass(slots=True)
class Leg:
    """Result of a tenth of the run.

    Attributes:
        sending_s: Seconds until all batches were sent. Meanwhile the queue is kept short.
        settling_s: Seconds from then until the last verdict. Messages of killed processes become visible again only
            after the visibility timeout.
        overlaps: Number of times that two processes had the same batch at once.
    """

    first: int
    batches: int
    sending_s: float
    settling_s: float
    kills: int
    overlaps: int
    redriven: int
    memory_mib: int

    @property
    def rate(self) -> float:
        return self.batches / self.sending_s


@dataclass(slots=True)
class State:
    """State from which a later call resumes. `base` is the first batch that was sent to this emulator."""

    batches: int
    endpoint: str = ""
    pid: int = 0
    began: str = ""
    name: str = ""
    base: int = 0
    legs: list[Leg] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path, batches: int) -> State:
        if path.exists():
            values = json.loads(path.read_text())
            if values["batches"] == batches:
                return cls(**{**values, "legs": [Leg(**leg) for leg in values["legs"]]})
        return cls(batches)


def run_leg(region: Region, first: int, batches: int) -> Leg:
    """Send a tenth of the batches, kill processes meanwhile, and wait for all verdicts."""
    before = region.overlaps()
    began = sent = last_kill = time.monotonic()
    next_number, sent_all, kills, redriven = first, False, 0, 0
    while not sent_all or region.depth("ingest") + region.depth("dead"):
        if time.monotonic() - began > _LEG_LIMIT_S:
            raise RuntimeError("the queue does not become empty")
        region.start_all()
        if not sent_all and region.depth("ingest") < _BACKLOG:
            after = min(next_number + 200, first + batches)
            region.send(range(next_number, after))
            next_number, sent_all, sent = after, after == first + batches, time.monotonic()
        elif sent_all:
            redriven += region.redrive()
            time.sleep(0.2)
        else:
            time.sleep(0.1)
        if time.monotonic() - last_kill > _KILL_EVERY_S and (not sent_all or region.depth("ingest") > _CALM):
            region.kill_one()
            kills, last_kill = kills + 1, time.monotonic()
    return Leg(
        first=first,
        batches=batches,
        sending_s=round(sent - began, 1),
        settling_s=round(time.monotonic() - sent, 1),
        kills=kills,
        overlaps=region.overlaps() - before,
        redriven=redriven,
        memory_mib=region.memory_mib(),
    )


def prove(region: Region, state: State, leg: Leg) -> list[str]:
    """Compare markers and usage with the sent batches after a tenth. Returns the problems."""
    problems = [f"{pk} has no verdict" for pk in region.unmarked(leg.first, leg.first + leg.batches)[:5]]
    expected, counted = expected_bytes(state.base, leg.first + leg.batches), region.usage_bytes()
    problems += [
        f"account {account}: {counted[account]} bytes counted, {expected[account]} sent"
        for account in sorted(expected.keys() | counted.keys())
        if expected[account] != counted[account]
    ]
    return problems


def main() -> int:
    """Run the test, or resume it. Returns 1 if a problem was found."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.soak", description=__doc__)
    parser.add_argument("--batches", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=Path(".local/soak"), help="folder of the state file")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "state.json"
    state = State.load(path, options.batches)
    region = _attach(state, options.folder)
    size = options.batches // _TENTHS
    problems: list[str] = []
    try:
        region.start_all()
        time.sleep(_WARM_UP_S)
        while len(state.legs) < _TENTHS and not problems:
            leg = run_leg(region, len(state.legs) * size, size)
            problems = prove(region, state, leg)
            if not problems:
                state.legs.append(leg)
                state.save(path)
            sys.stdout.write(f"{_line(leg)}{'' if not problems else ' WRONG'}\n")
            sys.stdout.flush()
        differences = region.differences()
        problems += [f"{differences} hours differ or do not come to rest"] if differences else []
    finally:
        region.stop_all()
    problems += trends(state.legs)
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    if not problems:
        emulator.stop(state.pid)
        path.unlink()
        rates = ", ".join(f"{leg.rate:.0f}" for leg in state.legs)
        sys.stdout.write(f"batches/s in each tenth: {rates}\n")
        total = sum(leg.batches for leg in state.legs)
        sys.stdout.write(f"{total} batches: exact; markers = usage = lake\n")
    return 1 if problems else 0


def _attach(state: State, folder: Path) -> Region:
    """Return the state's region if its emulator still runs, else a new one for the remaining batches."""
    if state.pid and process_began(state.pid) == state.began:
        return Region(state.endpoint, state.name, folder)
    running = emulator.start(emulator.free_port(_PORT), region="us-east-1")
    state.endpoint, state.pid, state.began = running.endpoint, running.pid, running.began
    state.name = f"soak-{os.urandom(4).hex()}"
    state.base = len(state.legs) * (state.batches // _TENTHS)
    for log in folder.glob("aggregator-*"):
        log.unlink()
    region = Region(state.endpoint, state.name, folder)
    region.make()
    state.save(folder / "state.json")
    return region


def trends(legs: list[Leg]) -> list[str]:
    """Check the conditions on the complete run. Returns the problems."""
    if len(legs) < _TENTHS:
        return ["not finished"]
    problems = []
    # One tenth of the run says little: its rate varies by a tenth with the number of batches that a killed process had.
    slope, first = linear_regression(range(len(legs)), [leg.rate for leg in legs])
    last = first + slope * (len(legs) - 1)
    if last * _FLAT < first:
        problems.append(f"rate fell from {first:.0f} to {last:.0f} batches/s, by the line through all tenths")
    # The first tenth fills caches, so growth is measured from the second.
    if legs[-1].memory_mib > legs[1].memory_mib * _FLAT:
        problems.append(f"memory grew from {legs[1].memory_mib} to {legs[-1].memory_mib} MiB")
    if not sum(leg.overlaps for leg in legs):
        problems.append("no batch was ever in two processes at once, so the run proves nothing")
    return problems


def _line(leg: Leg) -> str:
    return (
        f"batches {leg.first} to {leg.first + leg.batches - 1}: {leg.rate:.0f} batches/s, last verdict "
        f"{leg.settling_s:.0f} s later, {leg.kills} kills, {leg.overlaps} batches in two processes at once, "
        f"{leg.redriven} redriven, {leg.memory_mib} MiB"
    )


if __name__ == "__main__":
    sys.exit(main())
