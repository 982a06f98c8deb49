"""The gate: runs each part of a plan as a make target; fails if a part fails or takes three times its share.

    python -m tests.gate check

If a part fails, the later parts still run, so that one run reports every failure. A share is the time that a part takes
on two otherwise idle cores, with a margin: only a part that has become slow takes three times as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The parts of a plan, and their time limits.

    Attributes:
        shares_s: Seconds of each part by its make target, in the order of execution.
        reserve_s: Seconds reserved for future parts, by name. The share of a new part is taken from this reserve.
        promise_s: Maximum of the sum of all shares and reserves.
    """

    shares_s: Mapping[str, int]
    reserve_s: Mapping[str, int] = field(default_factory=dict)
    promise_s: int

    def problems(self) -> list[str]:
        """Reasons why the plan is infeasible; empty if it is feasible."""
        whole_s = sum(self.shares_s.values()) + sum(self.reserve_s.values())
        over = [f"shares and reserve add up to {_minutes(whole_s)} minutes, {_minutes(self.promise_s)} are promised"]
        empty = [f"{name} has no share" for name, share_s in self.shares_s.items() if share_s <= 0]
        twice = [f"{name} is a part and still in the reserve" for name in self.reserve_s if name in self.shares_s]
        return [*(over if whole_s > self.promise_s else []), *empty, *twice]


PLANS: dict[str, Plan] = {
    # Every change.
    "check": Plan(
        shares_s={
            "lint": 70,
            "test": 285,
            "proof": 145,
            "e2e": 190,
            # Includes the days of causes, and the savings.
            "networks": 45,
            "validate-exports": 17,
            "api-fuzz": 15,
            # Two syntheses of production.
            "organisations": 25,
            # Includes installing the browser on a new machine, which takes half a minute.
            "browser": 48,
            "scale-small": 45,
        },
        reserve_s={"what comes next": 15},
        # A Python 3.11 that was built without optimizations takes twice as long for `test` as the fastest.
        promise_s=900,
    ),
    # Long tests that rarely fail: run before a release, and before a larger change is completed.
    "check-long": Plan(
        shares_s={
            "pythons": 480,
            "mutants": 3_000,
            "matrix": 300,
            # A restore waits four minutes for the functions of before, and the drill restores twice.
            "drills": 2_400,
            "long": 90,
            "browser-fronts": 180,
            "localstack": 120,
            # Includes installing LocalStack and the AWS CLI, and the test of LocalStack's page.
            "localstack-rest": 500,
            "fuzz": 300,
            "networks-long": 120,
            # Includes installing Spark on a new machine, which takes a minute.
            "engines": 150,
            # Includes installing cfn-lint and checkov, half a minute.
            "lint-templates": 90,
            # A week's traffic, and 15 commands.
            "hour": 150,
            "simulate": 360,
            "soak": 660,
            # Counts, 100,000 batches at full speed, and three minutes at the target's rate.
            "load": 1_080,
            "race": 600,
            "scale": 1_200,
            "bench": 660,
        },
        promise_s=208 * 60,
    ),
}
# A part fails if it takes this multiple of its share; below that, the excess is only reported. Two machines of one kind
# differ by a factor of two: `test` of the same revision took 273 s on one and 582 s on the other.
TOO_LATE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of a part."""

    name: str
    share_s: int
    took_s: float
    code: int

    @property
    def red(self) -> bool:
        """Whether this outcome of a part makes the plan fail."""
        return self.code != 0 or self.took_s >= TOO_LATE * self.share_s

    @property
    def verdict(self) -> str:
        """The problem of a part as text; empty if the part passed within its share."""
        failed = f"FAILED with exit {self.code}" if self.code else ""
        late = (
            f"TOO LATE: took {TOO_LATE} times its share" if self.took_s >= TOO_LATE * self.share_s else "over its share"
        )
        return ", ".join(filter(None, (failed, late if self.took_s > self.share_s else "")))


def make(target: str) -> list[str]:
    """The command that runs a part."""
    return ["make", "--no-print-directory", target]


def run(
    plan: Plan, *, command_of: Callable[[str], Sequence[str]] = make, clock: Callable[[], float] = time.monotonic
) -> int:
    """Run all parts and print their times; returns 0 only if the plan is feasible and every part passed in time."""
    if problems := plan.problems():
        print("\n".join(problems), file=sys.stderr)
        return 1
    outcomes: list[Outcome] = []
    for name, share_s in plan.shares_s.items():
        command = command_of(name)
        print(f"== {name}: {' '.join(command)}", flush=True)
        began_s = clock()
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        outcomes.append(Outcome(name=name, share_s=share_s, took_s=clock() - began_s, code=code))
    _tell(plan, outcomes)
    return int(any(outcome.red for outcome in outcomes))


def _tell(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    print("\npart              minutes   share")
    for outcome in outcomes:
        print(_line(outcome.name, outcome.took_s, outcome.share_s, outcome.verdict))
    kept = ", ".join(f"{name} {_minutes(share_s)}" for name, share_s in plan.reserve_s.items())
    print(_line("all parts", sum(one.took_s for one in outcomes), sum(plan.shares_s.values())))
    print(f"promised: {_minutes(plan.promise_s)}; in reserve: {kept or 'nothing'}")
    if any(outcome.took_s > outcome.share_s for outcome in outcomes):
        print(f"shares are for two idle cores; here are {os.cpu_count()}, and the load is {os.getloadavg()[0]:.1f}")
    red = sum(outcome.red for outcome in outcomes)
    print(f"{len(outcomes) - red} passed, {red} failed")


def _line(name: str, took_s: float, share_s: int, verdict: str = "") -> str:
    return f"{name:<16} {_minutes(took_s):>8} {_minutes(share_s):>7}  {verdict}".rstrip()


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}"


def main(arguments: Sequence[str]) -> int:
    """Run the named plan; returns 2 if no plan has that name."""
    if len(arguments) != 1 or arguments[0] not in PLANS:
        print(f"usage: python -m tests.gate {{{','.join(PLANS)}}}", file=sys.stderr)
        return 2
    return run(PLANS[arguments[0]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
