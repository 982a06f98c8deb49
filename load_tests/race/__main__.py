"""Races this service against pipelines built from AWS's documentation, alternately on one emulator.

Each contender has three workers, which get as many messages per invocation as a function of `prod`. A race first
measures rate and write units without faults, with messages delivered as by an event source mapping. With duplicate
messages, killed workers and lost responses, it then counts accounts with wrong totals from a queue. The time of this
service ends when no commit waits for the roll-up, and its units include everything, even compaction and cleaning. Usage
kinds get their numbers before the clock starts, because a kind of an account gets its number only once.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from load_tests.costs import MESSAGES
from load_tests.race.running import COPIES, KILL_EVERY_S, LOST_REPLIES, OURS, WORKERS, Race, Result
from load_tests.stage import judged
from load_tests.wire.counts import counting_emulator
from metering.hours import hour_of
from metering.replay.scenarios import SCENARIOS
from metering.replay.synthesis import Shipment, Synthesis
from metering.units import HOUR_S
from tests.support.emulated import running_emulator

NAMES = ("powertools", "transact", OURS)
LEVELS = {1: "load-1", 5: "load-5", 16: "load"}
# Limits: write units by usage keys, relative to Powertools'; at 16 keys also rates, and units by the exact rival's.
_UNITS = {1: 1.0, 5: 1 / 2, 16: 1 / 3}
_RATE, _RATE_OF_EXACT, _UNITS_OF_EXACT = 5, 2, 1 / 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Medians of all rounds with one number of keys per batch, by contender."""

    keys: int
    rate: dict[str, float]
    units: dict[str, float]
    puts: dict[str, float]
    cpu_ms: dict[str, float]


def level_of(keys: int, results: Sequence[Result]) -> Level:
    """Medians of some results."""

    def medians(figure: Callable[[Result], float]) -> dict[str, float]:
        return {name: median(figure(each) for each in results if each.name == name) for name in NAMES}

    return Level(
        keys=keys,
        rate=medians(lambda result: result.rate),
        units=medians(lambda result: result.units),
        puts=medians(lambda result: result.puts),
        cpu_ms=medians(lambda result: result.cpu_ms),
    )


def shipments_of(keys: int, batches: int, round_: int) -> list[Shipment]:
    """Batches of the last full hour."""
    synthesis = Synthesis(
        name=f"race-{keys}-{round_}",
        scenario=replace(SCENARIOS[LEVELS[keys]], duplicates=0.0),
        seed=round_,
        base_hour_s=hour_of(int(time.time())) - HOUR_S,
        bucket="b",
    )
    return list(synthesis.shipments(batches))


def problems_of(levels: Sequence[Level], troubled: Sequence[Result]) -> list[str]:
    """Bars that were missed."""
    found = []
    for level in levels:
        units, rate = level.units, level.rate
        share = units[OURS] / units["powertools"]
        if share > _UNITS[level.keys]:
            found.append(f"{share:.2f} of Powertools' units at {level.keys} keys, more than {_UNITS[level.keys]:.2f}")
        if level.keys == max(_UNITS):
            if rate[OURS] < _RATE * rate["powertools"]:
                found.append(f"{rate[OURS] / rate['powertools']:.1f} x Powertools' batches/s, not {_RATE}")
            if rate[OURS] < _RATE_OF_EXACT * rate["transact"]:
                found.append(f"{rate[OURS] / rate['transact']:.1f} x the exact rival's batches/s, not {_RATE_OF_EXACT}")
            if units[OURS] > units["transact"] * _UNITS_OF_EXACT:
                found.append(f"{units[OURS] / units['transact']:.2f} of the exact rival's units, not a tenth")
    ours = [each for each in troubled if each.name == OURS]
    found += [f"ours: {each.wrong} accounts are wrong" for each in ours if each.wrong]
    found += ["ours was done before a worker was killed: send more with --troubled" for each in ours if not each.kills]
    return found


