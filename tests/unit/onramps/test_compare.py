"""Bills in three export types and three file types are compared with metered usage, and are equal or different."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import OperationFailedError
from metering.hours import date_of
from metering.onramps import bill as bills
from metering.onramps.bill import Bill, ComparedRow, Tolerance, bill_files, compare, read_bill, tolerance_of
from metering.onramps.bill_lines import Broken, LeftOut, LineKey, Wanted, is_transfer, seconds_of
from metering.replay.given import SAMPLE
from metering.units import DAY_S, GIB, HOUR_S, MIB
from metering.usage.usage_types import Location, billing_prefixes, classify, parse_location
from tests.support.bills import BILL, FORMS, Line, csv_bytes, cur, focus, quantity_of, write_bill
from tests.support.examples import examples

if TYPE_CHECKING:
    from pathlib import Path


NOON_S = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp())
WHO, OUT = "012345678901", "USW2-DataTransfer-Out-Bytes"
KEY = LineKey(WHO, OUT, "2026-11-24")
ARABIC_ONE = "\N{ARABIC-INDIC DIGIT ONE}"


def read(
    *lines: Line, tmp_path: Path, name: str = "bill.csv", form: str = "CUR 2.0", wanted: Wanted | None = None
) -> Bill:
    return read_bill([write_bill(tmp_path / name, lines, form)], wanted or Wanted())


@pytest.mark.parametrize("name", ["bill.csv", "bill.csv.gz", "bill.parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_a_bill_is_the_same_in_every_export_and_every_kind_of_file(tmp_path: Path, form: str, name: str) -> None:
    lines = [
        Line(WHO, OUT, NOON_S, quantity_of(252_888)),
        Line(WHO, OUT, NOON_S + HOUR_S, quantity_of(156)),
        Line(WHO, OUT, NOON_S + DAY_S, "2"),
        Line(WHO, "BoxUsage:m5.large", NOON_S, "1", unit="Hrs"),
        Line(WHO, "=HYPERLINK(1)-DataTransfer-Out-Bytes", NOON_S, "1"),
        Line(WHO, OUT, NOON_S, "-3", kind="Credit"),
        Line(WHO, OUT, NOON_S, "1", unit="Requests"),
    ]
    bill = read(*lines, tmp_path=tmp_path, name=name, form=form)

    assert bill.bytes == {KEY: 253_044, LineKey(WHO, OUT, "2026-11-25"): 2 * GIB}
    assert bill.left_out == {LeftOut.NO_TRANSFER: 2, LeftOut.NO_USAGE: 1}
    assert bill.broken == {Broken.UNIT: 1}
    assert (bill.read, bill.lines, bill.names) == (7, 3, {form})


def test_numbers_of_parquet_are_read_whatever_their_type(tmp_path: Path) -> None:
    start = datetime(2026, 11, 24, 12, tzinfo=UTC)
    amounts: list[tuple[object, pa.DataType]] = [
        (0.0002355203, pa.float64()), (2, pa.int64()), (Decimal("0.0002355203"), pa.decimal128(38, 10)),
        ("0.0002355203", pa.string()), (2.0, pa.float32()), (b"2", pa.binary()),
    ]  # fmt: skip
    starts = [
        (start, pa.timestamp("us", tz="UTC")), (start.replace(tzinfo=None), pa.timestamp("ms")),
        (date(2026, 11, 24), pa.date32()), ("2026-11-24 12:00:00.000", pa.string()), ("2026-11-24", pa.string()),
        (b"2026-11-24T12:00Z", pa.binary()),
    ]  # fmt: skip
    for number, ((amount, kind), (moment, time_kind)) in enumerate(zip(amounts, starts, strict=True)):
        columns = {name: pa.array([value]) for name, value in cur(Line(WHO, OUT, NOON_S, "1")).items()}
        columns |= {
            # A crawler infers this type, and thereby drops the leading zero.
            "line_item_usage_account_id": pa.array([int(WHO)], pa.int64()),
            "line_item_usage_amount": pa.array([amount], kind),
            "line_item_usage_start_date": pa.array([moment], time_kind),
            "line_item_usage_end_date": pa.array([None], time_kind),
            "pricing_unit": pa.array([None], pa.string()),
        }
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table(columns), path)
        bill = read_bill([path], Wanted())
        assert bill.bytes == {KEY: 2 * GIB if amount in (2, 2.0, b"2") else 252_888}, amount


def read_row(folder: Path, row: dict[str, str], mark: bytes = b"") -> Bill:
    path = folder / "row.csv"
    path.write_bytes(mark + csv_bytes([row]))
    return read_bill([path], Wanted())


def test_names_of_columns_in_lower_case_and_columns_that_nobody_knows_are_no_matter(tmp_path: Path) -> None:
    row = {name.lower(): value for name, value in focus(Line(WHO, OUT, NOON_S, "1")).items()} | {"tags": 'a,"b"\nc'}
    assert read_row(tmp_path, row, b"\xef\xbb\xbf").bytes == {KEY: GIB}
    # If a FOCUS line has no consumed quantity, the pricing quantity is used.
    row = focus(Line(WHO, OUT, NOON_S, "1.5")) | {"ConsumedQuantity": "", "ConsumedUnit": "", "PricingUnit": "GiB"}
    assert read_row(tmp_path, row).bytes == {KEY: 3 * GIB // 2}


@pytest.mark.parametrize(
    "amount", ["1,5", "", "NaN", "Infinity", "1e400", "1e99", "=1+1", "0x10", "1_000", "$5", ARABIC_ONE]
)
def test_what_is_no_amount_is_broken_in_words(tmp_path: Path, amount: str) -> None:
    bill = read(Line(WHO, OUT, NOON_S, amount), Line(WHO, OUT, NOON_S, "1e0"), tmp_path=tmp_path)
    assert bill.broken == {Broken.AMOUNT: 1}
    assert bill.bytes == {KEY: GIB}
    assert "bill.csv, row 1: " in bill.examples[0]
    assert repr(amount) in bill.examples[0] or "more than any bill" in bill.examples[0]


@pytest.mark.parametrize(
    "who", ["1234", "", "=cmd|'/c calc'!A0", "1.23457E+11", "12345678901", "unknown", ARABIC_ONE * 12]
)
def test_what_is_no_account_is_broken(tmp_path: Path, who: str) -> None:
    assert read(Line(who, OUT, NOON_S, "1"), tmp_path=tmp_path).broken == {Broken.ACCOUNT: 1}


@pytest.mark.parametrize("start", [
    "", "yesterday", "11/24/2026", "2026-13-01", "2026-11-24T12:00:00+05:00", "1796000000", "0001-01-01", "9999-12-31",
])  # fmt: skip
def test_what_is_no_time_in_utc_is_broken(tmp_path: Path, start: str) -> None:
    row = cur(Line(WHO, OUT, NOON_S, "1")) | {"line_item_usage_start_date": start}
    assert read_row(tmp_path, row).broken == {Broken.TIME: 1}


def test_a_line_with_other_fields_than_the_header_is_broken_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv", [Line(WHO, OUT, NOON_S, "1")])
    path.write_bytes(path.read_bytes() + b"a,b,c\r\n\r\n" + path.read_bytes().splitlines(keepends=True)[1])
    bill = read_bill([path], Wanted())
    assert (bill.bytes, bill.broken) == ({KEY: 2 * GIB}, {Broken.FIELDS: 1})


def test_usage_that_takes_bytes_back_is_counted_and_a_refund_of_money_is_not(tmp_path: Path) -> None:
    lines = [Line(WHO, OUT, NOON_S, "2"), Line(WHO, OUT, NOON_S, "-0.5"), Line(WHO, OUT, NOON_S, "-1", kind="Refund")]
    bill = read(*lines, tmp_path=tmp_path)
    assert (bill.bytes, bill.negative, bill.left_out) == ({KEY: 3 * GIB // 2}, 1, {LeftOut.NO_USAGE: 1})


def test_each_line_is_rounded_to_whole_bytes_and_what_that_moves_is_said_exactly(tmp_path: Path) -> None:
    # A tenth of a byte per line would add up to bytes if lines were summed in GB.
    lines = [Line(WHO, OUT, NOON_S, quantity_of(7)) for _ in range(100)]
    bill = read(*lines, tmp_path=tmp_path)
    assert bill.bytes == {KEY: 700}
    assert bill.exact == 100 * Decimal(quantity_of(7)) * GIB
    assert bill.rounding == 700 - bill.exact != 0


def test_what_is_not_asked_for_is_left_out_with_its_reason(tmp_path: Path) -> None:
    other, earlier = Line("111111111111", OUT, NOON_S, "1"), Line(WHO, OUT, NOON_S - DAY_S, "1")
    lines = [Line(WHO, OUT, NOON_S, "1"), other, earlier, Line(WHO, OUT, NOON_S, "1", hours=30 * 24)]
    wanted = Wanted(accounts=frozenset({WHO}), from_s=NOON_S - HOUR_S)
    bill = read(*lines, tmp_path=tmp_path, wanted=wanted)
    assert bill.left_out == {LeftOut.OTHER_ACCOUNT: 1, LeftOut.OTHER_TIME: 1, LeftOut.LONG: 1}
    by_month = read(*lines, tmp_path=tmp_path, wanted=replace(wanted, by="month"))
    assert by_month.bytes == {LineKey(WHO, OUT, "2026-11"): 2 * GIB}


@pytest.mark.parametrize(("body", "words"), [
    (b"", "is no bill that is known"),
    (b"a,b\n1,2\n", "It begins with a, b"),
    (b"line_item_usage_type,line_item_usage_acount_id\n", "nearest: line_item_usage_acount_id"),
    (b"SubAccountId,ChargeCategory,ChargePeriodStart,ConsumedQuantity\n", "no column x_UsageType or SkuMeter"),
    (b'line_item_usage_type,"x\n', "is damaged"),
    (b"\xff\xfe\x00\n", "is no UTF-8 text"),
    (b"PAR1 and no more", "is damaged"),
    (
        b"SubAccountId,x_UsageType,ChargeCategory,ChargePeriodStart,PricingQuantity,PricingQuantity\n",
        "has the column PricingQuantity twice",
    ),
    (gzip.compress(b"x" * 10_000, mtime=0)[:-9], "cannot be read to its end"),
    (b"\x1f\x8bnonsense", "cannot be read to its end"),
    (b"x" * (2 * MIB), "a line of more than"),
])  # fmt: skip
def test_a_file_that_is_no_bill_or_is_damaged_is_said_in_a_sentence(tmp_path: Path, body: bytes, words: str) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(body)
    with pytest.raises(OperationFailedError) as raised:
        read_bill([path], Wanted())
    assert words in raised.value.reason
    assert str(path) in raised.value.reason


def test_a_folder_gives_its_bills_once_and_says_what_is_none(tmp_path: Path) -> None:
    inner = tmp_path / "BILLING_PERIOD=2026-11"
    inner.mkdir()
    bill = write_bill(inner / "a.csv.gz", [Line(WHO, OUT, NOON_S, "1")])
    (inner / "Manifest.json").write_text("{}")
    assert bill_files([tmp_path, bill, inner]) == ([bill], [inner / "Manifest.json", inner / "Manifest.json"])
    with pytest.raises(OperationFailedError, match="There is no"):
        bill_files([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(OperationFailedError, match="no file of a bill"):
        bill_files([tmp_path / "empty"])


def test_memory_does_not_grow_with_the_lines_of_a_bill(tmp_path: Path) -> None:
    path = write_bill(tmp_path / "bill.csv.gz", [Line(WHO, OUT, NOON_S, "0.0000000007")] * 30_000)
    told: list[int] = []
    tracemalloc.start()
    bill = read_bill([path], Wanted(), lambda _path, rows: told.append(rows))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bill.bytes == {KEY: 30_000}
    assert told == [10_000, 20_000, 30_000]
    assert peak_bytes < 2 * MIB


def test_more_keys_than_memory_should_hold_are_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bills, "MOST_KEYS", 2)
    lines = [Line(f"{number:012}", OUT, NOON_S, "1") for number in range(3)]
    with pytest.raises(OperationFailedError) as raised:
        read(*lines, tmp_path=tmp_path)
    assert "--account" in raised.value.advice


def test_the_small_bill_of_the_tests_has_a_line_of_every_kind() -> None:
    bill = read_bill([BILL], Wanted())
    assert (bill.lines, bill.left_out.total(), bill.broken.total()) == (6, 3, 3)


def test_what_is_no_transfer_stands_by_its_name_with_its_lines_and_its_money(tmp_path: Path) -> None:
    lines = [
        Line(WHO, "USW2-NatGateway-Hours", NOON_S, "1", unit="Hrs", usd="0.045"),
        Line(WHO, "USW2-NatGateway-Hours", NOON_S + HOUR_S, "1", unit="Hrs", usd="0.045"),
        Line(WHO, "USW2-Requests-Tier1", NOON_S, "1000", unit="Requests", usd="much"),
        Line(WHO, "\x1b[2J", NOON_S, "1"),
        Line(WHO, "", NOON_S, "1", kind="Tax", usd="5"),
        Line(WHO, OUT, NOON_S, "1", usd="0.09"),
    ]
    for form in FORMS:
        bill = read(*lines, tmp_path=tmp_path, form=form)
        assert {name: (each.lines, each.usd) for name, each in bill.no_transfer.items()} == {
            "USW2-NatGateway-Hours": (2, Decimal("0.090")),
            "USW2-Requests-Tier1": (1, None),
            "'\\x1b[2J'": (1, Decimal("0.01")),
            "(no usage type)": (1, Decimal(5)),
        }
        assert {name: each.usd for name, each in bill.compared.items()} == {OUT: Decimal("0.09")}


def test_more_usage_types_than_memory_should_hold_are_one_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bills, "MOST_NAMES", 2)
    bill = read(*(Line(WHO, f"BoxUsage:{number}", NOON_S, "1") for number in range(5)), tmp_path=tmp_path)
    found = {name: each.lines for name, each in bill.no_transfer.items()}
    assert found == {"BoxUsage:0": 1, "BoxUsage:1": 1, bills.OTHERS: 3}


@pytest.mark.parametrize(("billed", "name"), [
    ("USE1-TransitGateway-Bytes", "TransitGateway-Bytes"),
    ("USE1-VpcEndpoint-GWLBE-Bytes", "VpcEndpoint-GWLBE-Bytes"),
    ("USE1-VpcPeering-In-Bytes", "VpcPeering-In-Bytes"),
    ("NatGateway-Bytes", "NatGateway-Bytes"),
    ("USW2-TransitGateway-Bytes", "USW2-TransitGateway-Bytes"),
    ("USE1-USW2-AWS-Out-Bytes", "USE1-USW2-AWS-Out-Bytes"),
])  # fmt: skip
def test_a_bill_of_us_east_1_has_a_prefix_that_the_contract_has_not(tmp_path: Path, billed: str, name: str) -> None:
    bill = read(Line(WHO, billed, NOON_S, "1", unit="GigaBytes"), tmp_path=tmp_path)
    assert bill.bytes == {LineKey(WHO, name, "2026-11-24"): GIB}


DAY, ACCOUNT = "2026-11-24", "123456789012"


def key(usage_type: str = "DataTransfer-Out-Bytes", day: str = DAY) -> LineKey:
    return LineKey(ACCOUNT, usage_type, day)


def test_the_real_bill_lines_are_what_their_records_are_metered_as(tmp_path: Path) -> None:
    """Each line of a real AWS bill is metered exactly, with the billed usage type and quantity."""
    billed = list(csv.DictReader((SAMPLE.parent / "expected_lines.csv").read_text().splitlines()))
    names = ("account_id", "usage_type", "usage_hour", "quantity_gb")
    rows = ([each[name] for name in names] for each in billed)
    lines = [Line(who, kind, seconds_of(hour), size) for who, kind, hour, size in rows]
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
        st.sampled_from(["000000000001", ACCOUNT]),
        st.sampled_from(["DataTransfer-Out-Bytes", "EU-DataTransfer-In-Bytes", "USW2-EU-AWS-Out-Bytes"]),
        st.integers(NOON_S // HOUR_S, NOON_S // HOUR_S + 60),
    ),
    # Above 2^53, a double would be inexact.
    st.one_of(st.integers(0, 5), st.integers(0, 2**40), st.integers(2**53, 2**62)),
    max_size=12,
)


@examples(40)
@given(usage=USAGE, form=st.sampled_from(sorted(FORMS)), name=st.sampled_from(["b.csv", "b.csv.gz", "b.parquet"]))
def test_a_bill_that_is_made_of_metered_usage_is_equal_to_it(
    tmp_path_factory: pytest.TempPathFactory, usage: dict[tuple[str, str, int], int], form: str, name: str
) -> None:
    lines = [Line(who, kind, hour * HOUR_S, quantity_of(size)) for (who, kind, hour), size in usage.items()]
    if not lines:
        lines = [Line(ACCOUNT, "BoxUsage", NOON_S, "1")]
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
    apart = {"USW2-C3DataTransfer-Out-Bytes": 10, "Unclassified-Regional-Bytes": 20}
    others = {"Partner-Link": 30, "C3DataTransfer-In-Bytes": 40}
    metered = {key(name): size for name, size in (apart | others).items()}
    found = compare({key("C3DataTransfer-In-Bytes"): 40}, metered, Tolerance(bytes=0))
    assert found.apart == apart
    assert found.own == {"Partner-Link": 30}
    assert [(row.key.usage_type, row.difference) for row in found.rows] == [("C3DataTransfer-In-Bytes", 0)]
    assert (found.beyond, found.metered) == (0, 40)


def test_what_no_on_ramp_meters_stands_apart_by_its_name_unless_its_account_meters_it() -> None:
    nat, other = key("USW2-NatGateway-Bytes"), LineKey("000000000001", "USW2-NatGateway-Bytes", DAY)
    billed = {nat: 5, other: 7, key("VpcEndpoint-Bytes"): 3, key("DataTransfer-xAZ-Out-Bytes"): 2}
    found = compare(billed, {nat._replace(period="2026-11-23"): 1}, Tolerance(bytes=0))
    apart = {name: each.bytes for name, each in found.billed_apart.items()}
    assert apart == {"USW2-NatGateway-Bytes": 7, "VpcEndpoint-Bytes": 3, "DataTransfer-xAZ-Out-Bytes": 2}
    assert "contested" in found.billed_apart["DataTransfer-xAZ-Out-Bytes"].why
    assert [(row.billed, row.metered) for row in found.rows] == [(0, 1), (5, 0)]
    assert found.beyond == 2


def test_what_one_side_alone_has_is_a_difference_that_stands_by_its_name() -> None:
    billed = {key("VpcPeering-In-Bytes"): 5, key(): 1, key(day="2026-11-23"): 1}
    found = compare(billed, {key("TransitGateway-Bytes"): 7, key(): 1}, Tolerance(bytes=0))
    assert found.one_sided == ({"VpcPeering-In-Bytes": 5}, {"TransitGateway-Bytes": 7})
    assert found.beyond == 3


@pytest.mark.parametrize(("tolerance", "billed", "metered", "holds"), [
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
])  # fmt: skip
def test_a_difference_within_one_of_both_is_tolerated_exactly(
    tolerance: Tolerance, billed: int, metered: int, holds: bool
) -> None:
    assert tolerance.holds(ComparedRow(key(), billed, metered)) is holds


@pytest.mark.parametrize(("texts", "expected"), [
    ([], None),
    (["0.5%"], Tolerance(percent=Decimal("0.5"))),
    (["1000"], Tolerance(bytes=1_000)),
    (["0"], Tolerance(bytes=0)),
    (["10 MB", "2 %"], Tolerance(bytes=10 * MIB, percent=Decimal(2))),
])  # fmt: skip
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
    others = ("NatGateway-Hours", "BoxUsage:m5.large", "USW2-TimedStorage-ByteHrs", "Requests-Tier1")
    assert not any(map(is_transfer, (*others, "USE1-DataXfer-Out:dc.3", "", "-")))
