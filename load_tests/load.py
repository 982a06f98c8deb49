"""Load test: cost, throughput, freshness, constant work and memory of the service on MiniStack on this machine.

First it counts all AWS calls and their cost on an emulator (`load_tests.wire.as_on_aws`). Then it sends batches of 100
records from 500 accounts, with up to 8 accounts and 16 usage keys per batch, to the deployed stage, with production's
settings of the roll-up. The exit code is 1 if a limit is missed or `verify` fails.

**At full speed**, 100,000 batches. The rate is measured from the first send until no commit waits for the roll-up. CPU
time per batch is measured over a whole minute, after the roll-up has caught up with the backlog before its first tick,
and over the last whole minute: each contains one tick of every minutely job, and all roll-up runs in between.

**At the target's rate**, the test sends for three minutes. This run has a limit on the time until usage is visible.
Beyond a machine's capacity, that time grows with the queue and only shows how long the test sent. The time at full
speed is only printed. The roll-up function ends when no commit waits and starts once a minute, so commits of a quiet
region wait up to a minute longer and are counted separately.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from load_tests.costs import SCENARIO_NAMES, TARGET_BATCHES_PER_DAY, measure, print_costs
from load_tests.deployed.sampler import (
    BookedRun,
    CountedManifest,
    Progress,
    Sampler,
    Visibility,
    booked_runs,
    caught_up_ms,
    local_stage,
)
from load_tests.stage import judged
from load_tests.wire import as_on_aws
from metering.audit.verification import SentBatches, read_header, read_sent
from metering.cli.commands.developer.replay import send_traffic
from metering.cli.commands.operator.verify import explain, wait_until_settled
from metering.replay.given import synthetic_traffic
from metering.replay.scenarios import SCENARIOS
from metering.settings import GivenSettings
from metering.units import DAY_S, MINUTE_S
from metering.wiring.reports import build_verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.wiring.connection import RegionConnection

_TARGET_PER_S = TARGET_BATCHES_PER_DAY / DAY_S
# Limit of the CPU time per batch at the end, as a multiple of that at the start. Wall-clock time varies too much.
_FLAT = 1.15
_MEMORY_MIB = 400
_VISIBLE_S = 60
# By this number of batches, the first processes and functions have started.
_WARM = 2_000
_BATCHES = 100_000
_PACED_S = 3 * MINUTE_S
# A run at a given pace must have reached this share of its rate.
_KEPT = 0.95
_WAIT_S = 1_200
# What production has. On an emulator, the roll-up runs every second, in blocks, and the compactor every five minutes;
# here, each job should tick once a minute.
_SETTINGS = GivenSettings(
    like="local", by_option={"tunables.rollup_every_s": 15, "tunables.rollup_blocks": 0, "compactor_every_min": 1}
)


def main(arguments: Sequence[str]) -> int:
    """Run the load test. Returns 0 only if every limit holds."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.load", description=__doc__)
    parser.add_argument("--batches", type=int, help=f"default: {_BATCHES:,}, or what comes in three minutes of --rate")
    parser.add_argument("--endpoint", help="endpoint where the stage is deployed already; memory is not measured there")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--only-rate", action="store_true", help="send at full speed and verify; count and bill nothing")
    only.add_argument("--rate", type=float, help="send so many batches a second and verify; nothing else")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    if not (options.only_rate or options.rate):
        print_costs([measure(scenario) for scenario in SCENARIO_NAMES])
        problems += as_on_aws.report(as_on_aws.BATCHES)
    if not options.rate:
        problems += _deployed(options.endpoint, options.batches or _BATCHES)
    if not options.only_rate:
        rate = options.rate or _TARGET_PER_S
        # In a complete load test, `--batches` is for the run at full speed.
        batches = (options.batches if options.rate else None) or int(rate * _PACED_S)
        problems += _deployed(options.endpoint, batches, rate)
    return judged(problems)


def _deployed(endpoint: str | None, batches: int, rate: float | None = None) -> list[str]:
    with local_stage("load", endpoint, given=_SETTINGS) as local:
        return _run(local.region, local.pid, batches, rate)