def print_levels(levels: Sequence[Level]) -> None:
    """Print each contender's rate, write units and CPU time."""
    print("\nwithout trouble: medians, in turns on one emulator; units of ours with roll-up, compaction and cleaning")
    print(
        f"{'keys':>4}  {'contender':<12}{'batches/s':>10}{'write units':>13}{'PUT':>7}{'CPU ms':>8}"
        f"{'ours / it: rate':>17}{'units':>7}{'CPU':>7}"
    )
    for level in levels:
        for name in NAMES:
            shares = [figures[OURS] / figures[name] for figures in (level.rate, level.units, level.cpu_ms)]
            print(
                f"{level.keys:>4}  {name:<12}{level.rate[name]:>10.0f}{level.units[name]:>13.2f}"
                f"{level.puts[name]:>7.3f}{level.cpu_ms[name]:>8.2f}{shares[0]:>17.2f}{shares[1]:>7.2f}{shares[2]:>7.2f}"
            )


def print_troubled(troubled: Sequence[Result], kill_every_s: float) -> None:
    """Print each contender's errors after duplicate messages, killed workers and lost responses."""
    print(
        f"\nwith trouble: {COPIES:.0%} copies, {LOST_REPLIES:.0%} of DynamoDB's replies lost, a worker killed each "
        f"{kill_every_s:g} s"
    )
    print(f"{'contender':<12}{'kills':>6}{'wrong accounts':>20}{'bytes counted':>15}{'write units':>13}")
    for each in troubled:
        wrong = f"{each.wrong} of {each.accounts}"
        print(f"{each.name:<12}{each.kills:>6}{wrong:>20}{each.excess:>+15.3%}{each.units:>13.2f}")


def main(arguments: Sequence[str]) -> int:
    """Race. Returns 0 only if every limit holds."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.race", description=__doc__)
    # Six invocations a worker.
    parser.add_argument("--batches", type=int, default=6 * WORKERS * MESSAGES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--troubled", type=int, default=3_000, help="batches of the run with trouble, of 5 keys")
    parser.add_argument("--keys", type=int, choices=sorted(LEVELS), help="only this number of keys")
    parser.add_argument("--trouble-of", choices=NAMES, help="only the run with trouble, of this contender")
    parser.add_argument("--kill-every", type=float, default=KILL_EVERY_S, help="seconds between two kills")
    options = parser.parse_args(arguments)
    names = NAMES if options.trouble_of is None else (options.trouble_of,)
    levels: list[Level] = []
    with (
        TemporaryDirectory() as folder,
        counting_emulator(Path(folder) / "counts.json") as counts,
        running_emulator(4_650) as running,
    ):

        def run(name: str, shipments: Sequence[Shipment], *, trouble: bool) -> Result:
            result = Race(
                name=name,
                shipments=shipments,
                endpoint=running.endpoint,
                counts=counts,
                trouble=trouble,
                kill_every_s=options.kill_every,
            ).run()
            # A complete race takes a quarter of an hour, so results are printed as they arrive.
            wrong = f", {result.wrong} of {result.accounts} accounts wrong" if trouble else ""
            sys.stderr.write(
                f"{name}, {len(shipments)} batches: {result.rate:.0f} batches/s, {result.units:.2f} units{wrong}\n"
            )
            return result

        without = LEVELS if options.keys is None else [options.keys]
        for keys in without if options.trouble_of is None else []:
            results = []
            for round_ in range(options.rounds):
                shipments = shipments_of(keys, options.batches, round_)
                order = NAMES[round_ % len(NAMES) :] + NAMES[: round_ % len(NAMES)]
                results += [run(name, shipments, trouble=False) for name in order]
            levels.append(level_of(keys, results))
        shipments = shipments_of(5, options.troubled, 99)
        troubled = [run(name, shipments, trouble=True) for name in names] if options.troubled else []
    if levels:
        print_levels(levels)
    print_troubled(troubled, options.kill_every)
    return judged(problems_of(levels, troubled))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
