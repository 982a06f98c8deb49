"""VPC flow logs as text: metered lines, and refused lines with their reasons."""

from __future__ import annotations

import gzip

import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.columns import fields
from metering.onramps.reading import FlowHop, ReadSettings
from tests.support.flow_logs import ACCOUNT, HOUR_S, START_S, V2, line, members, nameless, read, text

_INT64_MAX = 2**63 - 1


def test_the_default_format_is_read_line_for_line() -> None:
    found = read(gzip.compress(text(line(), line(), line(srcaddr="10.0.0.6", bytes="7"))))
    hop = FlowHop(account_id=ACCOUNT, interface_id="eni-0a", source="10.0.0.5", destination="192.0.2.7")
    hour_s = START_S - START_S % HOUR_S
    assert sorted(found.observations) == [
        (hop, hour_s, 2_000, 2, START_S, START_S + 60),
        (hop._replace(source="10.0.0.6"), hour_s, 7, 1, START_S, START_S + 60),
    ]
    assert (found.balance.lines, found.balance.header, found.balance.metered_bytes) == (4, 1, 2_007)


def test_every_known_field_finds_its_place_in_any_order() -> None:
    names = tuple(sorted(fields(), reverse=True))
    values = {"pkt_srcaddr": "2001:db8::1", "traffic_path": "8", "next_hop_az_id": "use1-az4", "resource_id": "nat-0a"}
    (only,) = read(text(line(names, **values), names=names)).observations
    assert only.subject == FlowHop(
        account_id=ACCOUNT, interface_id="eni-0a", resource_id="nat-0a", region="us-east-1", zone_id="use1-az2",
        flow_direction="egress", source="10.0.0.5", destination="192.0.2.7", packet_source="2001:db8::1", path="8",
        next_hop_zone_id="use1-az4",
    )  # fmt: skip


def test_fields_of_the_table_are_those_of_versions_2_to_11() -> None:
    assert {each.version for each in fields().values()} == {2, 3, 4, 5, 7, 8, 9, 10, 11}
    assert tuple(name for name, each in fields().items() if each.version == 2) == V2
    assert {each.attribute for each in fields().values()} == {"", *FlowHop._fields}


def test_a_field_that_aws_will_add_is_no_obstacle() -> None:
    names = ("new-field", *V2)
    assert read(text(line(names), names=names)).balance.metered == 1


@pytest.mark.parametrize("feed", ["\n", "\r\n"])
def test_headers_that_come_again_are_headers(feed: str) -> None:
    content = text(line(), " ".join(V2), line(), " ".join(V2)).decode().replace("\n", feed).encode()
    for stored in (content, gzip.compress(content), content.rstrip(), members(content, [200, 333])):
        found = read(stored)
        assert (found.balance.lines, found.balance.header, found.balance.metered) == (5, 3, 2)
        assert found.balance.refused == 0


def test_a_header_with_other_fields_changes_the_layout_from_there() -> None:
    other = ("bytes", "end", "start", "interface-id", "dstaddr")
    names = (line(other, bytes="5"), " ".join(V2), line(bytes="11"))
    found = read(text(line(), " ".join(other), *names))
    assert [(each.subject.source, each.bytes) for each in found.observations] == [
        ("10.0.0.5", 1_000),
        ("", 5),
        ("10.0.0.5", 11),
    ]
    assert (found.balance.header, found.balance.metered) == (3, 3)


def test_text_without_a_header_needs_its_fields_by_name() -> None:
    content = f"{line()}\n".encode()
    with pytest.raises(LogFileRefusedError, match="no_header: the first line names no fields") as caught:
        read(content)
    assert "Give the fields" in caught.value.detail
    found = read(content, settings=ReadSettings(fields=V2))
    assert (found.balance.header, found.balance.metered) == (0, 1)
    again = read(text(line()), settings=ReadSettings(fields=V2))
    assert (again.balance.header, again.balance.metered) == (1, 1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("account-id", "interface-id", "start", "end"), "no bytes"),
        (("account-id", "interface-id", "bytes", "end", "srcaddr"), "no start"),
        (("account-id", "bytes", "start", "end"), "no interface-id or resource-id or instance-id"),
        (("version", "srcaddr"), "no bytes; no start; no end"),
    ],
)
def test_a_log_without_a_field_that_metering_needs_is_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(LogFileRefusedError, match="missing_field") as caught:
        read(text(line(names), names=names))
    assert said in caught.value.detail


def test_a_header_that_names_a_field_twice_is_refused() -> None:
    with pytest.raises(LogFileRefusedError, match="wrong_format: the header names bytes twice"):
        read(text(line((*V2, "bytes")), names=(*V2, "bytes")))


