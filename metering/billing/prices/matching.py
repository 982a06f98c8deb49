"""Which product usage is: found by service and usage type, exactly.

A part of a usage type says nothing: `DataTransfer-Out-Bytes` of us-east-1 ends that of every other region. Descriptions
of AWS's price list are never read: they are for people, and some name another region than the product is of.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from metering.usage.usage_types import billing_prefixes

if TYPE_CHECKING:
    from metering.billing.prices.book import NotSold, PriceBook, Product
    from metering.billing.usage.ports import Sold

# A region that had no billing prefix when it was metered stands in its usage types by its name.
_REGION_NAME = r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+"


def find(book: PriceBook, sold: Sold) -> Product | NotSold | None:
    """What a book says of usage.

    Returns:
        The product; the rule by which it is not sold here; or None: it is unpriced.
    """
    for product in book.by_usage_type.get(sold.usage_type, ()):
        if product.services.takes(sold.service):
            return product
    traffic = traffic_of(sold.usage_type)
    return next((rule for rule in book.not_sold if re.fullmatch(rule.pattern, traffic)), None)


def traffic_of(usage_type: str) -> str:
    """A usage type without the billing prefix of its region: `EUW2-CloudFront-In-Bytes` becomes `CloudFront-In-Bytes`.

    Usage types of us-east-1 have no prefix.
    """
    found = _prefix().match(usage_type)
    return usage_type[found.end() :] if found is not None else usage_type


@cache
def _prefix() -> re.Pattern[str]:
    names = "|".join(sorted(map(re.escape, billing_prefixes().values()), key=len, reverse=True))
    return re.compile(f"(?:{names}|{_REGION_NAME})-")
