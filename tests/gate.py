"""The gate: runs each part by its make target, prints what each took, and fails if one fails or all take far too long.

Parts go on after a failure, so that one run names everything that is broken.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Share of each part in minutes: what a 2-core machine needs that does nothing else, with room to spare.
_MAKE = ["make", "--no-print-directory"]
PARTS: dict[str, tuple[list[str], float]] = {
    "lint and types": ([*_MAKE, "lint"], 1),
    "unit to template tests": ([*_MAKE, "test"], 2),
    "proof": ([*_MAKE, "proof"], 4),
    "e2e MiniStack": ([*_MAKE, "e2e"], 3),
    "e2e LocalStack": ([*_MAKE, "localstack"], 2),
    "regions": ([*_MAKE, "regions"], 2),
}
PROMISE_MIN = 15.0
# Machines are shared: a gate that takes longer than promised says so, one that takes twice as long is red.
LIMIT_MIN = 2 * PROMISE_MIN


def run(parts: dict[str, tuple[list[str], float]], *, limit_min: float) -> int:
    """Run all parts, print what each took; 0 only if each passed and the whole stayed under the limit."""
    took: dict[str, float] = {}
    failed: list[str] = []
    for name, (command, _) in parts.items():
        print(f"== {name}: {' '.join(command)}", flush=True)
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, check=False)
        took[name] = (time.monotonic() - began) / 60
        if done.returncode != 0:
            failed.append(name)
    total = sum(took.values())
    print("\npart                      minutes   share")
    for name, minutes in took.items():
        print(f"{name:<25} {minutes:7.1f}  {parts[name][1]:6.1f}{'   FAILED' if name in failed else ''}")
    print(f"{'whole gate':<25} {total:7.1f}  {PROMISE_MIN:6.1f}")
    late = total > limit_min
    if total > min(limit_min, PROMISE_MIN):
        print(f"the gate took {total:.1f} minutes, {PROMISE_MIN:.0f} are promised", file=sys.stderr)
    print(f"{len(parts) - len(failed)} passed, {len(failed) + late} failed")
    return 1 if failed or late else 0


if __name__ == "__main__":
    sys.exit(run(PARTS, limit_min=LIMIT_MIN))
