"""Checks the product's exports with third-party validators: `make validate-exports`, ROWS=1000.

The official validator of FOCUS 1.2 must fail exactly one known rule, and focus-data-toolkit must find nothing in the
three files of FOCUS 1.4. Every deliberately wrong export must be detected. The validation runs offline, in a separate
environment. If its environment cannot be created, the validation is skipped, or fails if `CI` is set.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.exports.make import made
from tests.tools import EXPORT_VALIDATORS, Tool, why_not
from tests.validators.mutants import WRONG_BUNDLES, WRONG_CAUSES, WRONG_COSTS
from tests.validators.tie_out import missing_line, real_bill, total, written
from tests.validators.verdicts import MODEL, bundle, official

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.validators.mutants import WrongBundle, WrongCosts
    from tests.validators.verdicts import Bundle

# Both arms of an OR are counted, so every file fails one arm: this one if all rows have an InvoiceId.
KNOWN = frozenset({"InvoiceId-C-004-C"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Result of one check: its name, whether the result is as expected, and the findings."""

    name: str
    right: bool
    found: str


def checks(folder: Path) -> list[Callable[[], Judged]]:
    """All checks of the exports in a folder; the checks can run independently."""
    costs, files = folder / "focus-1.2" / "CostAndUsage-00000.parquet", folder / "focus-1.4"
    causes = folder / "focus-1.4-causes"
    wrong = folder / "wrong"
    wrong.mkdir()
    return [
        partial(focus_1_2, costs),
        partial(focus_1_4, files),
        partial(focus_1_4, causes, "FOCUS 1.4, charges split by causes"),
        *(partial(wrong_costs, each, costs, wrong) for each in WRONG_COSTS),
        *(partial(wrong_bundle, each, files, wrong) for each in WRONG_BUNDLES),
        *(partial(wrong_bundle, each, causes, wrong) for each in WRONG_CAUSES),
        line_missing,
    ]


def focus_1_2(costs: Path) -> Judged:
    """Check that the official validator finds only one failed rule, the rule that every file fails."""
    found = official(costs)
    said = f"{found.passed} rules pass, {found.skipped} are skipped, failed: {_names(found.failed)}"
    return Judged(name=f"FOCUS 1.2, official model {MODEL}", right=found.failed == KNOWN, found=said)


def focus_1_4(files: Path, name: str = "FOCUS 1.4, three datasets") -> Judged:
    """Check that focus-data-toolkit finds nothing in our files."""
    found = _bundle(files)
    codes = ", ".join(f"{name} exit {code}" for name, code in found.codes.items())
    complaints = "; ".join(found.found[:5])
    said = f"{codes}, reconciled; {complaints or 'nothing found'}"
    return Judged(name=name, right=found.is_valid, found=said)


def wrong_costs(mutant: WrongCosts, costs: Path, folder: Path) -> Judged:
    """Check that for a mutant the official validator fails the mutant's rule, which our file passes."""
    more = official(mutant.write(costs, folder)).failed - KNOWN
    right = any(rule.startswith(mutant.rule) for rule in more)
    return Judged(name=f"wrong: {mutant.name}", right=right, found=_names(more))


def wrong_bundle(mutant: WrongBundle, files: Path, folder: Path) -> Judged:
    """Check that the toolkit reports the mutant's complaint."""
    found = _bundle(mutant.write(files, folder))
    said = [line for line in found.found if mutant.complaint in line]
    return Judged(name=f"wrong: {mutant.name}", right=bool(said), found=(said or ["nothing"])[0][:90])


def line_missing() -> Judged:
    """Check that our tie-out detects that a line is missing from a small export, and accepts the complete export."""
    found, tolerated = missing_line()
    right = bool(found) and tolerated and not written(real_bill())
    said = f"{found[:90] or 'nothing'}…; FOCUS's tolerance {'accepts it' if tolerated else 'finds it as well'}"
    return Judged(name=f"wrong: a line less, of {total()[:4]} USD", right=right, found=said)


def _bundle(files: Path) -> Bundle:
    return bundle(*(files / f"{name}.csv" for name in ("CostAndUsage", "InvoiceDetail", "BillingPeriod")))


def _names(rules: frozenset[str]) -> str:
    return ", ".join(sorted(rules)[:4]) + (f" and {len(rules) - 4} more" if len(rules) > 4 else "")


def run(rows: int) -> int:
    """Make exports and check them; return 0 only if all results are as expected."""
    with TemporaryDirectory(prefix="metering-validators-") as temporary:
        folder, began = Path(temporary), time.monotonic()
        made(folder, rows=rows)
        print(f"{rows:,} rows of each export in {time.monotonic() - began:.1f} s", flush=True)
        # Each check runs in its own process.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            code = report(pool.map(lambda check: check(), checks(folder)))
        print(f"{time.monotonic() - began:.0f} s")
    return code


def report(judged: Iterable[Judged]) -> int:
    """Print the result of each check; returns 0 only if all results are as expected."""
    rights = []
    for each in judged:
        print(f"{'ok   ' if each.right else 'WRONG'} {each.name}: {each.found}", flush=True)
        rights.append(each.right)
    print(f"{rights.count(True)} as they must be, {rights.count(False)} wrong")
    return int(not all(rights) or not rights)


def main(
    arguments: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    *,
    why: Callable[[Tool], str] = why_not,
) -> int:
    """Check exports of `--rows` rows, or print why the checks cannot run."""
    parser = argparse.ArgumentParser(prog="python -m tests.validators", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000)
    rows: int = parser.parse_args(arguments).rows
    if reason := why(EXPORT_VALIDATORS):
        print(f"skipped: {reason}")
        return int(bool(environ.get("CI")))
    return run(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
