"""Kill test: mixed traffic is metered while SIGKILL ends a random aggregator process every two seconds.

The stage is `killtest` (15 s timeout, 20 s visibility). Dead letters are redriven with `metering dlq redrive`. At the
end every batch must have one verdict, and every total must be exact.

With `--poison` the test kills no process. Valid batches are mixed with objects that are expensive to read
(`tests/support/heavy.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load_tests.deployed.sampler import Processes
from metering.cli.commands.developer.local import start_local, stop_leftovers
from metering.cli.commands.developer.replay import send_traffic
from metering.cli.commands.operator.verify import explain, read_manifest, wait_until_settled
from metering.cli.connecting import connect
from metering.hours import rfc3339
from metering.ledger.markers import Marker, marker_key
from metering.replay.given import synthetic_traffic
from metering.replay.scenarios import SCENARIOS
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.wiring.reports import build_verifier
from tests.support.heavy import HEAVY
from tests.support.reading import message, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.adapters.emulator.state import LocalState
    from metering.audit.verifier import Verifier
    from metering.wiring.connection import RegionConnection

_GOOD = 48
_RECORDS = 100
_LONGEST_S = 900
_LIST_S = 5.0
# Objects of the tests that are hard to read, by a word in the names of their batches.
_KINDS = {
    "empty-members": "gzip of empty members",
    "line-ends": "128 MiB of line ends",
    "hard-numbers": "lines of 1 MB with a NaN",
    "brackets": "lines of brackets",
    "long-texts": "texts of 10,000 characters, one emoji each",
    "dictionary": "Parquet: a resource id of 10 kB in a dictionary of 50",
}
_UNNUMBERED: dict[str, Any] = {"source_id": ..., "sequence": ...}
_STATE = "kills"
_STAGE = "killtest"
_REDRIVES = 10
_DEAD_ENOUGH = 20
_CALM = 50


def run_poison(state: LocalState, seed: int) -> int:
    """Send the batches, wait, and check them. Returns 0 only if every check passes."""
    region = connect(endpoint=state.endpoint, region=state.region, stage=state.stage)
    start_s = int(time.time()) // HOUR_S * HOUR_S - HOUR_S
    good = {f"good-{seed}-{number}": _message(f"good-{seed}-{number}", start_s, number) for number in range(_GOOD)}
    poison: dict[str, str] = {}
    for kind, name in _KINDS.items():
        heavy = HEAVY[name]
        body = heavy.make()
        for copy in range(2):
            batch_id = f"poison-{seed}-{kind}-{copy}"
            region.objects.put(f"ingest/{batch_id}", body, if_absent=False)
            location = {"bucket": region.names.data_bucket, "key": f"ingest/{batch_id}"}
            location |= {"format": heavy.format, "compression": heavy.compression}
            poison[batch_id] = json.dumps(
                message(batch_id=batch_id, record_count=heavy.count, location=location, **_UNNUMBERED)
            )
    bodies = [*good.values(), *poison.values()]
    random.Random(seed).shuffle(bodies)  # Not relevant to security: it only shuffles the messages.
    began_s = time.monotonic()
    unsent = region.ingest.send_many(bodies)
    settled_s = _wait(region, [*good]) - began_s
    _wait(region, [*good, *poison])
    ended_s = time.monotonic() - began_s
    dead, list_s = _dead_letters(state)
    markers = {batch_id: _marker(region, batch_id) for batch_id in (*good, *poison)}
    metered = sum(marker.metered for batch_id, marker in markers.items() if batch_id in good and marker is not None)
    kinds: Counter[str] = Counter()
    for batch_id in poison:
        marker = markers[batch_id]
        kinds["no verdict" if marker is None else marker.reason or marker.verdict] += 1
    lost = [batch_id for batch_id, marker in markers.items() if marker is None and batch_id not in dead]
    print(f"good batches metered in {settled_s:.0f} s: {metered:,} of {_GOOD * _RECORDS:,} records")
    print(
        f"hard objects after {ended_s:.0f} s: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"
    )
    print(
        f"dead letters: {len(dead)}; listed in {list_s:.1f} s; without a verdict and not dead: {lost}; unsent: {unsent}"
    )
    for letter in dead.values():
        print(f"  {letter['batch_id']}: {letter['why']}")
    right = metered == _GOOD * _RECORDS and not lost and not unsent and list_s <= _LIST_S
    return 0 if right and all(letter["why"] for letter in dead.values()) else 1


def _wait(region: RegionConnection, batch_ids: list[str]) -> float:
    """Wait until the batches have their verdicts or the queue is empty. Returns the end time."""
    until_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < until_s:
        if all(_marker(region, batch_id) is not None for batch_id in batch_ids):
            break
        if region.ingest.depth().total == 0:
            break
        time.sleep(1)
    return time.monotonic()


def _marker(region: RegionConnection, batch_id: str) -> Marker | None:
    item = region.items.get(Table.LEDGER, marker_key(batch_id))
    return None if item is None else Marker.from_item(item)


def _dead_letters(state: LocalState) -> tuple[dict[str, dict[str, str]], float]:
    """Run `metering dlq list`. Returns the rows by batch id, and the seconds, which include the command's start-up."""
    command = [str(Path(sys.executable).with_name("metering")), "dlq", "list", "--format", "json"]
    where = ["--endpoint", state.endpoint, "--stage", state.stage, "--region", state.region]
    began_s = time.monotonic()
    done = subprocess.run([*command, *where], check=True, capture_output=True, text=True)  # the installed command
    rows = json.loads(done.stdout)["rows"]
    return {row["batch_id"]: row for row in rows}, time.monotonic() - began_s


