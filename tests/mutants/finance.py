"""Seeded bugs in money code other than rating: missing prices, duplicates of exports, and comparison with a bill."""

from __future__ import annotations

from tests.mutants.mutant import seeded

_EXPORTS = ("tests/unit/reports/exports",)
_ISSUING = ("tests/unit/billing/invoices/test_issuing.py",)
_OFFERS = ("tests/unit/billing/prices/test_offer_files.py",)
_COMPARE = ("tests/unit/onramps/test_compare.py", "tests/unit/cli/test_compare.py")

FINANCE = (
    *seeded("metering/reports/exports/batches.py", _EXPORTS,
        ("doubles of a CUR are Arrow's cast of a decimal",
         "    return as_money(units).cast(pa.string()).cast(pa.float64())",
         "    return as_money(units).cast(pa.float64())"),
        ("doubles beyond 2^53 are divided", "    if _small(units, _MOST_IN_DOUBLE):", "    if _small(units, 2**62):"),
    ),
    *seeded("metering/onramps/bill_lines.py", _COMPARE,
        ("peering on a bill is no data transfer", "|VpcPeering-{_WAYS}|TransitGateway", "|TransitGateway"),
        ("a side that only the bill has stands apart whatever it is",
         '    return next((why for pattern, why in _BILLED_ONLY if pattern.fullmatch(usage_type)), "")',
         '    return next((why for _, why in _BILLED_ONLY if is_transfer(usage_type)), "")'),
    ),
    *seeded("metering/onramps/bill.py", _COMPARE,
        ("processing that an account meters stands apart from its bill",
         '        why = "" if key[:2] in known else why_billed_only(key.usage_type)',
         "        why = why_billed_only(key.usage_type)"),
    ),
    *seeded("metering/billing/invoices/issuing.py", _ISSUING,
        ("a payer without a price keeps all others from their invoices",
         "        if blocked and all(payer_id in blocked for payer_id in self._payers(asked, shared)):",
         "        if blocked:"),
        ("a payer whose usage has no price gets an invoice without it",
         "            if made is not None and made.unpriced:",
         "            if made is not None and made.unpriced and not made.all_lines:"),
    ),
    *seeded("metering/billing/invoices/planning.py", _ISSUING,
        ("a repriced book is slipped into a month that was invoiced",
         "    if changed_s is not None and changed_s < month_bounds_s(month)[1]:",
         "    if changed_s is not None and changed_s < 0:"),
        ("a book that lost a product is slipped into a month that was invoiced",
         "    if not before.by_sku.keys() <= after.by_sku.keys() or ", "    if "),
    ),
    *seeded("metering/billing/prices/offers.py", _OFFERS,
        ("a file of transfer takes gateways and endpoints of its region away",
         '    return (product.transfer if is_beside(product) else ""), ("" if prefix == "USE1-" else prefix)',
         '    return "", ("" if prefix == "USE1-" else prefix)'),
        ("a gateway's peering attachment, which is free, gives the price of all",
         "        priced = [sku for sku in of_one if not _is_free(offer, sku)]", "        priced = of_one[1:]"),
    ),
    *seeded("metering/usage/usage_types.py", (*_OFFERS, *_COMPARE),
        ("a bill's prefix of us-east-1 makes a usage type of its own",
         "    return bare if bare in TRAFFIC else usage_type", "    return usage_type"),
    ),
    *seeded("metering/billing/rating/corrections.py", ("tests/unit/billing/rating/test_positions.py",),
        ("late usage comes last over all products of an allowance by time",
         "    given = given_to(prices, old.month, sales, in_time)",
         "    alone = {sku: stretches_of(prices, old, each) for sku, each in old_sales.items()}\n"
        "    given = given_to(prices, old.month, sales, in_time | alone)"),
    ),
)  # fmt: skip
