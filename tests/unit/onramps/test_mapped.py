"""Any other log, by a mapping, which is validated with messages; rows are exact, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from metering.errors import LogFileRefusedError, SettingsError
from metering.onramps.mapping import NumberRule, OptionalTextRule, TimeRule, mapped_kind, parse_mapping
from metering.onramps.reading import FileName
from tests.unit.onramps.readers import Row, gzipped, measured, reasons, records

if TYPE_CHECKING:
    from metering.onramps.ingest.totals import Measured

EXAMPLE = Path(__file__).parents[3] / "docs" / "mapping.toml"
ACCOUNT = "012345678901"
NAME = FileName(kind="mapped", identity="")
CSV = """
format = "csv"
account = "account"
service = { constant = "AmazonEC2" }
resource = "host"
direction = "way"
from = "from"
to = "to"
bytes = { column = "bytes", unit = "bytes" }
start = { column = "at", format = "epoch_s" }
"""
HEADER = "account,host,way,from,to,bytes,at"
ROW = f"{ACCOUNT},h1,out,us-west-2,internet,10,1795525200"


def read(mapping: str, content: str | bytes, *, account: str = "") -> Measured:
    name = FileName(kind="mapped", identity="", account_id=account)
    return measured(content, kind=mapped_kind(mapping), name=name)


def problems(mapping: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_mapping(mapping)
    return list(caught.value.problems)


def transfer(**changes: object) -> str:
    row: dict[str, object] = {
        "status": "done", "tenant": {"aws_account": 12345678901}, "kind": "egress", "origin": "edge",
        "target": "client", "host": "edge-7", "size": 1.5, "began": "2026-11-24T13:00:00.750Z", "took": 1500,
    }  # fmt: skip
    return json.dumps(row | changes)


def test_the_example_of_the_documentation_meters() -> None:
    incoming = transfer(kind="ingress", origin="elsewhere", target="edge", size=2)
    text = "\n".join([transfer(), transfer(status="cancelled"), incoming, transfer(kind="sideways")])
    result = read(EXAMPLE.read_text(), text)
    assert records(result) == [
        Row(ACCOUNT, "edge-7", "in", "unknown", "us-west-2/usw2-az1", "", 2048),
        Row(ACCOUNT, "edge-7", "out", "us-west-2/usw2-az1", "internet", "", 1536),
    ]
    assert {(share.usage_type, share.rule, share.reason) for share in result.shares} == {
        ("USW2-DataTransfer-Out-Bytes", "mapping", ""),
        ("USW2-Unclassified-In-Bytes", "mapping", "peer_not_stated"),
    }
    assert (result.balance.rejected, result.balance.rejected_bytes) == (1, 1536)
    assert reasons(result) == {"invalid_value": 1}
    assert {(total.start_s, total.end_s) for total in result.totals.values()} == {(1795525200, 1795525202)}


def test_the_example_shows_every_key() -> None:
    text = EXAMPLE.read_text()
    keys = ("otherwise", "digits", "differs_from", "constant", "values", "delimiter", "columns", "[end]", "usage_type")
    assert all(key in text for key in keys)


def test_csv_has_its_columns_in_any_order_with_others_between() -> None:
    header = "at,x,bytes,to,from,way,host,account"
    row = f"1795525200,?,10,internet,us-west-2,out,h1,{ACCOUNT}"
    assert records(read(CSV, f"\ufeff{header}\n{row}\n")) == records(read(CSV, f"{HEADER}\n{ROW}"))


def test_csv_quotes_and_delimiters_are_kept_and_columns_may_be_named_without_a_header() -> None:
    mapping = CSV + '[csv]\ndelimiter = ";"\n'
    text = f"{HEADER.replace(',', ';')}\n{ROW.replace(',', ';').replace('h1', chr(34) + 'h;1' + chr(34))}"
    assert [row.resource for row in records(read(mapping, text))] == ["h;1"]
    columns = json.dumps(HEADER.split(","))
    assert records(read(CSV + f"[csv]\ncolumns = {columns}\n", ROW)) == records(read(CSV, f"{HEADER}\n{ROW}"))


def test_a_header_that_lacks_columns_refuses_the_file_with_the_nearest_names() -> None:
    with pytest.raises(LogFileRefusedError) as caught:
        read(CSV, HEADER.replace("bytes", "Bytes").replace("host", "hosts"))
    assert caught.value.reason == "missing_field"
    assert "no column 'bytes': did you mean 'Bytes'?" in caught.value.detail
    assert "no column 'host': did you mean 'hosts'?" in caught.value.detail


@pytest.mark.parametrize("pack", [gzipped, lambda text: zstandard.compress(text.encode()), str.encode])
def test_packed_or_not_it_is_the_same_content(pack: object) -> None:
    assert callable(pack)
    text = f"{HEADER}\n{ROW}\n"
    assert read(CSV, pack(text)) == read(CSV, text)


@pytest.mark.parametrize(("row", "reason"), [
    (f"{ACCOUNT},h1,out", "field_count"),
    (ROW + ",more", "field_count"),
    (ROW.replace("10,", "x,"), "invalid_number"),
    (ROW.replace("10,", "-1,"), "invalid_number"),
    (ROW.replace("10,", "1.5,"), "invalid_number"),
    (ROW.replace("10,", "1e400,"), "invalid_number"),
    (ROW.replace("10,", "NaN,"), "invalid_number"),
    (ROW.replace("10,", ","), "invalid_number"),
    (ROW.replace("1795525200", "soon"), "invalid_time"),
    (ROW.replace("1795525200", "99999999999999"), "invalid_time"),
    (ROW.replace("h1", ""), "invalid_value"),
    (ROW.replace("out", "both"), "invalid_value"),
    (ROW.replace("us-west-2", "us-west-2a"), "invalid_value"),
    (ROW.replace(ACCOUNT, "12345678901"), "invalid_account"),
    (ROW.replace(ACCOUNT, ""), "invalid_account"),
    ('"' + ROW, "field_count"),
])  # fmt: skip
def test_a_row_that_does_not_fit_is_refused_with_the_reason_and_its_neighbours_are_metered(
    row: str, reason: str
) -> None:
    result = read(CSV, f"{HEADER}\n{ROW}\n{row}\n{ROW}")
    assert reasons(result) == {reason: 1}
    assert result.balance.metered_bytes == 20


def test_a_log_without_accounts_is_billed_to_the_only_account_that_is_allowed() -> None:
    text = f"{HEADER}\n{ROW.replace(ACCOUNT, '')}"
    assert [row.account for row in records(read(CSV, text, account="111111111111"))] == ["111111111111"]


@pytest.mark.parametrize("line", ["{", "[1]", "12", '"text"', "[" * 100_000, '{"a": 1e999999}', "\x00"])
def test_a_line_that_is_no_json_object_is_refused(line: str) -> None:
    result = read(EXAMPLE.read_text(), f"{line}\n{transfer()}")
    assert result.balance.refused + result.balance.rejected == 1
    assert result.balance.metered == 1


def test_a_transfer_may_take_an_hour_and_not_more() -> None:
    mapping = CSV + 'end = { column = "until", format = "epoch_s" }\n'
    rows = [f"{ROW},{1795525200 + seconds}" for seconds in (0, 3600, 3601, -1)]
    result = read(mapping, "\n".join([f"{HEADER},until", *rows]))
    assert reasons(result) == {"spans_over_an_hour": 1, "invalid_time": 1}
    assert result.balance.metered == 2


def test_a_mapping_of_another_text_has_other_rules() -> None:
    first, second = mapped_kind(CSV), mapped_kind(CSV + "# changed")
    assert first.rules.startswith("mapped/")
    assert first.rules != second.rules
    assert first.recognise("any/key.csv") == FileName(kind="mapped", identity="")


def test_all_problems_are_said_at_once_in_words() -> None:
    mapping = """
    format = "jsonl"
    acount = "a"
    service = { constant = "A", column = "b" }
    resource = 7
    direction = { column = "d", valeus = {} }
    from = { column = "f", values = { a = 1 } }
    bytes = { column = "b", unit = "kb" }
    start = { column = "s", format = "iso" }
    end = "e"
    duration = { constant = -1 }
    filter = "x"
    csv = 3
    """
    found = "\n".join(problems(mapping))
    for problem in (
        "has no 'acount': did you mean 'account'?", "format is one of ndjson, csv, not 'jsonl'",
        "service needs either a column or a constant", "resource is the name of a column, or a table",
        "direction has no 'valeus': did you mean 'values'?", "from.values is a table of texts",
        "to is missing", "bytes.unit has no 'kb': did you mean 'kB'?",
        "start.format is one of epoch_s, epoch_ms, rfc3339 or a strptime pattern, not 'iso'",
        "duration.constant is a whole number, not below 0", "both end and duration", "write [[filter]]",
        "csv is a table",
    ):  # fmt: skip
        assert problem in found


def test_columns_that_a_headerless_file_does_not_have_are_said_with_the_nearest() -> None:
    assert problems(CSV + '[csv]\ncolumns = ["account", "hots", "way", "from", "to", "bytes", "at"]\n') == [
        "csv.columns has no 'host': did you mean 'hots'?"
    ]


@pytest.mark.parametrize("mapping", ["", "format = ", "format = 'csv'"])
def test_what_is_no_mapping_is_refused_in_words(mapping: str) -> None:
    assert problems(mapping)


@pytest.mark.parametrize("table", [
    *(f"[csv]\n{keys}" for keys in ('delimiter = ";;"', 'columns = ["a", "a"]', "colums = []", "delimiter = 7")),
    *(f"[[filter]]\n{keys}" for keys in ('column = "a"', 'equals = ["a"]')),
    '[[filter]]\ncolumn = "a"\nequals = ["a"]\ndiffers_from = []',
])  # fmt: skip
def test_a_csv_table_or_a_filter_that_makes_no_sense_is_refused(table: str) -> None:
    assert problems(f"{CSV}{table}\n")


def test_units_are_exact() -> None:
    assert NumberRule(column="n", unit="GB").of({"n": "1.1"}.get) == 1_100_000_000
    for rule, number in ((NumberRule(column="n", unit="GiB"), "1.1"), (NumberRule(column="n"), f"1.{'0' * 39}1")):
        with pytest.raises(ValueError, match="not whole"):
            rule.of({"n": number}.get)


@pytest.mark.parametrize(("pattern", "text"), [
    ("epoch_s", "1795525200.75"),
    ("epoch_ms", "1795525200750"),
    ("rfc3339", "2026-11-24T14:00:00.75+01:00"),
    ("%d/%b/%Y:%H:%M:%S.%f %z", "24/Nov/2026:13:00:00.75 +0000"),
    ("%Y-%m-%d %H:%M:%S.%f", "2026-11-24 13:00:00.75"),
])  # fmt: skip
def test_forms_of_time_say_the_same_moment(pattern: str, text: str) -> None:
    assert TimeRule(column="t", format=pattern).of({"t": text}.get) == 1795525200_750_000


def test_a_text_may_be_a_number_or_a_truth_and_a_list_is_none() -> None:
    rule = OptionalTextRule(column="x")
    assert [rule.of({"x": value}.get) for value in ("a", 7, True, None, [1])] == ["a", "7", "true", "", ""]