def _message(batch_id: str, start_s: int, number: int) -> str:
    times = {"start": rfc3339(start_s), "end": rfc3339(start_s + 60)}
    records = [record(bytes=1_000, resource_id=f"i-{number}-{place}", **times) for place in range(_RECORDS)]
    return json.dumps(message(records, batch_id=batch_id, **_UNNUMBERED))


class Killer(threading.Thread):
    """A thread that kills random aggregator processes until `end` is called."""

    def __init__(self, emulator_pid: int, seed: int, every_s: float) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills = 0
        self._pid = emulator_pid
        self._every_s = every_s
        self._random = random.Random(seed)  # Not relevant to security: it chooses the process to kill.
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            processes = Processes(self._pid)
            processes.look()
            victims = sorted(processes.peak_kib)
            if victims:
                self._kill(self._random.choice(victims))

    def end(self) -> int:
        """Stop killing. Stop; returns the number of killed processes."""
        self._ended.set()
        self.join()
        return self.kills

    def _kill(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills += 1


def main(arguments: Sequence[str]) -> int:
    """Run the test. Returns 0 only if workers were killed and all totals are exact."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.kills", description=__doc__)
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--records-per-batch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=2.0, metavar="SECONDS")
    parser.add_argument("--manifest", type=Path, default=Path(".local/kills.ndjson"))
    parser.add_argument(
        "--poison",
        action="store_true",
        help="send objects that are hard to read among good batches, and kill no process",
    )
    options = parser.parse_args(arguments)
    stop_leftovers(_STATE)
    state = start_local("us-east-1", _STAGE, name=_STATE)
    try:
        if options.poison:
            return run_poison(state, options.seed)
        killer = Killer(state.pid or 0, options.seed, options.kill_every)
        return _run(state, killer, options.batches, options.records_per_batch, options.seed, options.manifest)
    finally:
        stop_leftovers(_STATE)


def _run(state: LocalState, killer: Killer, batches: int, records: int, seed: int, manifest: Path) -> int:
    region = connect(endpoint=state.endpoint, region=state.region, stage=state.stage)
    verifier = build_verifier(region)
    began = time.monotonic()
    killer.start()
    _send(region, batches, records, seed, manifest)
    redrives = _settle_under_fire(region, state)
    kills = killer.end()
    redrives += _redrive_rest(region, verifier, state)
    _, sent = read_manifest(manifest)
    expected = sent.expected
    result = verifier.verify(from_s=0, to_s=int(time.time()) + DAY_S, sent=sent)
    explain(result)
    for verdict, number in expected.items():
        print(f"{verdict:<10} expected {number:>7,}   found {getattr(result, verdict):>7,}")
    print(
        f"{kills} workers killed, {redrives} redrives, {len(result.lost)} lost, {len(result.doubled)} doubled, "
        f"{time.monotonic() - began:.0f} s"
    )
    counted = all(getattr(result, verdict) == number for verdict, number in expected.items())
    return 0 if kills and result.passed and counted else 1


def _send(region: RegionConnection, batches: int, records: int, seed: int, manifest: Path) -> None:
    now_s = int(time.time())
    scenario = replace(SCENARIOS["mixed"], records_per_batch=records)
    traffic = synthetic_traffic("mixed", scenario, batches, seed, now_s, region.names.data_bucket)
    with manifest.open("w") as file:
        send_traffic(region, traffic, file)


def _settle_under_fire(region: RegionConnection, state: LocalState) -> int:
    """Wait until few messages are left, and keep killing: each kill delays the end by a visibility timeout."""
    redrives = 0
    while region.ingest.depth().total > _CALM:
        time.sleep(1)
        if region.dead_letters.depth().total > _DEAD_ENOUGH:
            _redrive(state)
            redrives += 1
    return redrives


def _redrive_rest(region: RegionConnection, verifier: Verifier, state: LocalState) -> int:
    for number in range(_REDRIVES):
        wait_until_settled(verifier, 300)
        if region.dead_letters.depth().total == 0:
            return number
        _redrive(state)
    return _REDRIVES


def _redrive(state: LocalState) -> None:
    command = [str(Path(sys.executable).with_name("metering")), "dlq", "redrive"]
    where = ["--endpoint", state.endpoint, "--stage", state.stage, "--region", state.region]
    subprocess.run([*command, *where], check=True, stdout=subprocess.DEVNULL)  # the installed command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