def _run(region: RegionConnection, emulator_pid: int, batches: int, rate: float | None) -> list[str]:
    now_s = int(time.time())
    traffic = synthetic_traffic("load", SCENARIOS["load"], batches, now_s % 1_000, now_s, region.names.data_bucket)
    verifier = build_verifier(region)
    manifest = CountedManifest()
    sampler = Sampler(region, emulator_pid, manifest)
    sampler.start()
    sent = replace(traffic, shipments=sampler.paced(traffic.shipments))
    _, sending_s = send_traffic(region, sent, manifest, rate=rate)
    # The roll-up is done by the deployed function, not by the test.
    settled = wait_until_settled(verifier, _WAIT_S)
    rolled_up_s = time.monotonic() - sampler.began
    progress = sampler.end()
    policy = region.settings
    runs = booked_runs(
        region.items,
        region.objects,
        shards=policy.shards,
        most_commits=policy.rollup_commits,
        since_ms=sampler.began_ms,
    )
    problems = _print_rate(batches, sending_s, progress.seconds_at(batches), rolled_up_s, rate)
    problems += _print_visible(Visibility.of(runs), rate)
    if rate is None:
        problems += _print_flatness(progress, batches, _steady_from(runs, sampler.began_ms))
    problems += _print_memory(progress)
    sys.stdout.flush()
    manifest.seek(0)
    read_header(manifest.readline())
    began = time.monotonic()
    result = verifier.verify(from_s=0, to_s=now_s + DAY_S, sent=SentBatches.collect(read_sent(manifest)))
    explain(result)
    print(f"verified in {time.monotonic() - began:.0f} s")
    exact = settled and result.passed and result.accepted == batches
    return problems if exact else [*problems, "verify failed"]


def _print_rate(batches: int, sending_s: float, took_s: float, rolled_up_s: float, paced: float | None) -> list[str]:
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
    if paced is not None:
        # If a run sent too slowly, its result says nothing about the target.
        slow = batches / sending_s < paced * _KEPT
        return [f"{batches / sending_s:.0f} batches/s were sent, not {paced:.0f}"] if slow else []
    return [] if rate >= _TARGET_PER_S else [f"{rate:.0f} batches/s is less than {_TARGET_PER_S:.0f}"]


def _print_visible(visibility: Visibility, paced: float | None) -> list[str]:
    for line in visibility.lines():
        print(line)
    if not visibility.steady:
        return [] if paced is None else ["no commit came while the roll-up's function was running"]
    if paced is None:
        print("at full speed these times have no limit: they grow with the queue; run at the target's rate for it")
        return []
    late = visibility.p99_s > _VISIBLE_S
    return [f"1 % of the usage is visible only after {visibility.p99_s:.0f} s"] if late else []


def _steady_from(runs: Sequence[BookedRun], began_ms: int) -> float | None:
    """Seconds until the roll-up had caught up with the backlog that preceded its first tick."""
    caught_up = caught_up_ms(runs)
    return None if caught_up is None else (caught_up - began_ms) / 1_000


def _print_flatness(progress: Progress, batches: int, steady_s: float | None) -> list[str]:
    found = flatness(progress, batches, steady_s)
    if found is None:
        print("processor time a batch: not measured, it takes two whole minutes after the roll-up's first runs")
        return [f"{batches:,} batches were too few to compare two minutes"] if batches >= _BATCHES else []
    begin_s, early, late = found
    print(
        f"processor time of functions and emulator: {early:.2f} ms a batch in the minute from second {begin_s:.0f} on, "
        f"{late:.2f} ms in the last minute: {late / early:.2f} x"
    )
    return [] if late <= early * _FLAT else [f"a batch costs {late / early:.2f} times as much at {batches:,}"]


def flatness(progress: Progress, batches: int, steady_s: float | None) -> tuple[float, float, float] | None:
    """CPU time per batch in the first steady minute and in the last minute, in milliseconds.

    Returns:
        The second at which the first minute began, and both CPU times; None without two such minutes.
    """
    if not progress.peak_kib or steady_s is None:
        return None
    begin_s, end_s = max(steady_s, progress.seconds_at(_WARM)), progress.seconds_at(batches)
    if end_s - begin_s < 2 * MINUTE_S:
        return None
    early = progress.cpu_ms_a_batch(begin_s, begin_s + MINUTE_S)
    return begin_s, early, progress.cpu_ms_a_batch(end_s - MINUTE_S, end_s)


def _print_memory(progress: Progress) -> list[str]:
    if not progress.peak_kib:
        print("memory of an aggregator process: not measured")
        return []
    peak_mib = max(progress.peak_kib.values()) / 1_024
    print(f"peak memory of an aggregator process: {peak_mib:.0f} MiB, the most of {len(progress.peak_kib)} processes")
    return [] if peak_mib < _MEMORY_MIB else [f"an aggregator took {peak_mib:.0f} MiB, more than {_MEMORY_MIB}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
