"""Load test: cost, throughput, freshness, constant work and memory of the service on MiniStack on this machine.

First it counts at an emulator what everything would ask of AWS and cost (`load_tests.wire.as_on_aws`). Then one run
sends 40,000 batches of 100 records from 500 accounts, with up to 8 accounts and 16 usage keys per batch, to the
deployed stage. The rate is measured from the first send until nothing waits for the roll-up. The exit code is 1 if a
limit is missed or `verify` fails.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from load_tests.costs import SCENARIO_NAMES, TARGET_BATCHES_PER_DAY, measure, print_costs
from load_tests.deployed.sampler import CountedManifest, Progress, Sampler
from load_tests.wire import as_on_aws
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
    from collections.abc import Sequence

    from metering.wiring.connection import RegionConnection

_STATE = "load"
_TARGET_PER_S = TARGET_BATCHES_PER_DAY / DAY_S
# Processor time a batch at the end, as a multiple of that at the beginning; time by the clock is noise here.
_FLAT = 1.15
_MEMORY_MIB = 400
_VISIBLE_S = 60
# Length of the two stretches, in batches. The first begins where the second batch of processes has started.
_STRETCH = 2_000
_WAIT_S = 1_200


def main(arguments: Sequence[str]) -> int:
    """Run the load test. Returns 0 only if every limit holds."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.load", description=__doc__)
    parser.add_argument("--batches", type=int, default=40_000)
    parser.add_argument("--endpoint", help="endpoint where the stage is deployed already; memory is not measured there")
    parser.add_argument("--only-rate", action="store_true", help="send and verify only; count and bill nothing")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    if not options.only_rate:
        print_costs([measure(scenario) for scenario in SCENARIO_NAMES])
        problems += as_on_aws.report(as_on_aws.BATCHES)
    problems += _deployed(options.endpoint, options.batches)
    for problem in problems:
        print(f"MISSED: {problem}")
    return 1 if problems else 0


def _deployed(endpoint: str | None, batches: int) -> list[str]:
    if endpoint:
        return _run(connect(endpoint=endpoint, region="us-east-1", stage="local"), 0, batches)
    stop_leftovers(_STATE)
    state = start_local("us-east-1", "local", name=_STATE)
    try:
        return _run(connect(endpoint=state.endpoint, region="us-east-1", stage="local"), state.pid, batches)
    finally:
        stop_leftovers(_STATE)


def _run(region: RegionConnection, emulator_pid: int, batches: int) -> list[str]:
    now_s = int(time.time())
    traffic = synthetic_traffic("load", SCENARIOS["load"], batches, now_s % 1_000, now_s, region.names.data_bucket)
    verifier = build_verifier(region)
    manifest = CountedManifest()
    sampler = Sampler(region, emulator_pid, manifest)
    sampler.start()
    _, sending_s = send_traffic(region, replace(traffic, shipments=sampler.paced(traffic.shipments)), manifest)
    # Without a roll-up of its own: the function does it.
    settled = wait_until_settled(verifier, _WAIT_S)
    rolled_up_s = time.monotonic() - sampler.began
    progress = sampler.end()
    manifest.seek(0)
    read_header(manifest.readline())
    result = verifier.verify(from_s=0, to_s=now_s + DAY_S, sent=SentBatches.collect(read_sent(manifest)))
    explain(result)
    problems = [] if settled and result.passed and result.accepted == batches else ["verify failed"]
    problems += _print_rate(batches, sending_s, progress.seconds_at(batches), rolled_up_s)
    problems += _print_visible(progress)
    problems += _print_flatness(progress, batches)
    problems += _print_memory(progress)
    return problems


def _print_rate(batches: int, sending_s: float, took_s: float, rolled_up_s: float) -> list[str]:
    rate = batches / rolled_up_s
    print(
        f"\n{batches:,} batches of 100 records: sent in {sending_s:.0f} s, all verdicts after {took_s:.0f} s, "
        f"nothing waits after {rolled_up_s:.0f} s"
    )
    print(
        f"{rate:.0f} batches/s, {rate * 100:,.0f} records/s on {os.cpu_count()} cores, with sender and emulator: "
        f"{rate / _TARGET_PER_S:.2f} x 12 million a day ({_TARGET_PER_S:.0f}/s); "
        f"{batches / took_s:.0f} batches/s until the last verdict"
    )
    return [] if rate >= _TARGET_PER_S else [f"{rate:.0f} batches/s is less than {_TARGET_PER_S:.0f}"]


def _print_visible(progress: Progress) -> list[str]:
    visible = sorted(progress.visible_s)
    if not visible:
        return ["no commit was seen waiting"]
    p99_s = visible[math.ceil(len(visible) * 0.99) - 1]
    print(
        f"from the sending of a commit's first message until it is in usage: median "
        f"{visible[len(visible) // 2]:.0f} s, p99 {p99_s:.0f} s of {len(visible):,} commits"
    )
    return [] if p99_s <= _VISIBLE_S else [f"1 % of the usage is visible only after {p99_s:.0f} s"]


def _print_flatness(progress: Progress, batches: int) -> list[str]:
    if not progress.peak_kib or batches < 3 * _STRETCH:
        print("processor time a batch: not measured")
        return []
    early = progress.cpu_ms_a_batch(_STRETCH, 2 * _STRETCH)
    late = progress.cpu_ms_a_batch(batches - _STRETCH, batches)
    print(
        f"processor time of functions and emulator: {early:.2f} ms a batch from {_STRETCH:,} to {2 * _STRETCH:,}, "
        f"{late:.2f} ms from {batches - _STRETCH:,} to {batches:,}: {late / early:.2f} x"
    )
    return [] if late <= early * _FLAT else [f"a batch costs {late / early:.2f} times as much at {batches:,}"]


def _print_memory(progress: Progress) -> list[str]:
    if not progress.peak_kib:
        print("memory of an aggregator process: not measured")
        return []
    peak_mib = max(progress.peak_kib.values()) / 1_024
    print(f"peak memory of an aggregator process: {peak_mib:.0f} MiB, the most of {len(progress.peak_kib)} processes")
    return [] if peak_mib < _MEMORY_MIB else [f"an aggregator took {peak_mib:.0f} MiB, more than {_MEMORY_MIB}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
