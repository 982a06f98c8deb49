"""The bill of the real lines that a replay sends, as AWS wrote it.

Figures, SKUs and rate codes are in the folder `samples/aws-bill-lines`, whose README names their source.
"""

from __future__ import annotations

import csv
from datetime import datetime
from typing import NamedTuple

from metering.billing.money import DECIMALS, UNITS_A_USD
from metering.replay.given import SAMPLE, read_records
from metering.usage.totals import Service, UsageType


class BilledLine(NamedTuple):
    """One line of the bill.

    Attributes:
        hour_s: Hour of use, epoch seconds.
        quantity: 1e-10 GB.
        price: 1e-10 USD a GB.
        cost: 1e-10 USD.
        sku: AWS's id of what was sold.
        rate_code: `<sku>.<offer term>.<rate>`: a tier of it, or what is free.
    """

    hour_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    bytes: int
    quantity: int
    price: int
    cost: int
    sku: str
    rate_code: str


def billed_lines() -> list[BilledLine]:
    """All 338 lines, in the order of the records that are sent."""
    records = read_records([SAMPLE]).records
    return [
        BilledLine(
            hour_s=int(datetime.fromisoformat(line["usage_hour"]).timestamp()),
            account_id=line["account_id"],
            service=Service(line["service"]),
            usage_type=UsageType(line["usage_type"]),
            from_location=str(record["from"]),
            to_location=str(record["to"]),
            bytes=int(line["bytes"]),
            quantity=_units(line["quantity_gb"]),
            price=_units(line["list_unit_price_usd"]),
            cost=_units(line["list_cost_usd"]),
            sku=sku["sku_id"],
            rate_code=sku["sku_price_id"],
        )
        for line, sku, record in zip(_rows("expected_lines.csv"), _rows("sku_prices.csv"), records, strict=True)
    ]


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(SAMPLE.with_name(name).read_text(encoding="utf-8").splitlines()))


def _units(text: str) -> int:
    """1e-10 of a decimal text. AWS writes zeros beyond the tenth decimal, and nothing else.

    Raises:
        ValueError: There is something else.
    """
    whole, _, part = text.partition(".")
    if part[DECIMALS:].strip("0"):
        raise ValueError(f"{text!r} has more than {DECIMALS} decimals")
    return int(whole) * UNITS_A_USD + int(part[:DECIMALS].ljust(DECIMALS, "0"))
