"""FOCUS and CUR columns state the charges, also by resource. Each check of an export finds the fault it is for."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.billing.money import line_cost, quantity_of
from metering.billing.rating.payer_prices import PriceState, RatedLine
from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError
from metering.hours import hour_of, month_of, rfc3339
from metering.reports.exports.batches import (
    Collector,
    FileFormat,
    Layout,
    array_of,
    as_doubles,
    as_money,
    costs,
    cur_names,
    location_name,
    money,
    quantities,
    region_code,
    resource_type,
    service_category,
    whole_numbers,
    zone_of,
)
from metering.reports.exports.datasets.cur import CurTerms, cur_columns, time_text
from metering.reports.exports.datasets.focus import focus_columns
from metering.reports.exports.exporting import CUR_AMOUNTS, FOCUS_AMOUNTS, ExportSource, ExportWrongError, LineChecks
from metering.reports.exports.grains import Key, LakeResources, by_resource, summed
from metering.units import GIB
from tests.exports.make import asked, exported, request_of
from tests.support.billing_world import billed
from tests.support.lake_world import NOW_S, World, record
from tests.support.priced import BEGIN_S, MONTH, US_TIERS, allowance, book, gb, product, used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from metering.billing.invoices.composing import Charge

OUT = product("OUT", "DataTransfer-Out-Bytes", US_TIERS)
BOOK = book([OUT], allowance("100", "OUT"))


def _line(hour: int, size: int, account: str = "000000000012") -> UsageLine:
    return used(size, hour, account=account)._replace(from_location="us-east-1/use1-az2")


def _source() -> ExportSource:
    # 100 GB are free, and the next 10,240 GB are in the first tier.
    return billed(BOOK, [_line(0, gb("10339")), _line(5, gb("2"), "000000000034")], MONTH)


def _names(folder: Path) -> list[str]:
    return list(pq.read_schema(folder / "CostAndUsage-00000.parquet").names)


def _rows(folder: Path, dataset: str = "CostAndUsage") -> list[dict[str, Any]]:
    return list(pq.read_table(folder / f"{dataset}-00000.parquet").to_pylist(maps_as_pydicts="strict"))


def test_focus_1_2_has_its_57_columns_in_order_and_ours_after_them(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    names = _names(tmp_path)
    own = [name for name in names if name.startswith("x_")]
    assert len(names) - len(own) == 57
    assert names == [*sorted(set(names) - set(own)), *own]
    assert {"ProviderName", "PublisherName"} < set(names)


def test_focus_1_4_has_65_columns_and_other_providers(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(version="1.4", month=MONTH))
    names = [name for name in _names(tmp_path) if name[:2] != "x_"]
    assert len(names) == 65
    assert {"HostProviderName", "ServiceProviderName", "InvoiceDetailId"} < set(names)
    assert not {"ProviderName", "PublisherName"} & set(names)


def test_a_line_of_focus_says_what_it_is(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    rows = _rows(tmp_path)
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
    details = {"x_TierFrom": str(gb("10240")), "x_TierTo": str(gb("51200")), "x_UsageType": "DataTransfer-Out-Bytes"}
    assert json.loads(second["SkuPriceDetails"]) == details
    assert sorted((row["BilledCost"], row["x_Bytes"]) for row in rows)[0] == (Decimal(0), str(gb("100")))


def test_texts_of_parquet_are_texts_for_every_reader(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of(month=MONTH))
    rows = asked(tmp_path, "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {})")
    types = {str(name): kind for name, kind in rows}
    assert types["SubAccountId"] == types["InvoiceId"] == types["x_Bytes"] == "VARCHAR"
    assert types["BilledCost"] == "DECIMAL(38,10)"
    assert types["ChargePeriodStart"] == "TIMESTAMP WITH TIME ZONE"


def test_a_correction_has_the_period_of_its_own_hour_and_the_month_that_books_it(tmp_path: Path) -> None:
    of_december = [_line(30 * 24, gb("5"))]
    source = billed(BOOK, of_december, "2026-12", earlier=(MONTH, [_line(3, gb("200"))], [_line(7, gb("1"))]))
    exported(tmp_path, source, request_of(version="1.4", month="2026-12"))
    (late,) = [row for row in _rows(tmp_path) if row["ChargeClass"] == "Correction"]
    assert late["ChargePeriodStart"] == late["x_CorrectsHour"] == datetime(2026, 11, 1, 7, tzinfo=UTC)
    assert late["BillingPeriodStart"] == datetime(2026, 12, 1, tzinfo=UTC)
    assert late["BilledCost"] == Decimal("0.0900000000")
    assert late["InvoiceDetailId"] == "123456789012-2026-12-1:us-east-1:OUT.JRTCKXETXF.RATE0:2026-11"
    details = _rows(tmp_path, "InvoiceDetail")
    assert {row["InvoiceDetailId"]: row["BilledCost"] for row in details}[late["InvoiceDetailId"]] == Decimal("0.09")


def test_cur_has_awss_113_columns_in_awss_order(tmp_path: Path) -> None:
    exported(tmp_path / "parquet", _source(), request_of("cur", month=MONTH))
    exported(tmp_path / "csv", _source(), request_of("cur", month=MONTH, form="csv"))
    names = _names(tmp_path / "parquet")
    assert names == list(cur_names())
    assert (len(names), names[0], names[-1]) == (113, "bill_bill_type", "savings_plan_used_commitment")
    assert [row[0] for row in asked(tmp_path / "csv", "SELECT column_name FROM (DESCRIBE SELECT * FROM {})")] == names


def test_a_line_of_cur_says_what_it_is_in_awss_types(tmp_path: Path) -> None:
    exported(tmp_path, _source(), request_of("cur", month=MONTH))
    rows = _rows(tmp_path)
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
    """Usage of resources, from a list; records which hours are requested."""

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
    # 100 GB are free, 10,240 GB are in the first tier, and one GB is in the second tier.
    resources = [("i-1", gb("50")), ("i-2", gb("10290")), ("i-3", gb("1"))]
    found = list(by_resource(_charges(billed(BOOK, [line], MONTH)), Listed({line.hour_s: {line[1:6]: resources}})))
    assert [(charge.rated.line.bytes, charge.rated.price, resource_id) for charge, resource_id in found] == [
        (gb("50"), 0, "i-1"), (gb("50"), 0, "i-2"), (gb("10240"), 900_000_000, "i-2"), (gb("1"), 850_000_000, "i-3"),
    ]  # fmt: skip


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


def _two_tiers() -> list[Charge]:
    return _charges(billed(BOOK, [used(gb("10339")), used(gb("2"), 5)], MONTH))


def _looked_at(
    charges: Iterable[Charge],
    damage: Callable[[pa.Table], pa.Table] = lambda table: table,
    *,
    kind: str = "focus",
    form: FileFormat = "parquet",
) -> None:
    focus = kind == "focus"
    columns = focus_columns("1.2", "hour", {}) if focus else cur_columns(CurTerms(grain="hour"))
    layout = Layout(columns=columns, form=form, time_text=rfc3339 if focus else time_text)
    checks = LineChecks(books=[BOOK], grain="hour", amounts=FOCUS_AMOUNTS if focus else CUR_AMOUNTS)
    for batch in Collector().batches((charge, "") for charge in charges):
        checks.look(batch, damage(layout.table(batch)))


def _changed(name: str, more: str) -> Callable[[pa.Table], pa.Table]:
    def damage(table: pa.Table) -> pa.Table:
        place, column = table.schema.get_field_index(name), table.column(name)
        values = column.to_pylist()
        values[-1] += float(more) if pa.types.is_floating(column.type) else Decimal(more)
        return table.set_column(place, table.schema.field(place), pa.array(values, column.type))

    return damage


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("kind", ["focus", "cur"])
def test_a_right_export_passes(kind: str, form: FileFormat) -> None:
    _looked_at(_two_tiers(), kind=kind, form=form)


@pytest.mark.parametrize(("kind", "name", "more"), [
    *(("focus", name, "0.0000000100") for name in ("PricingQuantity", "ListCost", "ContractedUnitPrice")),
    *(("cur", name, "0.0000000001") for name in ("line_item_unblended_cost", "pricing_public_on_demand_cost")),
    ("focus", "BilledCost", "0.0000000001"),
])  # fmt: skip
def test_a_value_that_is_off_by_its_last_digit_is_found(kind: str, name: str, more: str) -> None:
    with pytest.raises(ExportWrongError, match=f"{name}.*rounded half up"):
        _looked_at(_two_tiers(), _changed(name, more), kind=kind)


@pytest.mark.parametrize("size", ["700000.3", "41612161.2345678912"])
def test_a_line_of_more_than_half_a_pb_is_no_error_of_its_doubles(size: str) -> None:
    for more in range(40):
        _looked_at(_charges(billed(BOOK, [used(gb(size) + more)], MONTH)), kind="cur")
    large = _charges(billed(BOOK, [used(gb(size))], MONTH))
    with pytest.raises(ExportWrongError, match="rounded half up"):
        _looked_at(large, _changed("line_item_unblended_cost", "0.00001"), kind="cur")


def test_a_row_less_is_found() -> None:
    with pytest.raises(ExportWrongError, match="4 lines became 3 rows"):
        _looked_at(_two_tiers(), lambda table: table.slice(1))


@pytest.mark.parametrize(("change", "told"), [
    ({"billing_month": "2026-12"}, "usage is outside 2026-12, and no correction"),
    ({"corrects": True}, "a correction of 2026-11 is of that month itself"),
    ({"invoice_id": ""}, "no invoice id"),
    ({"billing_month": "2026-12", "corrects": True}, ""),
])  # fmt: skip
def test_a_charge_of_another_month_or_without_invoice_is_found(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ExportWrongError, match=told) if told else nullcontext():
        _looked_at([charge._replace(**change) for charge in _two_tiers()])


def test_a_rate_code_that_the_book_does_not_have_is_found() -> None:
    charge = _two_tiers()[0]
    other = charge._replace(rated=charge.rated._replace(rate_code="OUT.JRTCKXETXF.NONE"))
    with pytest.raises(ExportWrongError, match=r"rate code 'OUT.JRTCKXETXF.NONE' is not in the price book"):
        _looked_at([other])


def test_more_lines_of_a_key_and_hour_than_it_has_tiers_are_found() -> None:
    charge = _two_tiers()[0]
    copies = [charge._replace(rated=charge.rated._replace(price=price)) for price in range(5)]
    _looked_at(copies)
    with pytest.raises(ExportWrongError, match="a key has 6 lines in one hour"):
        _looked_at([*copies, charge])


def test_unpriced_lines_are_no_rows_and_are_summed() -> None:
    collector = Collector()
    charge = _two_tiers()[0]
    line = RatedLine(charge.rated.line, PriceState.UNPRICED)
    assert not list(collector.batches([(charge._replace(rated=line), "")] * 3))
    assert sum(collector.unbilled.values()) == 3 * charge.rated.line.bytes


@pytest.mark.parametrize("most_keys", [1, 3, 100])
def test_sums_by_day_are_the_same_however_little_memory_they_have(most_keys: int) -> None:
    usage = [used(gb("1") + hour, hour, account=f"{account:012d}") for hour in range(60) for account in range(3)]
    source = billed(BOOK, usage, MONTH)
    found = list(summed(source.charges, "day", most_keys=most_keys))
    assert found == list(summed(source.charges, "day"))
    assert sum(charge.rated.line.bytes for charge, _ in found) == sum(line.bytes for line in usage)
    assert len({charge.rated.line.hour_s for charge, _ in found}) == 3


def test_corrections_are_summed_by_the_hour_and_what_cancels_out_is_gone() -> None:
    charge = _two_tiers()[0]._replace(corrects=True)
    back = charge._replace(rated=charge.rated._replace(line=charge.rated.line._replace(bytes=-charge.rated.line.bytes)))
    assert not list(summed([(charge, ""), (back, "")], "hour"))
    (twice,) = summed([(charge, ""), (charge, "")], "hour")
    assert twice[0] == charge._replace(
        rated=charge.rated._replace(line=charge.rated.line._replace(bytes=2 * charge.rated.line.bytes))
    )


def test_parts_that_are_forgotten_are_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.reports.exports.batches._MOST_PARTS", 2)
    charges = _two_tiers() * 3
    layout = Layout(columns=focus_columns("1.4", "hour", {}), form="parquet", time_text=rfc3339)
    tables = [layout.table(batch) for batch in Collector(rows=2).batches((charge, "") for charge in charges)]
    whole = Layout(columns=focus_columns("1.4", "hour", {}), form="parquet", time_text=rfc3339)
    (at_once,) = [whole.table(batch) for batch in Collector(rows=100).batches((charge, "") for charge in charges)]
    assert [row for table in tables for row in table.to_pylist()] == at_once.to_pylist()
    assert replace(charges[0].payer) == charges[0].payer
