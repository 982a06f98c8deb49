"""Bills made for tests, in the forms in which AWS exports bills."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from metering.hours import rfc3339
from metering.units import GIB, HOUR_S

BILL = Path(__file__).parent / "november.csv"
"""A small bill of November 2026 with a line of every kind."""

_EXACT = Context(prec=100)
_PLACES = Decimal("0.0000000001")


class Line(NamedTuple):
    """Line of a bill. `quantity` is in GB, rounded as AWS rounds it."""

    account: str
    usage_type: str
    start_s: int
    quantity: str
    kind: str = "Usage"
    unit: str = "GB"
    hours: int = 1
    usd: str = "0.01"


def quantity_of(size: int) -> str:
    """GB (2^30 bytes) with 10 decimals, rounded half up, as on AWS's bills."""
    return f"{_EXACT.divide(Decimal(size), Decimal(GIB)).quantize(_PLACES, ROUND_HALF_UP, _EXACT):f}"


def cur(line: Line) -> dict[str, str]:
    return {
        "bill_billing_entity": "AWS",
        "line_item_line_item_type": line.kind,
        "line_item_product_code": "AmazonEC2",
        "line_item_usage_account_id": line.account,
        "line_item_usage_amount": line.quantity,
        "line_item_usage_end_date": rfc3339(line.start_s + line.hours * HOUR_S),
        "line_item_usage_start_date": rfc3339(line.start_s),
        "line_item_unblended_cost": line.usd,
        "line_item_usage_type": line.usage_type,
        "pricing_unit": line.unit,
    }


def legacy(line: Line) -> dict[str, str]:
    """A line in the form of the older CUR: `line_item_usage_type` is `lineItem/UsageType`."""
    values = {}
    for name, value in cur(line).items():
        if name.startswith("line_item_") and name != "line_item_product_code":
            words = name.removeprefix("line_item_").split("_")
            values["lineItem/" + "".join(word.capitalize() for word in words)] = value
    return {**values, "pricing/unit": line.unit}


def focus(line: Line) -> dict[str, str]:
    usage = line.kind == "Usage"
    return {
        "BilledCost": line.usd,
        "ChargeCategory": line.kind,
        "ChargePeriodEnd": rfc3339(line.start_s + line.hours * HOUR_S),
        "ChargePeriodStart": rfc3339(line.start_s),
        "ConsumedQuantity": line.quantity if usage else "",
        "ConsumedUnit": line.unit if usage else "",
        "PricingQuantity": line.quantity,
        "PricingUnit": line.unit,
        "ServiceName": "Amazon Elastic Compute Cloud",
        "SubAccountId": line.account,
        "x_UsageType": line.usage_type,
    }


FORMS = {"CUR 2.0": cur, "CUR (legacy)": legacy, "FOCUS": focus}


def csv_bytes(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def write_bill(path: Path, lines: Iterable[Line], form: str = "CUR 2.0") -> Path:
    """Write a bill in the format of the file suffix: `.csv`, `.csv.gz`, or `.parquet`, whose columns are strings."""
    rows = [FORMS[form](line) for line in lines]
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(csv_bytes(rows)))
    else:
        path.write_bytes(csv_bytes(rows))
    return path
