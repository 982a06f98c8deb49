"""The gate: runs each part by its make target, prints what it took, and fails if one fails or takes too long.

Parts go on after a failure, so that one run names everything that is broken.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Share of each part in minutes: what a 2-core machine should need. The sum is the gate's promise of 15 minutes.
PARTS: dict[str, tuple[str, float]] = {
    "lint and types": ("lint", 1),
    "unit to template tests": ("test", 2),
    "proof": ("proof", 4),
    "e2e MiniStack": ("e2e", 3),
    "e2e LocalStack": ("localstack", 2),
    "regions": ("regions", 2),
}
LIMIT_MIN = 15.0


def main() -> int:
    """Run all parts; 0 only if each passed and the whole stayed under the limit."""
    took: dict[str, float] = {}
    failed: list[str] = []
    for name, (target, _) in PARTS.items():
        print(f"== {name}: make {target}", flush=True)
        began = time.monotonic()
        done = subprocess.run(["make", "--no-print-directory", target], cwd=ROOT, check=False)  # noqa: S603, S607
        took[name] = (time.monotonic() - began) / 60
        if done.returncode != 0:
            failed.append(name)
    total = sum(took.values())
    print("\npart                      minutes   share")
    for name, minutes in took.items():
        print(f"{name:<25} {minutes:7.1f}  {PARTS[name][1]:6.1f}{'   FAILED' if name in failed else ''}")
    print(f"{'whole gate':<25} {total:7.1f}  {LIMIT_MIN:6.1f}")
    if total > LIMIT_MIN:
        print(f"the gate took {total:.1f} minutes, more than {LIMIT_MIN:.0f}", file=sys.stderr)
        failed.append("time")
    print(f"{len(PARTS) - len([f for f in failed if f != 'time'])} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
