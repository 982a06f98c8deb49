"""Bills as they come: three kinds of export, three kinds of files, and all that can be wrong in them."""

from __future__ import annotations

import gzip
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metering.errors import OperationFailedError
from metering.onramps import bill as bills
from metering.onramps.bill import Bill, bill_files, read_bill
from metering.onramps.bill_lines import Broken, LeftOut, LineKey, Wanted
from metering.units import DAY_S, GIB, HOUR_S, MIB
from tests.support.bills import BILL, FORMS, Line, csv_bytes, cur, focus, quantity_of, write_bill

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
        Line(WHO, OUT, NOON_S, "-3", kind="Credit"),
        Line(WHO, OUT, NOON_S, "1", unit="Requests"),
    ]
    bill = read(*lines, tmp_path=tmp_path, name=name, form=form)

    assert bill.bytes == {KEY: 253_044, LineKey(WHO, OUT, "2026-11-25"): 2 * GIB}
    assert bill.left_out == {LeftOut.NO_TRANSFER: 1, LeftOut.NO_USAGE: 1}
    assert bill.broken == {Broken.UNIT: 1}
    assert (bill.read, bill.lines, bill.names) == (6, 3, {form})


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
            # As a crawler types it: the zero in front is gone.
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


def test_names_of_columns_in_lower_case_and_columns_that_nobody_knows_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "athena.csv"
    row = {name.lower(): value for name, value in focus(Line(WHO, OUT, NOON_S, "1")).items()} | {"tags": 'a,"b"\nc'}
    path.write_bytes(b"\xef\xbb\xbf" + csv_bytes([row]))
    assert read_bill([path], Wanted()).bytes == {KEY: GIB}


def test_focus_without_a_consumed_quantity_has_the_priced_one(tmp_path: Path) -> None:
    path = tmp_path / "focus.csv"
    row = focus(Line(WHO, OUT, NOON_S, "1.5")) | {"ConsumedQuantity": "", "ConsumedUnit": "", "PricingUnit": "GiB"}
    path.write_bytes(csv_bytes([row]))
    assert read_bill([path], Wanted()).bytes == {KEY: 3 * GIB // 2}


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


@pytest.mark.parametrize(
    "start",
    [
        "",
        "yesterday",
        "11/24/2026",
        "2026-13-01",
        "2026-11-24T12:00:00+05:00",
        "1796000000",
        "0001-01-01",
        "9999-12-31",
    ],
)
def test_what_is_no_time_in_utc_is_broken(tmp_path: Path, start: str) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(csv_bytes([cur(Line(WHO, OUT, NOON_S, "1")) | {"line_item_usage_start_date": start}]))
    assert read_bill([path], Wanted()).broken == {Broken.TIME: 1}


def test_a_usage_type_that_looks_like_a_formula_is_no_data_transfer(tmp_path: Path) -> None:
    bill = read(Line(WHO, "=HYPERLINK(1)-DataTransfer-Out-Bytes", NOON_S, "1"), tmp_path=tmp_path)
    assert bill.left_out == {LeftOut.NO_TRANSFER: 1}


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
    # A tenth of a byte a line: in the sum of GB it would be a byte.
    lines = [Line(WHO, OUT, NOON_S, quantity_of(7)) for _ in range(100)]
    bill = read(*lines, tmp_path=tmp_path)
    assert bill.bytes == {KEY: 700}
    assert bill.exact == 100 * Decimal(quantity_of(7)) * GIB
    assert bill.rounding == 700 - bill.exact != 0


def test_what_is_not_asked_for_is_left_out_with_its_reason(tmp_path: Path) -> None:
    lines = [
        Line(WHO, OUT, NOON_S, "1"),
        Line("111111111111", OUT, NOON_S, "1"),
        Line(WHO, OUT, NOON_S - DAY_S, "1"),
        Line(WHO, OUT, NOON_S, "1", hours=30 * 24),
    ]
    wanted = Wanted(accounts=frozenset({WHO}), from_s=NOON_S - HOUR_S)
    bill = read(*lines, tmp_path=tmp_path, wanted=wanted)
    assert bill.left_out == {LeftOut.OTHER_ACCOUNT: 1, LeftOut.OTHER_TIME: 1, LeftOut.LONG: 1}
    by_month = read(*lines, tmp_path=tmp_path, wanted=replace(wanted, by="month"))
    assert by_month.bytes == {LineKey(WHO, OUT, "2026-11"): 2 * GIB}


@pytest.mark.parametrize(
    ("body", "words"),
    [
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
    ],
)
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
    try:
        bill = read_bill([path], Wanted(), lambda _path, rows: told.append(rows))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
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
        assert {name: (each.lines, each.usd) for name, each in bill.no_transfer.sums.items()} == {
            "USW2-NatGateway-Hours": (2, Decimal("0.090")),
            "USW2-Requests-Tier1": (1, None),
            "'\\x1b[2J'": (1, Decimal("0.01")),
            "(no usage type)": (1, Decimal(5)),
        }
        assert {name: each.usd for name, each in bill.compared.sums.items()} == {OUT: Decimal("0.09")}


def test_more_usage_types_than_memory_should_hold_are_one_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metering.onramps import bill as named

    monkeypatch.setattr(named, "MOST_NAMES", 2)
    bill = read(*(Line(WHO, f"BoxUsage:{number}", NOON_S, "1") for number in range(5)), tmp_path=tmp_path)
    assert {name: each.lines for name, each in bill.no_transfer.sums.items()} == {
        "BoxUsage:0": 1, "BoxUsage:1": 1, named.OTHERS: 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("billed", "name"),
    [
        ("USE1-TransitGateway-Bytes", "TransitGateway-Bytes"),
        ("USE1-VpcEndpoint-GWLBE-Bytes", "VpcEndpoint-GWLBE-Bytes"),
        ("USE1-VpcPeering-In-Bytes", "VpcPeering-In-Bytes"),
        ("NatGateway-Bytes", "NatGateway-Bytes"),
        ("USW2-TransitGateway-Bytes", "USW2-TransitGateway-Bytes"),
        ("USE1-USW2-AWS-Out-Bytes", "USE1-USW2-AWS-Out-Bytes"),
    ],
)
def test_a_bill_of_us_east_1_has_a_prefix_that_the_contract_has_not(tmp_path: Path, billed: str, name: str) -> None:
    bill = read(Line(WHO, billed, NOON_S, "1", unit="GigaBytes"), tmp_path=tmp_path)
    assert bill.bytes == {LineKey(WHO, name, "2026-11-24"): GIB}
