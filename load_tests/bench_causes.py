"""Benchmark of the keeper of causes: seconds of CPU, and bytes of a day of causes beside those of the lake.

A generated network is metered for some hours, hour by hour, by the real on-ramp, worker and compactor in memory. The
keeper runs after each hour, as the biller does. The rows must have the bytes of the lake.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING

from metering.stores.objects import CAUSE_DAYS_PREFIX, CAUSE_NAMES_PREFIX, CAUSE_PARTS_PREFIX, LAKE_PREFIX
from metering.units import HOUR_S, MIB
from tests.support.cause_world import CauseWorld, network_of
from tests.support.lake_world import HOUR

if TYPE_CHECKING:
    from collections.abc import Sequence

# Bytes of the days of causes, in percent of the bytes of the lake.
_TARGET_PERCENT = 15
_SLOTS = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=4)
    parser.add_argument("--lines", type=int, default=60_000, help="lines of an hour")
    parser.add_argument("--instances", type=int, default=30, help="private instances in each subnet")
    parser.add_argument("--variety", type=int, default=400, help="pairs of endpoints for each journey")
    parser.add_argument("--style", default="v11")
    given = parser.parse_args(arguments)
    kinds = {"lines": given.lines, "instances": given.instances, "variety": given.variety, "style": given.style}
    world = CauseWorld(network_of(**kinds, first_s=HOUR - HOUR_S))
    spent, files = 0.0, 0
    for number in range(given.hours):
        network = network_of(**kinds, slots=_SLOTS, first_s=HOUR - (given.hours - number) * HOUR_S)
        world.network = network
        world.capture(HOUR - (given.hours - number) * HOUR_S)
        world.meter(network.files())
        kept = world.keep()
        began = time.process_time()
        files += world.cause_keeper().keep(world.deadline(), kept).files
        spent += time.process_time() - began
    if world.cause_sums() != world.lake_sums():
        print("The rows of causes have other bytes than the lake.", file=sys.stderr)
        return 1
    prefixes = {
        "lake": LAKE_PREFIX,
        "days": CAUSE_DAYS_PREFIX,
        "names": CAUSE_NAMES_PREFIX,
        "parts": CAUSE_PARTS_PREFIX,
    }
    mib = {name: sum(info.size_bytes for info in world.objects.list(of)) / MIB for name, of in prefixes.items()}
    rows = sum(piece.rows for pieces in world.cause_index.days.values() for piece in pieces)
    lake_rows = sum(info.rows for hour in range(given.hours + 1) for info in world.files(HOUR - hour * HOUR_S))
    percent = 100 * mib["days"] / mib["lake"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"lake: {lake_rows:,} rows, {mib['lake']:.2f} MiB; causes: {rows:,} rows, {mib['days']:.2f} MiB")
    print(f"days of causes: {percent:.1f} % of the lake (at most {_TARGET_PERCENT})")
    print(f"{mib['days'] * MIB / rows:.1f} bytes a row of causes")
    print(f"names {mib['names']:.2f} MiB; parts, for 15 days, {mib['parts']:.2f} MiB")
    print(f"keeper: {spent:.2f} s of CPU for {files} lake files, {1e6 * spent / lake_rows:.0f} µs a lake row")
    print(f"peak of the whole process: {peak:.0f} MiB")
    return int(percent > _TARGET_PERCENT)


if __name__ == "__main__":
    sys.exit(main())
