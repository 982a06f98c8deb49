"""Seeded bugs of money beside AWS's bill: missing prices, doubles of exports, and the comparison with a bill."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_EXPORTS = ("tests/unit/reports/exports",)
_ISSUING = ("tests/unit/billing/invoices/test_issuing.py",)
_OFFERS = ("tests/unit/billing/prices/test_offer_files.py",)
_COMPARE = ("tests/unit/onramps/compare", "tests/unit/cli/test_compare.py")

FINANCE = (
    Mutant(
        name="doubles of a CUR are Arrow's cast of a decimal",
        path="metering/reports/exports/batches.py",
        old="    return as_money(units).cast(pa.string()).cast(pa.float64())",
        new="    return as_money(units).cast(pa.float64())",
        suites=_EXPORTS,
    ),
    Mutant(
        name="doubles beyond 2^53 are divided",
        path="metering/reports/exports/batches.py",
        old="    if _small(units, _MOST_IN_DOUBLE):",
        new="    if _small(units, 2**62):",
        suites=_EXPORTS,
    ),
    Mutant(
        name="peering on a bill is no data transfer",
        path="metering/onramps/bill_lines.py",
        old="|VpcPeering-{_WAYS}|TransitGateway",
        new="|TransitGateway",
        suites=_COMPARE,
    ),
    Mutant(
        name="processing that an account meters stands apart from its bill",
        path="metering/onramps/bill.py",
        old='        why = "" if key[:2] in known else why_billed_only(key.usage_type)',
        new="        why = why_billed_only(key.usage_type)",
        suites=_COMPARE,
    ),
    Mutant(
        name="a side that only the bill has stands apart whatever it is",
        path="metering/onramps/bill_lines.py",
        old='    return next((why for pattern, why in _BILLED_ONLY if pattern.fullmatch(usage_type)), "")',
        new='    return next((why for _, why in _BILLED_ONLY if is_transfer(usage_type)), "")',
        suites=_COMPARE,
    ),
    Mutant(
        name="a payer without a price keeps all others from their invoices",
        path="metering/billing/invoices/issuing.py",
        old="        if blocked and all(payer_id in blocked for payer_id in self._payers(asked, shared)):",
        new="        if blocked:",
        suites=_ISSUING,
    ),
    Mutant(
        name="a payer whose usage has no price gets an invoice without it",
        path="metering/billing/invoices/issuing.py",
        old="            if made is not None and made.unpriced:",
        new="            if made is not None and made.unpriced and not made.all_lines:",
        suites=_ISSUING,
    ),
    Mutant(
        name="a repriced book is slipped into a month that was invoiced",
        path="metering/billing/invoices/planning.py",
        old="    if changed_s is not None and changed_s < month_bounds_s(month)[1]:",
        new="    if changed_s is not None and changed_s < 0:",
        suites=_ISSUING,
    ),
    Mutant(
        name="a book that lost a product is slipped into a month that was invoiced",
        path="metering/billing/invoices/planning.py",
        old="    if not before.by_sku.keys() <= after.by_sku.keys() or ",
        new="    if ",
        suites=_ISSUING,
    ),
    Mutant(
        name="a file of transfer takes gateways and endpoints of its region away",
        path="metering/billing/prices/offers.py",
        old='    return (product.transfer if is_beside(product) else ""), ("" if prefix == "USE1-" else prefix)',
        new='    return "", ("" if prefix == "USE1-" else prefix)',
        suites=_OFFERS,
    ),
    Mutant(
        name="a gateway's peering attachment, which is free, gives the price of all",
        path="metering/billing/prices/offers.py",
        old="        priced = [sku for sku in of_one if not _is_free(offer, sku)]",
        new="        priced = of_one[1:]",
        suites=_OFFERS,
    ),
    Mutant(
        name="a bill's prefix of us-east-1 makes a usage type of its own",
        path="metering/usage/usage_types.py",
        old="    return bare if bare in TRAFFIC else usage_type",
        new="    return usage_type",
        suites=(*_OFFERS, *_COMPARE),
    ),
    Mutant(
        name="late usage comes last over all products of an allowance by time",
        path="metering/billing/rating/corrections.py",
        old="    given = given_to(prices, old.month, sales, in_time)",
        new="    alone = {sku: stretches_of(prices, old, each) for sku, each in old_sales.items()}\n"
        "    given = given_to(prices, old.month, sales, in_time | alone)",
        suites=("tests/unit/billing/rating/test_corrections.py",),
    ),
)
