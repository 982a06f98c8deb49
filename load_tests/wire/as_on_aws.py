"""Write units, calls and daily USD of the whole service, counted inside an emulator, with AWS-sized invocations.

Each load has its own tables, its workers, a roll-up per 15 seconds of the target load, and finally compaction and
cleaning of everything. A run is valid only if usage, rows and markers agree at its end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from load_tests.costs import MESSAGES, RUN_BATCHES
from load_tests.stage import judged
from load_tests.wire.billings import PROVISIONED, bills, print_bills
from load_tests.wire.counts import PARTS, Sums, WireCounts, WireRun, counting_emulator, total
from load_tests.wire.day_costs import day_costs, print_day
from load_tests.wire.region import SEED, Load, WireRegion, deliveries_of
from metering.replay.synthesis import account_id
from metering.units import MINUTE_S
from tests.support.emulated import clients_of, running_emulator

LOADS = (
    Load(scenario="load-1", accounts=500, most_units=3.0, most_usd=None),
    Load(scenario="load-5", accounts=500, most_units=3.0, most_usd=None),
    Load(scenario="load", accounts=500, most_units=3.2, most_usd=60, most_provisioned_usd=27),
    Load(scenario="load", accounts=10_000, most_units=4.2, most_usd=None, most_provisioned_usd=37),
    Load(
        scenario="load",
        accounts=10_000,
        most_units=4.2,
        most_usd=None,
        most_provisioned_usd=30,
        rollup_every_s=MINUTE_S,
    ),
)
# Two minutes of the target load, which are eight roll-up runs.
BATCHES = 8 * RUN_BATCHES


def run(load: Load, batches: int, endpoint: str, counts: WireCounts) -> WireRun:
    """Complete one load."""
    region = WireRegion(clients_of(endpoint))
    batches = max(batches, load.run_batches)
    shipments = load.shipments(batches, now_s=region.clock.now_ms() // 1_000)
    begin = counts.read(region.clients)
    usages = [each.sent.totals for each in shipments]
    if load.many is not None:
        usages.append(load.many.all(SEED))
    kinds = region.claim(usages)
    claimed = counts.read(region.clients)
    dictionaries = Sums()
    if load.many is not None:
        region.read_dictionaries(account_id(SEED, number) for number in range(load.accounts))
        dictionaries = counts.read(region.clients) - claimed
        claimed = claimed + dictionaries
    left = load.run_batches
    for invocation in deliveries_of([each.body for each in shipments], region.clock.now_ms()):
        region.invoke(invocation)
        left -= len(invocation)
        if left <= 0:
            left += load.run_batches
            region.roll_up()
    region.roll_up()
    rolled_up = counts.read(region.clients)
    stored = region.stored()
    before = counts.read(region.clients)
    region.compact_and_clean()
    end = counts.read(region.clients)
    return WireRun(
        load=load,
        batches=batches,
        body_bytes=sum(len(each.body) for each in shipments),
        counts=rolled_up - claimed + (end - before),
        claims=claimed - begin,
        cpu_s=region.cpu_s,
        kinds=kinds,
        stored=stored,
        equal=region.usage_equals_markers(),
        dictionaries=dictionaries,
    )


def print_units(runs: Sequence[WireRun]) -> None:
    """Print write units per batch, and the kinds in use."""
    print(
        f"\nwrite units a batch, counted in the emulator: {MESSAGES} messages an invocation, a roll-up each "
        f"{RUN_BATCHES:,} batches (15 s at 12 million a day)"
    )
    print(
        f"{'load':<27}{'kinds':>7}{'an account':>12}{'accept':>8}{'roll up':>9}{'compact':>9}{'clean':>7}{'all':>7}"
        f"{'bar':>6}{'equal':>7}   claims, once"
    )
    for each in runs:
        kinds = each.kinds
        print(
            f"{each.load.name:<27}{kinds.distinct:>7,}{kinds.of_accounts / kinds.accounts:>12.1f}"
            + "".join(f"{each.units[part]:>{width}.2f}" for part, width in zip(PARTS, (8, 9, 9, 7), strict=True))
            + f"{each.units_a_batch:>7.2f}{each.load.most_units:>6.1f}{'yes' if each.equal else 'NO':>7}"
            f"   {total(each.claims, 'write '):,.0f} units for {kinds.of_accounts:,}"
        )
        if each.dictionaries:
            reads, calls = total(each.dictionaries, "read "), total(each.dictionaries, "calls ")
            print(
                f"  the dictionaries of its {kinds.accounts:,} accounts: {reads:,.0f} read units in {calls:,.0f} calls"
            )


def problems_of(runs: Sequence[WireRun]) -> list[str]:
    """Bars that were missed."""
    found = []
    for each in runs:
        load = each.load
        if each.units_a_batch > load.most_units:
            found.append(f"{each.units_a_batch:.2f} write units a batch at {load.name}, more than {load.most_units}")
        if not each.equal:
            found.append(f"usage, rows and markers differ at {load.name}")
        usd = sum(day_costs(each).values())
        provisioned = bills(each)[PROVISIONED]
        if load.most_provisioned_usd is not None and provisioned > load.most_provisioned_usd:
            found.append(
                f"{provisioned:.2f} USD a day at {load.name} with provisioned billing and a roll-up each "
                f"{load.rollup_every_s} s, more than {load.most_provisioned_usd:.0f}"
            )
        if load.most_usd is not None and usd > load.most_usd:
            found.append(f"{usd:.0f} USD a day at {load.name}, more than {load.most_usd}")
    return found


def measured(loads: Sequence[Load], batches: int) -> list[WireRun]:
    """Run loads one after the other in one emulator."""
    with (
        TemporaryDirectory() as folder,
        counting_emulator(Path(folder) / "counts.json") as counts,
        running_emulator(4_640) as running,
    ):
        return [run(load, batches, running.endpoint, counts) for load in loads]


def _of_kinds(kinds: int, accounts: int) -> tuple[Load, ...]:
    """The load of 16 keys over `accounts` accounts, once in a plain region and once in a region of `kinds` kinds."""
    load = replace(LOADS[2], accounts=accounts)
    return load, replace(load, kinds=kinds)


def report(batches: int, *, kinds: int = 0, accounts: int = LOADS[2].accounts) -> list[str]:
    """Measure and print all loads; returns the missed limits. With `kinds`, the loads are those of `_of_kinds`."""
    runs = measured(_of_kinds(kinds, accounts) if kinds else LOADS, batches)
    print_units(runs)
    print_day(runs)
    print_bills(runs)
    return problems_of(runs)


def main(arguments: Sequence[str]) -> int:
    """Measure all loads. Returns 0 only if every limit holds."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.wire.as_on_aws", description=__doc__)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--kinds", type=int, default=0, help="16 keys only, and again in a region of so many kinds")
    parser.add_argument("--accounts", type=int, default=LOADS[2].accounts, help="accounts that have these kinds")
    given = parser.parse_args(arguments)
    return judged(report(given.batches, kinds=given.kinds, accounts=given.accounts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
