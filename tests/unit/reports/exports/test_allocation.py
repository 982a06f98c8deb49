"""Charges that are split by causes: parts add up to their charge, and wrong parts are noticed."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.causes.index import CauseIndexes
from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError
from metering.hours import hour_of, month_of
from metering.reports.exports.allocation import CauseParts, problems_of, shares
from metering.reports.exports.exporting import ExportSource
from metering.reports.exports.grains import LakeResources, by_resource
from metering.reports.who_sums import CauseSource
from tests.exports.make import asked, exported, request_of, source_of, with_causes
from tests.support.billing_world import billed
from tests.support.kept_causes import keep_causes, record_of, row, stretch, unnamed
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World
from tests.support.priced import gb
from tests.unit.reports.exports.test_values import BOOK
from tests.unit.reports.test_who import SEARCH

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from metering.reports.exports.grains import Grain

OUT = "DataTransfer-Out-Bytes"
PLACE = {"usage_type": OUT, "from": "us-east-1/use1-az2", "resource_id": "nat-a"}
ROWS = (
    row(gb("150"), **PLACE), row(7, cause="i-0def", destination="S3.us-west-2", **PLACE),
    unnamed(gb("50"), "sides_differ", **PLACE),
)  # fmt: skip
NAMES = {"i-0abc": [stretch(workload="asg:ci", team="search")], "i-0def": [stretch(workload="asg:b")]}


@given(st.integers(-(10**30), 10**30), st.lists(st.integers(0, 10**20), min_size=1, max_size=9))
def test_shares_add_up_and_are_as_near_as_can_be(whole: int, weights: list[int]) -> None:
    found = shares(whole, weights)
    assert sum(found) == whole
    if total := sum(weights):
        assert all(abs(share * total - whole * weight) < total for share, weight in zip(found, weights, strict=True))


def world_of_causes() -> tuple[World, ExportSource]:
    world = World()
    # 5 GB have no cause.
    world.send([record_of(each) for each in (*ROWS, row(gb("5"), **PLACE))])
    world.compact_all()
    keep_causes(world, ROWS, NAMES)
    usage = [
        UsageLine(
            key.hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
        )
        for key, total in world.visible().items()
    ]
    return world, billed(BOOK, usage, month_of(hour_of(NOW_S)))


def split(world: World, source: ExportSource, grain: Grain) -> ExportSource:
    region = next(iter(source.charges))[0].region
    index = CauseIndexes(objects=world.objects).newest()
    causes = {region: CauseSource(region=region, objects=world.objects, index=index)}
    parts = CauseParts(sources=causes, owners=SEARCH, accounts=frozenset([ACCOUNT]), grain=grain)
    lake = LakeResources(views=[world.jobs.view], accounts=frozenset([ACCOUNT]))
    charges = list(by_resource([charge for charge, _ in source.charges], lake))
    return ExportSource(charges=charges, invoices=source.invoices, books=source.books, parts=parts)


@pytest.mark.parametrize("grain", ["hour", "day", "month"])
def test_a_charge_of_a_resource_becomes_its_parts(grain: Grain, tmp_path: Path) -> None:
    """100 GB are free, so there are two charges of one usage."""
    world, source = world_of_causes()
    exported(tmp_path, split(world, source, grain), request_of(version="1.4", month=month_of(HOUR), grain=grain))
    found = asked(
        tmp_path,
        "SELECT AllocatedResourceId, AllocatedResourceName, sum(BilledCost), sum(x_Bytes::HUGEINT) FROM {} "
        "WHERE AllocatedMethodId = 'metering:bytes-by-line:1' AND ResourceId = 'nat-a' GROUP BY ALL ORDER BY 4",
    )
    assert [(*each[:2], Decimal(str(each[2])).quantize(Decimal("0.0001")), each[3]) for each in found] == [
        ("i-0def", "asg:b", Decimal("0.0000"), 7), (None, None, Decimal("2.5354"), gb("55")),
        ("i-0abc", "asg:ci", Decimal("6.9146"), gb("150")),
    ]  # fmt: skip
    ((keys, rows),) = asked(tmp_path, "SELECT count(DISTINCT x_ChargeKey), count(*) FROM {}")
    assert keys == rows
    ((tags,),) = asked(tmp_path, "SELECT DISTINCT AllocatedTags FROM {} WHERE AllocatedResourceId = 'i-0abc'")
    assert json.loads(str(tags)) == {
        "team": "search", "metering/owner": "search", "metering/destination": "internet",
        "metering/path": "nat_gateway",
    }  # fmt: skip


def test_an_export_with_causes_adds_up_to_the_one_without(tmp_path: Path) -> None:
    source = source_of(400)
    exported(tmp_path / "plain", source, request_of(version="1.4"))
    exported(tmp_path / "causes", with_causes(source), request_of(version="1.4"))
    sql = "SELECT {{}}, {} FROM {{{{}}}} GROUP BY ALL ORDER BY 1, 2, 3, 4"
    sums = "sum(BilledCost), sum(ListCost), sum(ConsumedQuantity), sum(x_Bytes::HUGEINT)"
    by = "x_UsageType, ChargePeriodStart, SubAccountId, SkuPriceId"
    asks = sql.format(sums).format(by)
    assert asked(tmp_path / "causes", asks) == asked(tmp_path / "plain", asks)
    ((rows, whole),) = asked(
        tmp_path / "causes", "SELECT count(*), count(*) FILTER (AllocatedMethodId IS NULL) FROM {}"
    )
    assert int(str(rows)) > 500
    # Corrections stay whole.
    assert whole


def test_causes_of_more_bytes_than_are_charged_are_refused(tmp_path: Path) -> None:
    world, source = world_of_causes()
    keep_causes(world, [*ROWS, row(gb("5") + 1, **PLACE)], NAMES)
    with pytest.raises(OperationFailedError, match="its causes have 1 more"):
        exported(tmp_path, split(world, source, "hour"), request_of(version="1.4", month=month_of(HOUR)))


def changed(table: pa.Table, name: str, change: Callable[[list[object]], list[object]]) -> pa.Table:
    place = table.schema.get_field_index(name)
    kind = table.schema.field(place).type
    return table.set_column(place, name, pa.array(change(table.column(name).to_pylist()), kind))


FAULTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "do not add up to PricingQuantity": lambda table: table.slice(1),
    "ratios": lambda table: changed(
        table, "AllocatedMethodDetails", lambda all_of: [str(all_of[0]).replace(": 0.", ": 0.1"), *all_of[1:]]
    ),
    "tag twice": lambda table: changed(table, "Tags", lambda all_of: ['{"metering/path": "x"}'] * len(all_of)),
    "without a name": lambda table: changed(
        table, "AllocatedResourceId", lambda all_of: [each or "i-0abc" for each in all_of]
    ),
    "far from": lambda table: changed(table, "PricingQuantity", lambda all_of: all_of[::-1]),
    "has a cause": lambda table: changed(table, "AllocatedMethodDetails", lambda all_of: [None] * len(all_of)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_parts_are_noticed(fault: str, tmp_path: Path) -> None:
    world, source = world_of_causes()
    exported(tmp_path, split(world, source, "hour"), request_of(version="1.4", month=month_of(HOUR)))
    table = pq.read_table(next(tmp_path.glob("CostAndUsage*")))
    assert not list(problems_of(table, table))
    assert any(fault in each for each in problems_of(table, FAULTS[fault](table)))
