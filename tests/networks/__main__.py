"""The long exam: `python -m tests.networks`: exit 1 if a single byte of any network is classified wrongly.

Tests cover every format, contexts that lack one or two pieces, version 11 without any two fields, and several seeds;
then one large network with real files, ingested twice and compared with its true usage.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import combinations

from metering.onramps.context.store import Timeline
from tests.networks.exam import (
    ATTRIBUTES,
    LISTS,
    Marks,
    context_timeline,
    exam,
    lacking_one,
    layers,
    reference_plan,
    without,
)
from tests.networks.world import NetworkWorld, differences, shadowed_of, tally_of
from tests.support.networks.files import replica
from tests.support.networks.traffic import Network

_STYLES = ("v11", "v5", "v4", "v3", "v2")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.networks", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of the large network")
    options = parser.parse_args()
    wrong = 0
    began = time.monotonic()
    for seed in range(1, options.seeds + 1):
        for style in _STYLES:
            for name, marks in _asked(style, seed):
                wrong += _tell(f"seed {seed}, {style}, {name}", marks)
    for style in ("mixed", "v11", "v5"):
        wrong += _metered(style, options.lines)
    _say(f"{wrong} wrong, {time.monotonic() - began:.0f} s")
    return int(wrong > 0)


def _asked(style: str, seed: int) -> Iterator[tuple[str, Marks]]:
    asked = exam(style, lines=12_000, variety=8, seed=seed)
    for name, timeline in layers(asked.description):
        yield name, asked.marks(timeline)
    for names in combinations(LISTS, 2):
        yield f"without {' and '.join(names)}", asked.marks(context_timeline(without(asked.description, *names)))
    for name, timeline in lacking_one(asked):
        yield name, asked.marks(timeline)
    if style != "v11":
        return
    known = context_timeline(asked.description)
    for fields in combinations(ATTRIBUTES, 2):
        less = asked.forgetting(*fields)
        yield f"without {' and '.join(fields)}", less.marks(known)
        yield f"without {' and '.join(fields)}, nothing known", less.marks(Timeline())


def _tell(name: str, marks: Marks) -> int:
    _say(f"{name:<80} {marks.share:6.2f} % unclassified")
    if marks.faults:
        _say(marks.told())
    return len(marks.faults)


def _metered(style: str, lines: int) -> int:
    """A large reference network, with a copy of each file."""
    network, world = Network(reference_plan(style, lines=lines, variety=200)), NetworkWorld()
    world.know_all(network)
    for file in network.files():
        for each in (file, replica(file)):
            world.take_all(world.put([each]))
        world.work()
    found = differences(network, world.rows())
    found += [] if tally_of(world.plans())[0] == network.truth.tally.lines else ["lines of balances"]
    found += [] if shadowed_of(world.plans()) == network.truth.shadowed else ["what is shadowed"]
    found += [] if world.verified() else ["markers, usage and lake"]
    _say(f"{style}, {lines:,} lines with a copy of each file: {len(found)} differences")
    _say("\n".join(found[:10]))
    return len(found)


def _say(text: str) -> None:
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
