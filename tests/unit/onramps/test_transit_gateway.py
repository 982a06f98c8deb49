"""Transit gateway flow logs: told from VPC flow logs by their fields, and metered as processing on the sender."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.context.document import Context
from metering.onramps.context.facts import FlowLog
from tests.unit.onramps.readers import Row, gzipped, measured, reasons, records

OWNER, SENDER = "111111111111", "222222222222"
KEY = (
    f"AWSLogs/{OWNER}/vpcflowlogs/us-west-2/2026/11/24/{OWNER}_vpcflowlogs_us-west-2_fl-0a1b_20261124T1305Z_ab12.log.gz"
)
FIELDS = [
    *("version", "resource-type", "account-id", "tgw-id", "tgw-attachment-id", "tgw-src-vpc-account-id", "bytes"),
    *("start", "end", "log-status", "packets-lost-no-route", "region", "flow-direction"),
]
VALUES = {
    "version": "6",
    "resource-type": "TransitGateway",
    "account-id": OWNER,
    "tgw-id": "tgw-1",
    "tgw-attachment-id": "tgw-attach-1",
    "tgw-src-vpc-account-id": SENDER,
    "bytes": "1000",
    "start": "1795525140",
    "end": "1795525200",
    "log-status": "OK",
    "packets-lost-no-route": "3",
    "region": "us-west-2",
    "flow-direction": "ingress",
}


def line(**changes: str) -> str:
    values = VALUES | {name.replace("_", "-"): value for name, value in changes.items()}
    return " ".join(values[name] for name in FIELDS)


def text(*lines: str) -> str:
    return "\n".join([" ".join(FIELDS), *lines]) + "\n"


def test_what_enters_is_processed_for_the_sender_and_what_leaves_is_not_metered() -> None:
    result = measured(text(line(), line(bytes="500"), line(flow_direction="egress", bytes="1500")), KEY)
    assert records(result) == [
        Row(SENDER, "tgw-attach-1", "out", "us-west-2", "us-west-2", "USW2-TransitGateway-Bytes", 1500)
    ]
    assert (result.balance.rejected, result.balance.rejected_bytes) == (1, 1500)


def test_where_gateway_and_attachment_are_logged_the_gateways_log_counts() -> None:
    logs = {
        id_: FlowLog(id_, resource, kind, 0, (), "ALL", "arn:aws:s3:::logs", "s3", OWNER, "us-west-2")
        for id_, resource, kind in (("fl-wide", "tgw-1", "tgw"), ("fl-0a1b", "tgw-attach-1", "tgw-attach"))
    }
    alone, both = (
        Context(sha256="0" * 64, effective_s=0, flow_logs={each.id: each for each in chosen})
        for chosen in ([logs["fl-0a1b"]], logs.values())
    )
    assert measured(text(line()), KEY, context=alone).balance.metered_bytes == 1000
    assert measured(text(line()), KEY, context=both).shadowed == (("fl-wide", 1, 1000),)


def test_text_and_parquet_say_the_same_packed_or_not() -> None:
    lines = [line(), line(bytes="7", flow_direction="egress"), line(log_status="NODATA", bytes="-")]
    plain = text(*lines)
    rows = [dict(zip(FIELDS, each.split(" "), strict=True)) for each in lines]
    table: dict[str, list[object]] = {name.replace("-", "_"): [row[name] for row in rows] for name in FIELDS}
    for name in ("bytes", "start", "end"):
        table[name] = [None if value == "-" else int(str(value)) for value in table[name]]
    file = io.BytesIO()
    pq.write_table(pa.table(table), file, compression="gzip")
    bodies = [plain.encode(), gzipped(plain), zstandard.compress(plain.encode()), file.getvalue()]
    found = [measured(body, KEY) for body in bodies]
    assert [records(each) for each in found] == [records(found[0])] * 4
    assert {(each.balance.metered, each.balance.rejected, each.balance.nodata) for each in found} == {(1, 1, 1)}


@pytest.mark.parametrize(("sender", "account"), [("-", OWNER), ("unknown", OWNER), (SENDER, SENDER)])
def test_without_a_sender_the_account_is_the_gateways(sender: str, account: str) -> None:
    assert records(measured(text(line(tgw_src_vpc_account_id=sender)), KEY))[0].account == account


def test_lost_records_and_minutes_without_traffic_are_counted_apart() -> None:
    result = measured(text(line(log_status="NODATA", bytes="-"), line(log_status="SKIPDATA", bytes="-")), KEY)
    assert (result.balance.nodata, result.balance.skipdata, result.balance.metered) == (1, 1, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bytes": "-"}, "invalid_number"),
        ({"bytes": "-5"}, "invalid_number"),
        ({"bytes": "99999999999999999999"}, "invalid_number"),
        ({"start": "x"}, "invalid_time"),
        ({"end": "1795525000"}, "invalid_time"),
        ({"end": "1795529000"}, "spans_over_an_hour"),
        ({"flow_direction": "-"}, "invalid_value"),
        ({"tgw_src_vpc_account_id": "22222222222"}, "invalid_account"),
        ({"region": "us-west-2 x"}, "field_count"),
    ],
)
def test_a_line_that_cannot_be_metered_is_refused_with_the_reason(changes: dict[str, str], reason: str) -> None:
    assert reasons(measured(text(line(**changes), line()), KEY)) == {reason: 1}


def test_times_in_milliseconds_are_times() -> None:
    result = measured(text(line(start="1795525140000", end="1795525200000")), KEY)
    assert [(total.start_s, total.end_s) for total in result.totals.values()] == [(1795525140, 1795525200)]


def test_a_log_that_does_not_say_which_way_is_refused_as_a_whole() -> None:
    fields = [name for name in FIELDS if name != "flow-direction"]
    with pytest.raises(LogFileRefusedError, match=r"missing_field: .*flow-direction"):
        measured(" ".join(fields) + "\n", KEY)


def test_headers_that_repeat_are_headers() -> None:
    result = measured(gzipped(text(line())) + gzipped(text(line())), KEY)
    assert (result.balance.header, result.balance.metered_bytes) == (2, 2000)


def test_a_vpc_flow_log_of_the_same_name_is_still_one() -> None:
    body = (
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
        f"log-status\n2 {OWNER} eni-1 10.0.0.1 10.0.0.2 1 2 6 1 40 1795525140 1795525200 ACCEPT OK\n"
    )
    assert [row.resource for row in records(measured(body, KEY))] == ["eni-1"]
