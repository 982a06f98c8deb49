"""FOCUS and CUR columns state the charges, also by resource, with amounts by the line rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.billing.money import line_cost, quantity_of
from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError
from metering.hours import hour_of, month_of
from metering.reports.exports.batches import as_doubles, as_money, costs, quantities, whole_numbers
from metering.reports.exports.datasets.columns import (
    array_of,
    cur_names,
    location_name,
    money,
    region_code,
    resource_type,
    service_category,
    zone_of,
)
from metering.reports.exports.exporting import ExportSource
from metering.reports.exports.grains import Key, LakeResources, by_resource
from metering.units import GIB, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.exports.make import asked, exported, request_of
from tests.support.charged import billed
from tests.support.lake_world import NOW_S, World, record
from tests.support.priced import BEGIN_S, MONTH, US_TIERS, allowance, book, gb, product, used

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from metering.billing.invoices.composing import Charge


OUT = product("OUT", "DataTransfer-Out-Bytes", US_TIERS)
BOOK = book([OUT], allowance("100", "OUT"))


def _line(hour: int, size: int, account: str = "000000000012", begin_s: int = BEGIN_S) -> UsageLine:
    what = Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes")
    return UsageLine(begin_s + hour * HOUR_S, account, *what, "us-east-1/use1-az2", "internet", size)


def _source() -> ExportSource:
    # 100 GB are free, then 10,240 GB are in the first tier.
    return billed(BOOK, [_line(0, gb("10339")), _line(5, gb("2"), "000000000034")], MONTH)


def test_focus_1_2_has_its_57_columns_in_order_and_ours_after_them(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    names = pq.read_schema(tmp_path / "CostAndUsage-00000.parquet").names
    own = [name for name in names if name.startswith("x_")]
    assert len(names) - len(own) == 57
    assert names == [*sorted(set(names) - set(own)), *own]
    assert {"ProviderName", "PublisherName"} < set(names)


def test_focus_1_4_has_65_columns_and_other_providers(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(version="1.4", month=MONTH))
    names = [name for name in pq.read_schema(tmp_path / "CostAndUsage-00000.parquet").names if name[:2] != "x_"]
    assert len(names) == 65
    assert {"HostProviderName", "ServiceProviderName", "InvoiceDetailId"} < set(names)
    assert not {"ProviderName", "PublisherName"} & set(names)


def test_a_line_of_focus_says_what_it_is(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    rows = pq.read_table(tmp_path / "CostAndUsage-00000.parquet").to_pylist()
    second = next(row for row in rows if row["SkuPriceId"] == "OUT.JRTCKXETXF.RATE1")
    begins, ends = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    wanted = {
        "BilledCost": Decimal("0.0850000000"), "EffectiveCost": Decimal("0.0850000000"),
        "ListCost": Decimal("0.0850000000"),
        "PricingQuantity": Decimal("1.0000000000"), "PricingUnit": "GiB", "ConsumedUnit": "GiB",
        "ListUnitPrice": Decimal("0.0850000000"), "ContractedUnitPrice": Decimal("0.0850000000"),
        "BillingAccountId": "123456789012", "SubAccountId": "000000000034", "BillingCurrency": "USD",
        "BillingPeriodStart": begins, "BillingPeriodEnd": ends, "ChargePeriodStart": begins.replace(hour=5),
        "ChargePeriodEnd": begins.replace(hour=6), "ChargeClass": None, "ChargeCategory": "Usage",
        "InvoiceId": "123456789012-2026-11-1", "InvoiceIssuerName": "Example Metering",
        "ProviderName": "Example Metering",
        "RegionId": "us-east-1", "RegionName": "US East (N. Virginia)", "AvailabilityZone": "use1-az2",
        "ServiceCategory": "Compute", "ServiceSubcategory": "Virtual Machines", "SkuId": "OUT", "ResourceId": None,
        "CommitmentDiscountId": None, "x_Bytes": str(GIB), "x_UsageType": "DataTransfer-Out-Bytes",
        "x_CorrectsHour": None,
    }  # fmt: skip
    assert {name: second[name] for name in wanted} == wanted
    details = json.loads(second["SkuPriceDetails"])
    assert details == {
        "x_UsageType": "DataTransfer-Out-Bytes",
        "x_TierFrom": str(gb("10240")),
        "x_TierTo": str(gb("51200")),
    }
    assert sorted((row["BilledCost"], row["x_Bytes"]) for row in rows)[0] == (Decimal(0), str(gb("100")))


def test_texts_of_parquet_are_texts_for_every_reader(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    rows = asked(tmp_path, "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {})")
    types = {str(name): kind for name, kind in rows}
    assert types["SubAccountId"] == types["InvoiceId"] == types["x_Bytes"] == "VARCHAR"
    assert types["BilledCost"] == "DECIMAL(38,10)"
    assert types["ChargePeriodStart"] == "TIMESTAMP WITH TIME ZONE"


def test_a_correction_has_the_period_of_its_own_hour_and_the_month_that_books_it(tmp_path: Path) -> None:
    december = BEGIN_S + 30 * 24 * HOUR_S
    source = billed(
        BOOK,
        [_line(0, gb("5"), begin_s=december)],
        "2026-12",
        earlier=(MONTH, [_line(3, gb("200"))], [_line(7, gb("1"))]),
    )
    exported(tmp_path, source, request_of(version="1.4", month="2026-12"))
    rows = pq.read_table(tmp_path / "CostAndUsage-00000.parquet").to_pylist()
    (late,) = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert late["ChargePeriodStart"] == late["x_CorrectsHour"] == datetime(2026, 11, 1, 7, tzinfo=UTC)
    assert late["BillingPeriodStart"] == datetime(2026, 12, 1, tzinfo=UTC)
    assert late["BilledCost"] == Decimal("0.0900000000")
    assert late["InvoiceDetailId"] == "123456789012-2026-12-1:us-east-1:OUT.JRTCKXETXF.RATE0:2026-11"
    details = pq.read_table(tmp_path / "InvoiceDetail-00000.parquet").to_pylist()
    assert {row["InvoiceDetailId"]: row["BilledCost"] for row in details}[late["InvoiceDetailId"]] == Decimal("0.09")


def test_cur_has_awss_113_columns_in_awss_order(tmp_path: Path) -> None:
    exported(tmp_path / "parquet", _source(), request_of("cur", month=MONTH))
    exported(tmp_path / "csv", _source(), request_of("cur", month=MONTH, form="csv"))
    names = pq.read_schema(tmp_path / "parquet" / "CostAndUsage-00000.parquet").names
    assert names == list(cur_names())
    assert (len(names), names[0], names[-1]) == (113, "bill_bill_type", "savings_plan_used_commitment")
    assert [row[0] for row in asked(tmp_path / "csv", "SELECT column_name FROM (DESCRIBE SELECT * FROM {})")] == names


def test_a_line_of_cur_says_what_it_is_in_awss_types(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of("cur", month=MONTH))
    rows = pq.read_table(tmp_path / "CostAndUsage-00000.parquet").to_pylist(maps_as_pydicts="strict")
    second = next(row for row in rows if row["pricing_rate_code"] == "OUT.JRTCKXETXF.RATE1")
    begins = datetime(2026, 11, 1, tzinfo=UTC)
    wanted = {
        "line_item_unblended_cost": 0.085, "line_item_unblended_rate": "0.0850000000", "line_item_usage_amount": 1.0,
        "pricing_unit": "GB", "pricing_term": "OnDemand", "pricing_rate_id": "RATE1",
        "line_item_line_item_type": "Usage", "line_item_usage_account_id": "000000000034",
        "bill_invoice_id": "123456789012-2026-11-1", "bill_payer_account_id": "123456789012",
        "line_item_usage_start_date": begins.replace(hour=5), "line_item_usage_end_date": begins.replace(hour=6),
        "identity_time_interval": "2026-11-01T05:00:00Z/2026-11-01T06:00:00Z",
        "product": {"product_name": "AWS Data Transfer", "transfer_type": "AWS Outbound"},
        "product_from_location": "US East (N. Virginia)", "product_to_location": "External",
        "product_to_location_type": "Other", "product_region_code": "us-east-1", "resource_tags": {},
        "savings_plan_used_commitment": None,
    }  # fmt: skip
    assert {name: second[name] for name in wanted} == wanted
    # 10,341 GB cost 921.60 and 0.085.
    blended = (921_600_000_000_000 // 100 + 850_000_000) / 10_341 / 10**10
    assert float(second["line_item_blended_rate"]) == pytest.approx(blended, abs=1e-10)


def test_a_tier_boundary_is_two_lines_with_their_own_rates_and_never_a_mean(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of("cur", month=MONTH))
    rates = asked(tmp_path, "SELECT line_item_unblended_rate, line_item_usage_amount FROM {} ORDER BY 1, 2")
    assert rates == [("0.0000000000", 100.0), ("0.0850000000", 1.0), ("0.0900000000", 1.0), ("0.0900000000", 10239.0)]


def test_a_draft_has_provisional_ids_in_focus_and_none_in_cur(tmp_path: Path) -> None:
    source = billed(BOOK, [_line(0, gb("200"))], MONTH, draft=True)
    exported(tmp_path / "focus", source, request_of(version="1.4", month=MONTH, as_of_s=BEGIN_S + 7200))
    exported(tmp_path / "cur", source, request_of("cur", month=MONTH))
    assert asked(tmp_path / "focus", "SELECT DISTINCT InvoiceId FROM {}") == [("123456789012-2026-11-1",)]
    status = asked(tmp_path / "focus", "SELECT InvoiceIssueStatus, InvoiceIssueDate FROM {}", "InvoiceDetail")
    assert set(status) == {("Open", None)}
    assert asked(tmp_path / "focus", "SELECT BillingPeriodStatus FROM {}", "BillingPeriod") == [("Open",)]
    assert asked(tmp_path / "cur", "SELECT DISTINCT bill_invoice_id FROM {}") == [(None,)]


def test_names_of_places_are_those_of_price_lists() -> None:
    assert location_name("ap-southeast-9/x-az1") == "ap-southeast-9"
    assert location_name("cloudfront") == "Amazon CloudFront"
    assert region_code("internet") is None
    assert service_category("AmazonNothing") == ("Other", "Other (Other)")


def test_a_zone_is_named_only_if_the_line_says_whose_it_is() -> None:
    line = _line(0, 1)
    assert zone_of(line, "us-east-1") == "use1-az2"
    assert zone_of(line._replace(from_location="us-east-1"), "us-east-1") is None
    assert zone_of(line._replace(to_location="us-east-1/use1-az4"), "us-east-1") is None


_SIZES = st.one_of(st.integers(-(2**20), 2**40), st.integers(-(2**70), 2**70), st.integers(2**57, 2**59))
_EXACT = Context(prec=100)
_PRICES = st.one_of(st.integers(0, 2_000_000_000), st.integers(0, 10**22))


@given(st.lists(st.tuples(_SIZES, _PRICES), max_size=30))
@example([(2**58 - 1, 1_799_999_999), (-(2**58) + 1, 0)])
@example([(2**58, 1_800_000_000)])
@example([(1, 1_799_999_999), (0, 0), (-1, 900_000_000)])
def test_quantities_and_costs_are_those_of_each_line(lines: list[tuple[int, int]]) -> None:
    sizes, prices = [size for size, _ in lines], [price for _, price in lines]
    of_bytes = whole_numbers(sizes)
    quantity = quantities(of_bytes)
    assert [int(each) for each in quantity.to_pylist()] == [quantity_of(size) for size in sizes]
    cost = costs(of_bytes, quantity, whole_numbers(prices))
    assert [int(each) for each in cost.to_pylist()] == [line_cost(size, price) for size, price in lines]


def test_bytes_of_real_lines_that_are_rounded_twice_cost_what_aws_billed() -> None:
    sizes = whole_numbers([7_220_399, 12_561, 103_287])
    prices = whole_numbers([850_000_000, 900_000_000, 1_093_000_000])
    assert costs(sizes, quantities(sizes), prices).to_pylist() == [5_715_843, 10_528, 105_139]


def test_units_become_decimals_with_the_same_digits_also_in_a_slice() -> None:
    units = pa.array([1, None, -900_000_000, 10**17], pa.int64())[1:]
    assert as_money(units).to_pylist() == [None, Decimal("-0.0900000000"), Decimal("10000000.0000000000")]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**60), 2**60), st.integers(-(10**30), 10**30)), max_size=30))
@example([206_201_626])
@example([2**53 - 1, 2**53, 2**53 + 1])
def test_units_become_the_doubles_nearest_to_them(units: list[int | None]) -> None:
    wanted = [None if each is None else float(Decimal(each).scaleb(-10, _EXACT)) for each in units]
    assert as_doubles(whole_numbers(units)).to_pylist() == wanted


def test_a_double_of_a_cur_reads_as_the_digits_that_were_billed() -> None:
    assert money(pa.array([206_201_626], pa.int64()), "parquet", double=True).to_pylist() == [0.0206201626]
    assert array_of([206_201_626], pa.float64()).to_pylist() == [0.0206201626]


class Listed:
    """Resources in a list; it counts the requested hours."""

    def __init__(self, rows: Mapping[int, Mapping[Key, Sequence[tuple[str, int]]]]) -> None:
        self.rows = rows
        self.hours: list[int] = []

    def of(self, hour_s: int) -> Mapping[Key, Sequence[tuple[str, int]]]:
        self.hours.append(hour_s)
        return self.rows.get(hour_s, {})


def _charges(source: ExportSource) -> list[Charge]:
    return [charge for charge, _ in source.charges]


def test_lines_that_cross_tiers_are_cut_into_resources_in_their_order() -> None:
    line = used(gb("10341"))
    # 100 GB are free, 10,240 GB are in the first tier, and one is in the second.
    resources = [("i-1", gb("50")), ("i-2", gb("10290")), ("i-3", gb("1"))]
    found = list(by_resource(_charges(billed(BOOK, [line], MONTH)), Listed({line.hour_s: {line[1:6]: resources}})))
    assert [(charge.rated.line.bytes, charge.rated.price, resource_id) for charge, resource_id in found] == [
        (gb("50"), 0, "i-1"),
        (gb("50"), 0, "i-2"),
        (gb("10240"), 900_000_000, "i-2"),
        (gb("1"), 850_000_000, "i-3"),
    ]


@given(st.lists(st.lists(st.integers(0, 2**44), min_size=1, max_size=4), min_size=1, max_size=6))
def test_every_byte_stays_with_its_resource_and_its_price(hours: list[list[int]]) -> None:
    lines = [used(sum(sizes), hour) for hour, sizes in enumerate(hours)]
    rows: dict[int, dict[Key, list[tuple[str, int]]]] = {
        line.hour_s: {line[1:6]: [(f"i-{number}", size) for number, size in enumerate(sizes)]}
        for line, sizes in zip(lines, hours, strict=True)
    }
    charges = _charges(billed(BOOK, [line for line in lines if line.bytes], MONTH))
    found = list(by_resource(charges, Listed(rows)))
    for line, sizes in zip(lines, hours, strict=True):
        for number, size in enumerate(sizes):
            of = [charge for charge, name in found if name == f"i-{number}" and charge.rated.line.hour_s == line.hour_s]
            assert sum(charge.rated.line.bytes for charge in of) == size
    assert sum(charge.rated.exact for charge, _ in found) == sum(charge.rated.exact for charge in charges)


def test_an_hour_is_read_once() -> None:
    lines = [used(7, hour, account=account) for hour in range(3) for account in ("111111111111", "222222222222")]
    rows = Listed({line.hour_s: {one[1:6]: [("i-1", 7)] for one in lines} for line in lines})
    assert len(list(by_resource(_charges(billed(BOOK, lines, MONTH)), rows))) == 6
    assert rows.hours == sorted({line.hour_s for line in lines})


def test_rows_that_are_not_the_usage_that_was_rated_are_refused() -> None:
    line = used(gb("3"))
    with pytest.raises(OperationFailedError, match=r"bytes are charged, and the rows of its resources have 7"):
        list(by_resource(_charges(billed(BOOK, [line], MONTH)), Listed({line.hour_s: {line[1:6]: [("i-1", 7)]}})))


def test_corrections_have_no_resource() -> None:
    source = billed(BOOK, [], "2026-12", earlier=(MONTH, [used(gb("200"))], [used(gb("1"), 5)]))
    assert {name for _, name in by_resource(_charges(source), Listed({}))} == {""}


def test_resources_of_the_lake_are_columns_of_the_export(tmp_path: Path) -> None:
    world, now_s = World(), hour_of(NOW_S)
    world.send([record(40, resource="i-b"), record(2, resource="nat-a"), record(5, resource="i-b")])
    usage = [
        UsageLine(
            key.hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
        )
        for key, total in world.visible().items()
    ]
    source = billed(BOOK, usage, month_of(now_s))
    lake = LakeResources(views=[world.jobs.view], accounts=frozenset(line.account_id for line in usage))
    cut = ExportSource(charges=by_resource(_charges(source), lake), invoices=source.invoices, books=source.books)
    exported(tmp_path, cut, request_of(month=month_of(now_s)))
    rows = asked(tmp_path, "SELECT ResourceId, ResourceType, ResourceName, x_Bytes FROM {} ORDER BY 1")
    assert rows == [("i-b", "Instance", None, "45"), ("nat-a", "NAT Gateway", None, "2")]
    ((keys, cost),) = asked(tmp_path, "SELECT count(DISTINCT x_ChargeKey), sum(BilledCost) FROM {}")
    assert (keys, cost) == (2, Decimal(0))


def test_what_a_resource_is_follows_from_its_id() -> None:
    arn = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"
    names = (resource_type(name) for name in ("", "i-1", "app/edge", arn, "bucket"))
    assert list(names) == [None, "Instance", "Load Balancer", "Resource", "Resource"]
