"""Prints a recorded answer as its command does, in a separate process: `python -m tests.cli.shown NAME [--wide]`."""

from __future__ import annotations

import sys

from metering.cli.printing.output import write_answer
from tests.cli.recorded import load

if __name__ == "__main__":
    recorded = load(sys.argv[1])
    write_answer(recorded.answer, None, None, chart=recorded.chart, wide="--wide" in sys.argv)
