"""Charges: rated lines with what an invoice and an export say beside them."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.usage.locations import is_region
from metering.usage.usage_types import CLOUDFRONT_SERVICE, billing_prefixes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.organization.payers import Payer
    from metering.billing.rating.lines import RatedLine
    from metering.billing.usage.ports import UsageLine

GLOBAL_REGION = "global"
"""Region of usage that is in none, such as that of an edge of CloudFront."""
_REGION_NAME = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+(?=-)")
# Usage types of the region whose prefix AWS leaves out.
_BARE = ("DataTransfer-", "C3DataTransfer-", "CloudFront-", "Unclassified-")
_BARE_REGION = "us-east-1"
# Producers may name usage types of their own, any number of them.
_REMEMBERED = 4_096


class Charge(NamedTuple):
    """One rated line of an invoice, a draft or a credit note, with what it belongs to.

    Attributes:
        payer: Who pays it.
        rated: The line. Of a credit note: what was billed with its bytes negative, and what should have been.
        invoice_id: Document that bills it; drafts have the number that they will get.
        region: Region of the line, as `region_of` gives it: a charge and its invoice line have the same.
        billing_month: Month that books it, `2026-11`. Of a correction or a credit note it is later than the month of
            its hour.
        corrects: The line corrects a month that was closed: FOCUS's ChargeClass is `Correction`.
        credit_of: Id of the invoice that a credit note corrects; empty for an invoice.
    """

    payer: Payer
    rated: RatedLine
    invoice_id: str
    region: str
    billing_month: str
    corrects: bool
    credit_of: str = ""


def region_of(line: UsageLine) -> str:
    """The region that a line is billed in, by its usage type; by its locations if that names none."""
    if line.service != CLOUDFRONT_SERVICE:
        named = _named_region(line.usage_type)
        if named:
            return named
    sides = (location.partition("/")[0] for location in (line.from_location, line.to_location))
    return next(filter(is_region, sides), GLOBAL_REGION)


@lru_cache(maxsize=_REMEMBERED)
def _named_region(usage_type: str) -> str:
    prefixed = _regions().get(usage_type.partition("-")[0])
    if prefixed:
        return prefixed
    # The name of a region without a known prefix stands in for it.
    spelled = _REGION_NAME.match(usage_type)
    if spelled:
        return spelled.group()
    return _BARE_REGION if usage_type.startswith(_BARE) else ""


@cache
def _regions() -> Mapping[str, str]:
    return {prefix: region for region, prefix in billing_prefixes().items()}
