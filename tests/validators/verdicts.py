"""Runs the validators on files, and reads their findings instead of trusting exit codes.

focus-validator always exits with 0, and focus-data-toolkit's command omits one of the toolkit's checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.tools import EXPORT_VALIDATORS

_OFFLINE = Path(__file__).with_name("offline.py")
# The rule model that is part of focus-validator 2.2.1; newer models are downloaded, and this run is offline.
MODEL = "1.2.0.1"
# Features that the product claims to support (docs/billing.md): no commitments, no capacity reservations, one currency.
CRITERIA = (
    "ACCOUNT_NAMING_SUPPORTED", "AVAILABILITY_ZONE_SUPPORTED", "MULTIPLE_PRICING_CATEGORIES_SUPPORTED",
    "MULTIPLE_SUB_ACCOUNT_TYPES_SUPPORTED", "MULTIPLE_BILLING_ACCOUNT_TYPES_SUPPORTED", "NEGOTIATED_PRICING_SUPPORTED",
    "PUBLIC_PRICE_LIST_SUPPORTED", "USAGE_MEASUREMENT_SUPPORTED", "UNIT_PRICING_SUPPORTED", "SUB_ACCOUNT_SUPPORTED",
    "BILLING_BASED_ON_PROVISIONED_RESOURCES_SUPPORTED", "RESOURCE_TYPE_ASSIGNMENT_SUPPORTED", "REGION_SUPPORTED",
    "TAGGING_SUPPORTED",
)  # fmt: skip
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """focus-validator's findings on a file of costs.

    Attributes:
        rules: Rules that it has.
        skipped: Number of skipped rules.
        failed: Ids of the failed rules, such as `InvoiceId-C-004-C`, without the kind that follows in the report.
    """

    rules: int
    skipped: int
    failed: frozenset[str]

    @property
    def passed(self) -> int:
        """Rules that hold."""
        return self.rules - self.skipped - len(self.failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """focus-data-toolkit's findings on the three files of FOCUS 1.4; `found` has one line per complaint."""

    codes: dict[str, int]
    found: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether each command exited with 0, and no check found anything."""
        return not any(self.codes.values()) and not self.found


def official(costs: Path, *, criteria: tuple[str, ...] = CRITERIA) -> Official:
    """Validate a Parquet file of FOCUS 1.2.

    Raises:
        RuntimeError: The validator did not complete.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        said = ["--data-file", str(costs.resolve()), "--validate-version", MODEL, "--focus-dataset", "CostAndUsage"]
        form = ["--block-download", "--output-type", "unittest", "--output-destination", str(report)]
        _run("official", *said, *form, "--applicability-criteria", ",".join(criteria))
        return read_report(report.read_text(encoding="utf-8"))


def read_report(text: str) -> Official:
    """Parse the report of focus-validator (JUnit); a rule that raised an error counts as failed."""
    cases = list(ET.fromstring(text).iter("testcase"))  # noqa: S314  # the validator's own file
    failed = {_rule(case) for case in cases if case.find("failure") is not None or case.find("error") is not None}
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Official(rules=len({_rule(case) for case in cases}), skipped=skipped, failed=frozenset(failed))


def _rule(case: ET.Element) -> str:
    return case.attrib["name"].partition(" :: ")[0]


def bundle(costs: Path, invoices: Path, periods: Path) -> Bundle:
    """Validate the files of FOCUS 1.4: costs, invoice details and billing periods.

    Raises:
        RuntimeError: The validator did not complete.
    """
    answer = json.loads(_run("bundle", *(str(path.resolve()) for path in (costs, invoices, periods))))
    said = [line.strip() for line in answer["said"].splitlines() if "FDT-" in line or ": " in line]
    complaints = [line for line in said if any(answer["codes"].values()) and "OK" not in line]
    return Bundle(codes=answer["codes"], found=(*complaints, *answer["reconciled"]))


def _run(*words: str) -> str:
    folder = EXPORT_VALIDATORS.folder()
    # The validator opens one of its tables by a path relative to this folder.
    packages = next(folder.glob("lib/python3.*/site-packages"))
    command = [str(folder / "bin" / "python"), str(_OFFLINE), *words]
    environ = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=packages, env=environ, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} validator ended with {done.returncode}: {done.stderr[-2_000:]}")
    return done.stdout
