"""Charges cut into resources: no byte is lost, and the rows of the lake are those that were rated."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.billing.usage.months import UsageLine
from metering.errors import OperationFailedError
from metering.hours import hour_of, month_of
from metering.reports.exports.datasets.columns import resource_type
from metering.reports.exports.exporting import ExportSource
from metering.reports.exports.grains import Key, LakeResources, by_resource
from tests.support.charged import billed
from tests.support.lake_world import NOW_S, World, record
from tests.support.priced import MONTH, US_TIERS, allowance, book, gb, product, used
from tests.unit.reports.exports.exports import asked, exported, request_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from metering.billing.invoices.composing import Charge

BOOK = book([product("OUT", "DataTransfer-Out-Bytes", US_TIERS)], allowance("100", "OUT"))


class Listed:
    """Resources in a list; it counts the hours that were asked for."""

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
    # 100 GB are free, 10,240 in the first tier, and one in the second.
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
