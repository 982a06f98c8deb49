"""Fuzzes the API by its OpenAPI document: expects no issue with any role's token, and one issue for each seeded fault.

    python -m tests.api_fuzz                                     in process, over a region in memory
    python -m tests.api_fuzz --url http://127.0.0.1:8080 --token mtr_...     an API that runs somewhere

Seed and examples are fixed, so each run sends the same requests. `--examples 1000` sends many more requests.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.api_fuzz.faults import FAULTS
from tests.api_fuzz.fuzzing import TOKENS, Outcome, faulty, fuzzed

EXAMPLES = 12


def main(arguments: list[str] | None = None) -> int:
    """Do all runs, print a line for each, and return 0 if all outcomes are as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.api_fuzz", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="random requests of each operation")
    parser.add_argument("--url", default="", help="an API that runs; without it, one in memory")
    parser.add_argument("--token", default="", help="token for --url")
    given = parser.parse_args(arguments)
    if given.url:
        return told([fuzzed(given.token, given.examples, given.url)])
    # Each process does its own imports, because forking a process with threads may hang.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(fuzzed, token, given.examples) for token in TOKENS]
        runs += [pool.submit(faulty, number) for number in range(len(FAULTS))]
        return told([each.result() for each in runs])


def told(outcomes: list[Outcome]) -> int:
    for each in outcomes:
        print(f"{'ok ' if each.good else 'RED'} {each.name}: {each.told}")
    return 0 if all(each.good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