def test_the_log_of_a_transit_gateway_is_another_kind() -> None:
    with pytest.raises(LogFileRefusedError, match="transit-gateway"):
        read(text("x", names=("version", "tgw-id", "bytes", "start", "end")))


def test_without_an_account_in_line_or_name_nothing_is_metered() -> None:
    names = ("interface-id", "bytes", "start", "end")
    (only,) = read(text(line(names), names=names)).observations
    assert only.subject.account_id == ACCOUNT
    with pytest.raises(LogFileRefusedError, match="account-id, which the file's name does not state"):
        read(text(line(names), names=names), nameless())


@pytest.mark.parametrize("stated", ["unknown", "-"])
def test_an_unknown_account_is_that_of_the_file(stated: str) -> None:
    (only,) = read(text(line(account_id=stated))).observations
    assert only.subject.account_id == ACCOUNT
    found = read(text(line(account_id=stated)), nameless())
    assert found.reasons == {"invalid_account": (1, 1_000)}


def test_a_line_may_leave_its_owner_to_the_context() -> None:
    (only,) = read(text(line(interface_id="-"))).observations
    assert (only.subject.interface_id, only.subject.resource_id) == ("", "")


def test_what_is_not_traffic_is_counted_and_not_metered() -> None:
    absent = dict.fromkeys(("srcaddr", "dstaddr", "bytes", "packets", "action"), "-")
    found = read(
        text(
            line(action="REJECT", bytes="9"),
            # Traffic that VPC block public access rejects has no bytes.
            line(action="REJECT", bytes="-"),
            line(log_status="NODATA", **absent),
            line(log_status="SKIPDATA", **absent),
        )
    )
    balance = found.balance
    assert (balance.rejected, balance.rejected_bytes, balance.nodata, balance.skipdata) == (2, 9, 1, 1)
    assert (balance.metered, balance.refused, found.observations) == (0, 0, [])


def test_a_log_without_status_says_by_absent_bytes_that_there_was_no_traffic() -> None:
    names = V2[:-1]
    found = read(text(line(names, bytes="-"), line(names, bytes="x"), line(names), names=names))
    assert (found.balance.nodata, found.balance.metered, found.reasons) == (1, 1, {"invalid_number": (1, 0)})


@pytest.mark.parametrize("number", [str(_INT64_MAX), "0", "00000000000000000000000000000000001"])
def test_any_integer_of_63_bits_is_a_number_of_bytes(number: str) -> None:
    assert read(text(line(bytes=number))).balance.metered_bytes == int(number)


def test_sums_are_exact_beyond_64_bits() -> None:
    found = read(
        text(*[line(bytes=str(_INT64_MAX))] * 5, line(bytes="1"), line(bytes=str(_INT64_MAX), action="REJECT"))
    )
    assert [each.bytes for each in found.observations] == [5 * _INT64_MAX + 1]
    assert found.balance.stated_bytes == 6 * _INT64_MAX + 1


_REFUSALS = {
    "a negative number": ({"bytes": "-5"}, "invalid_number", 0),
    "twenty digits": ({"bytes": "9" * 20}, "invalid_number", 0),
    "2^63": ({"bytes": str(2**63)}, "invalid_number", 0),
    "no number": ({"bytes": "-"}, "invalid_number", 0),
    "hexadecimal": ({"bytes": "0x1F"}, "invalid_number", 0),
    "a fraction": ({"bytes": "1.5"}, "invalid_number", 0),
    "a plus": ({"bytes": "+5"}, "invalid_number", 0),
    "a tab": ({"bytes": "5\t"}, "invalid_number", 0),
    "REJECT with a text for a number": ({"action": "REJECT", "bytes": "x"}, "invalid_number", 0),
    "no start": ({"start": "-"}, "invalid_time", 1_000),
    "a start of text": ({"start": "2026-11-24T13:00:00Z"}, "invalid_time", 1_000),
    "microseconds": ({"start": f"{START_S}000000", "end": f"{START_S}000000"}, "invalid_time", 1_000),
    "time zero": ({"start": "0"}, "invalid_time", 1_000),
    "end before start": ({"end": str(START_S - 1)}, "invalid_time", 1_000),
    "over an hour": ({"end": str(START_S + 3_601)}, "spans_over_an_hour", 1_000),
    "eleven digits": ({"account_id": "12345678901"}, "invalid_account", 1_000),
    "an account of text": ({"account_id": "acme"}, "invalid_account", 1_000),
    "a bad address": ({"srcaddr": "10.0.0.256"}, "invalid_address", 1_000),
    "a bad IPv6 address": ({"dstaddr": "2001:db8::1::2"}, "invalid_address", 1_000),
    "a name for an address": ({"dstaddr": "example.org"}, "invalid_address", 1_000),
    "an unknown action": ({"action": "DROP"}, "invalid_value", 1_000),
    "no action": ({"action": "-"}, "invalid_value", 1_000),
    "an unknown status": ({"log_status": "FINE"}, "invalid_value", 1_000),
    "an empty field": ({"interface_id": ""}, "invalid_value", 1_000),
    "a control character": ({"interface_id": "eni\x07"}, "invalid_value", 1_000),
    "a long text": ({"interface_id": "e" * 513}, "invalid_value", 1_000),
    "one more field": ({"interface_id": "eni-0a eni-0b"}, "field_count", 0),
    "two blanks": ({"interface_id": "eni-0a "}, "field_count", 0),
    "a NUL": ({"interface_id": "eni\0"}, "not_text", 0),
    "a carriage return": ({"interface_id": "eni\r"}, "not_text", 0),
}


