"""Billed beside metered: what is equal, what is a difference, and what is none."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import OperationFailedError
from metering.hours import date_of
from metering.onramps.bill import ComparedRow, Tolerance, compare, read_bill, tolerance_of
from metering.onramps.bill_lines import LineKey, Wanted, is_transfer, seconds_of
from metering.replay.given import SAMPLE
from metering.units import HOUR_S, MIB
from metering.usage.usage_types import Location, billing_prefixes, classify, parse_location
from tests.support.bills import FORMS, Line, quantity_of, write_bill

if TYPE_CHECKING:
    from pathlib import Path

DAY, WHO = "2026-11-24", "123456789012"
NOON_S = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp())


def key(usage_type: str = "DataTransfer-Out-Bytes", day: str = DAY) -> LineKey:
    return LineKey(WHO, usage_type, day)


def test_the_real_bill_lines_are_what_their_records_are_metered_as(tmp_path: Path) -> None:
    """Every line to the byte: real lines of AWS, with the usage type and the quantity that it billed."""
    billed = list(csv.DictReader((SAMPLE.parent / "expected_lines.csv").read_text().splitlines()))
    lines = [
        Line(each["account_id"], each["usage_type"], seconds_of(each["usage_hour"]), each["quantity_gb"])
        for each in billed
    ]
    bill = read_bill([write_bill(tmp_path / "bill.parquet", lines, "FOCUS")], Wanted())
    metered: Counter[LineKey] = Counter()
    for text in SAMPLE.read_text().splitlines():
        record = json.loads(text)
        places = [parse_location(record[side]) for side in ("from", "to")]
        assert all(isinstance(place, Location) for place in places)
        usage_type = classify(record["direction"], *places).usage_type  # type: ignore[arg-type]  # just asserted
        metered[LineKey(record["account_id"], usage_type, date_of(seconds_of(record["start"])))] += record["bytes"]

    found = compare(bill.bytes, metered, Tolerance(bytes=0))

    assert bill.lines == len(lines) == 338
    assert found.beyond == 0
    assert all(row.difference == 0 for row in found.rows)
    assert found.billed == found.metered == sum(int(each["bytes"]) for each in billed)


USAGE = st.dictionaries(
    st.tuples(
        st.sampled_from(["000000000001", WHO]),
        st.sampled_from(["DataTransfer-Out-Bytes", "EU-DataTransfer-In-Bytes", "USW2-EU-AWS-Out-Bytes"]),
        st.integers(NOON_S // HOUR_S, NOON_S // HOUR_S + 60),
    ),
    # Beyond 2^53 a double would be wrong.
    st.one_of(st.integers(0, 5), st.integers(0, 2**40), st.integers(2**53, 2**62)),
    max_size=12,
)


@settings(max_examples=40)
@given(usage=USAGE, form=st.sampled_from(sorted(FORMS)), name=st.sampled_from(["b.csv", "b.csv.gz", "b.parquet"]))
def test_a_bill_that_is_made_of_metered_usage_is_equal_to_it(
    tmp_path_factory: pytest.TempPathFactory, usage: dict[tuple[str, str, int], int], form: str, name: str
) -> None:
    lines = [Line(who, kind, hour * HOUR_S, quantity_of(size)) for (who, kind, hour), size in usage.items()]
    if not lines:
        lines = [Line(WHO, "BoxUsage", NOON_S, "1")]
    metered: Counter[LineKey] = Counter()
    for (who, kind, hour), size in usage.items():
        metered[LineKey(who, kind, date_of(hour * HOUR_S))] += size

    bill = read_bill([write_bill(tmp_path_factory.mktemp("bill") / name, lines, form)], Wanted())
    found = compare(bill.bytes, metered, Tolerance(bytes=0))

    assert bill.bytes == dict(metered)
    assert found.beyond == 0
    assert abs(bill.rounding) <= Decimal("0.06") * max(1, len(usage))


def test_what_only_one_of_them_has_is_a_difference() -> None:
    found = compare({key(day="2026-11-23"): 5}, {key(): 7})
    assert found.rows == [ComparedRow(key(day="2026-11-23"), 5, 0), ComparedRow(key(), 0, 7)]
    assert [row.difference for row in found.rows] == [-5, 7]
    assert [row.percent for row in found.rows] == [Decimal(-100), None]
    assert found.beyond is None


def test_what_no_bill_shows_stands_apart_unless_the_bill_has_it() -> None:
    metered = {
        key("USW2-C3DataTransfer-Out-Bytes"): 10,
        key("Unclassified-Regional-Bytes"): 20,
        key("Partner-Link"): 30,
        key("C3DataTransfer-In-Bytes"): 40,
    }
    found = compare({key("C3DataTransfer-In-Bytes"): 40}, metered, Tolerance(bytes=0))
    assert found.apart == {"USW2-C3DataTransfer-Out-Bytes": 10, "Unclassified-Regional-Bytes": 20}
    assert found.own == {"Partner-Link": 30}
    assert [(row.key.usage_type, row.difference) for row in found.rows] == [("C3DataTransfer-In-Bytes", 0)]
    assert (found.beyond, found.metered) == (0, 40)


def test_what_no_on_ramp_meters_stands_apart_by_its_name_unless_its_account_meters_it() -> None:
    nat, other = key("USW2-NatGateway-Bytes"), LineKey("000000000001", "USW2-NatGateway-Bytes", DAY)
    billed = {nat: 5, other: 7, key("VpcEndpoint-Bytes"): 3, key("DataTransfer-xAZ-Out-Bytes"): 2}
    found = compare(billed, {nat._replace(period="2026-11-23"): 1}, Tolerance(bytes=0))
    assert {name: each.bytes for name, each in found.billed_apart.items()} == {
        "USW2-NatGateway-Bytes": 7,
        "VpcEndpoint-Bytes": 3,
        "DataTransfer-xAZ-Out-Bytes": 2,
    }
    assert "contested" in found.billed_apart["DataTransfer-xAZ-Out-Bytes"].why
    assert [(row.billed, row.metered) for row in found.rows] == [(0, 1), (5, 0)]
    assert found.beyond == 2


def test_what_one_side_alone_has_is_a_difference_that_stands_by_its_name() -> None:
    billed = {key("VpcPeering-In-Bytes"): 5, key(): 1, key(day="2026-11-23"): 1}
    found = compare(billed, {key("TransitGateway-Bytes"): 7, key(): 1}, Tolerance(bytes=0))
    assert found.one_sided == ({"VpcPeering-In-Bytes": 5}, {"TransitGateway-Bytes": 7})
    assert found.beyond == 3


@pytest.mark.parametrize(
    ("tolerance", "billed", "metered", "holds"),
    [
        (Tolerance(bytes=0), 10, 10, True),
        (Tolerance(bytes=0), 10, 11, False),
        (Tolerance(bytes=1), 10, 9, True),
        (Tolerance(percent=Decimal("0.1")), 1_000, 1_001, True),
        (Tolerance(percent=Decimal("0.1")), 1_000, 1_002, False),
        (Tolerance(percent=Decimal("0.1")), 10**30, 10**30 + 10**27 + 1, False),
        (Tolerance(percent=Decimal("0.1")), 10**30, 10**30 - 10**27, True),
        (Tolerance(percent=Decimal(50)), 0, 1, False),
        (Tolerance(percent=Decimal(50)), 0, 0, True),
        (Tolerance(percent=Decimal(1), bytes=5), 0, 5, True),
        (Tolerance(percent=Decimal(1), bytes=5), 1_000, 1_010, True),
        (Tolerance(percent=Decimal(1), bytes=5), 1_000, 1_011, False),
        (Tolerance(percent=Decimal(1)), -1_000, -990, True),
    ],
)
def test_a_difference_within_one_of_both_is_tolerated_exactly(
    tolerance: Tolerance, billed: int, metered: int, holds: bool
) -> None:
    assert tolerance.holds(ComparedRow(key(), billed, metered)) is holds


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["0.5%"], Tolerance(percent=Decimal("0.5"))),
        (["1000"], Tolerance(bytes=1_000)),
        (["0"], Tolerance(bytes=0)),
        (["10 MB", "2 %"], Tolerance(bytes=10 * MIB, percent=Decimal(2))),
    ],
)
def test_a_tolerance_is_a_percentage_a_number_of_bytes_or_both(texts: list[str], expected: Tolerance | None) -> None:
    assert tolerance_of(texts) == expected


@pytest.mark.parametrize("texts", [["much"], ["-1"], ["1.5"], ["1%", "2%"], ["1", "2"], ["1e3"], ["%"], [""]])
def test_another_tolerance_is_refused_in_words(texts: list[str]) -> None:
    with pytest.raises(OperationFailedError, match="is no tolerance"):
        tolerance_of(texts)


def test_all_that_the_contract_names_is_data_transfer_and_storage_is_not() -> None:
    places = [parse_location(text) for text in ("internet", "cloudfront", "unknown", "eu-west-1", "us-west-2/usw2-az1")]
    for region in billing_prefixes():
        for direction in ("out", "in"):
            for place in places:
                own = parse_location(region)
                sides = (own, place) if direction == "out" else (place, own)
                assert is_transfer(classify(direction, *sides).usage_type)  # type: ignore[arg-type]  # all are places
    names = ("TransitGateway", "NatGateway", "VpcEndpoint", "VpcEndpoint-GWLBE", "VpcPeering-In", "VpcPeering-Out")
    zones = ("DataTransfer-xAZ-In", "DataTransfer-xAZ-Out", "DataTransfer-AZ-In", "DataTransfer-AZ-Out")
    for name in (*names, *zones):
        assert is_transfer(f"{name}-Bytes")
        assert is_transfer(f"USW2-{name}-Bytes")
    assert is_transfer("EU-DataTransfer-Out-OBytes")
    for other in (
        "NatGateway-Hours",
        "BoxUsage:m5.large",
        "USW2-TimedStorage-ByteHrs",
        "Requests-Tier1",
        "USE1-DataXfer-Out:dc.3",
        "",
        "-",
    ):
        assert not is_transfer(other)
