"""A line is missing from a small export: FOCUS's own tolerance accepts the export, and our tie-out does not.

The export has the 338 real lines at AWS's rate codes: 0.35 USD in all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from metering.adapters.folders import FolderLogStore
from metering.billing.money import UNITS_A_USD, usd_text
from metering.billing.prices.store import sample_book
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.billing.usage.months import UsageLine
from metering.replay.given import billed_lines
from metering.reports.exports.destination import Destination
from metering.reports.exports.exporting import ExportSource, ExportWrongError, export
from metering.reports.exports.manifest import ExportRequest, focus_tolerance
from tests.support.billing_world import charges_of, document_of

_MONTH = "2024-09"
_UNITS_A_CENT = UNITS_A_USD // 100


def real_bill() -> ExportSource:
    """The real lines as AWS billed them, with an invoice."""
    book = sample_book()
    rated: dict[tuple[object, ...], RatedLine] = {}
    for line in billed_lines():
        usage = UsageLine(*line[:7])
        known = rated.get(usage[:6])
        # Two lines with the same key and hour differ only in their resource, and form one charge.
        if known is not None:
            usage = usage._replace(bytes=usage.bytes + known.line.bytes)
        terms = (line.sku, line.rate_code, line.price, line.price)
        rated[usage[:6]] = RatedLine(usage, PriceState.PRICED, *terms, allowance=_allowance(line.rate_code))
    of_month = [(_MONTH, list(rated.values()))]
    document = document_of(of_month, _MONTH, book)
    charges = [(charge, "") for charge in charges_of(of_month, document)]
    return ExportSource(charges=charges, invoices=[document], books=[book])


def _allowance(rate_code: str) -> str:
    named = (each.id for each in sample_book().allowances if rate_code in each.rate_codes.values())
    return next(named, "")


def written(source: ExportSource) -> str:
    """Write an export to a temporary folder; return the error text, or ""."""
    request = ExportRequest(kind="focus", version="1.2", month=_MONTH, grain="hour", form="parquet")
    with TemporaryDirectory() as folder:
        try:
            export(request, source, Destination(objects=FolderLogStore(Path(folder)), prefix="", name=folder))
        except ExportWrongError as error:
            return str(error)
    return ""


def missing_line() -> tuple[str, bool]:
    """Export the real lines without the most expensive line.

    Returns:
        Error of our own tie-out, and whether FOCUS's tolerance accepts the file nevertheless.
    """
    source = real_bill()
    charges = list(source.charges)
    dearest = max(charges, key=lambda each: each[0].rated.cost)
    left = [each for each in charges if each is not dearest]
    apart = abs(sum(charge.rated.cost for charge, _ in left) - source.invoices[0].cents * _UNITS_A_CENT)
    return written(replace(source, charges=left)), apart <= focus_tolerance(len(left))


def total() -> str:
    """Sum of the whole export in USD."""
    return usd_text(sum(charge.rated.cost for charge, _ in real_bill().charges))
