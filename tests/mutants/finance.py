"""Seeded bugs of money beside AWS's bill: missing prices, doubles of exports, and the comparison with a bill."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_EXPORTS = ("tests/unit/reports/exports",)
_COMPARE = ("tests/unit/onramps/compare", "tests/unit/cli/test_compare.py")

FINANCE = (
    Mutant(
        name="doubles of a CUR are Arrow's cast of a decimal",
        path="metering/reports/exports/amounts.py",
        old="    return as_money(units).cast(pa.string()).cast(pa.float64())",
        new="    return as_money(units).cast(pa.float64())",
        suites=_EXPORTS,
    ),
    Mutant(
        name="doubles beyond 2^53 are divided",
        path="metering/reports/exports/amounts.py",
        old="    if _small(units, _MOST_IN_DOUBLE):",
        new="    if _small(units, 2**62):",
        suites=_EXPORTS,
    ),
    Mutant(
        name="peering on a bill is no data transfer",
        path="metering/onramps/compare/usage_types.py",
        old="|VpcPeering-{_WAYS}|TransitGateway",
        new="|TransitGateway",
        suites=_COMPARE,
    ),
    Mutant(
        name="processing that an account meters stands apart from its bill",
        path="metering/onramps/compare/comparison.py",
        old='        why = "" if key[:2] in known else why_billed_only(key.usage_type)',
        new="        why = why_billed_only(key.usage_type)",
        suites=_COMPARE,
    ),
    Mutant(
        name="a side that only the bill has stands apart whatever it is",
        path="metering/onramps/compare/usage_types.py",
        old='    return next((why for pattern, why in _BILLED_ONLY if pattern.fullmatch(usage_type)), "")',
        new='    return next((why for _, why in _BILLED_ONLY if is_transfer(usage_type)), "")',
        suites=_COMPARE,
    ),
)
