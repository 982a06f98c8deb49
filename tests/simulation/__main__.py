"""`python -m tests.simulation --seeds 20000 --jobs 2`: random histories with faults; exit 1 on any violation."""

from __future__ import annotations

import os
import sys

from tests.simulation.runs import main

if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # A seed determines the history only if sets of strings are always iterated in the same order.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606 - ourselves
    sys.exit(main())