@pytest.mark.parametrize(("changed", "reason", "stated_bytes"), _REFUSALS.values(), ids=_REFUSALS.keys())
def test_a_line_that_cannot_be_metered_is_refused_alone(
    changed: dict[str, str], reason: str, stated_bytes: int
) -> None:
    wrong = line(**changed)
    found = read(text(line(bytes="3"), line(log_status="NODATA"), wrong, line(bytes="4")))
    assert found.reasons == {reason: (1, stated_bytes)}
    ((number, said, detail, shown, said_bytes),) = found.refused
    assert (number, said, said_bytes) == (4, reason, stated_bytes)
    assert detail
    assert shown == wrong
    assert (found.balance.metered, found.balance.metered_bytes) == (2, 7)


def test_a_line_that_is_no_utf8_is_refused_alone() -> None:
    wrong = line(interface_id="eni-X").encode().replace(b"X", b"\xff\xfe")
    found = read(text(line(interface_id="eni-é")) + wrong + b"\n" + line().encode())
    assert [(each.number, each.reason) for each in found.refused] == [(3, "not_text")]
    assert "\ufffd" in found.refused[0].text
    assert found.balance.metered == 2


def test_empty_lines_are_refused() -> None:
    found = read(text(line(), "", "", line()))
    assert [(each.number, each.reason) for each in found.refused] == [(3, "field_count"), (4, "field_count")]
    assert found.balance.metered == 2


def test_milliseconds_are_milliseconds() -> None:
    found = read(text(line(start=f"{START_S}001", end=f"{START_S + 60}999"), line()))
    (only,) = found.observations
    assert (only.start_s, only.end_s, only.lines) == (START_S, START_S + 60, 2)


def test_an_observation_spans_an_hour_at_most() -> None:
    hour_s = START_S - START_S % HOUR_S
    late = line(start=str(hour_s + 3_500), end=str(hour_s + 3_700))
    (only,) = read(text(line(start=str(hour_s), end=str(hour_s + 60)), late)).observations
    assert (only.start_s, only.end_s, only.lines) == (hour_s, hour_s + 3_600, 2)


def test_lines_of_two_hours_are_two_observations() -> None:
    later = str(START_S + HOUR_S)
    found = read(text(line(), line(start=later, end=later)))
    assert sorted(each.hour_s for each in found.observations) == [1_795_525_200, 1_795_528_800]


def test_long_lines_are_refused_and_cut() -> None:
    long = line(interface_id="x" * 70_000)
    found = read(text(line(), long, line(), long))
    assert [(each.number, each.reason, len(each.text)) for each in found.refused] == [
        (3, "line_too_long", 4_096),
        (5, "line_too_long", 4_096),
    ]
    assert found.balance.metered == 2
    tiny = ReadSettings(block_bytes=100)
    assert read(text(line(), long, line(), long), settings=tiny).refused == found.refused


def test_all_refused_lines_are_counted_and_some_are_kept() -> None:
    lines = [line(bytes="x"), line(start="x"), "few fields"] * 50
    found = read(text(*lines), settings=ReadSettings(kept_refusals=7, block_bytes=300))
    assert [each.number for each in found.refused] == [2, 3, 4, 5, 6, 7, 8]
    assert found.reasons == {"invalid_number": (50, 0), "invalid_time": (50, 50_000), "field_count": (50, 0)}


def test_the_digest_gets_all_of_the_content_in_order() -> None:
    content = text(*[line(bytes=str(number)) for number in range(2_000)])
    for stored in (content, gzip.compress(content), members(content, [7, 1_000, 50_000])):
        assert read(stored, settings=ReadSettings(block_bytes=1_000)).content == content


def test_an_empty_log_has_an_empty_balance() -> None:
    found = read(gzip.compress(b""))
    assert (found.balance.lines, found.observations) == (0, [])
    assert read(text()).balance.header == 1
