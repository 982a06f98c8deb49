"""Transit gateway flow logs are recognised by fields, and metered as processing and between regions, with payers."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.hours import hour_of
from metering.onramps.context.document import Attachment, Context, FlowLog, MeteringPolicy
from metering.onramps.context.document import MeteringRule as Rule
from metering.onramps.context.inventory import context_of
from metering.units import HOUR_S
from tests.support.describing import described, place
from tests.unit.onramps.readers import Row, gzipped, measured, reasons, records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.onramps.reading import Block

OWNER, SENDER = "111111111111", "222222222222"
KEY = f"AWSLogs/{OWNER}/vpcflowlogs/{OWNER}_vpcflowlogs_us-west-2_fl-0a1b_20261124T1305Z_ab12.log.gz"
VALUES = {
    "version": "6", "resource-type": "TransitGateway", "account-id": OWNER, "tgw-id": "tgw-1",
    "tgw-attachment-id": "tgw-attach-1", "tgw-src-vpc-account-id": SENDER, "bytes": "1000", "start": "1795525140",
    "end": "1795525200", "log-status": "OK", "packets-lost-no-route": "3", "region": "us-west-2",
    "flow-direction": "ingress",
}  # fmt: skip
FLOW = {
    "tgw-pair-attachment-id": "-", "tgw-dst-vpc-account-id": "-", "srcaddr": "10.2.0.5", "dstaddr": "10.6.0.9",
    "srcport": "40000", "dstport": "443", "protocol": "6",
}  # fmt: skip
"""What a log can have as well: the other attachment, and the flow."""
FIELDS, WIDE = list(VALUES), [*VALUES, *FLOW]
WEST, EAST = "us-west-2", "us-east-1"
KNOWN = Context(
    sha256="1" * 64,
    effective_s=0,
    attachments=(
        Attachment("tgw-attach-1", "tgw-1", "vpc", SENDER, OWNER),
        Attachment("tgw-attach-dx", "tgw-1", "direct-connect-gateway", SENDER, OWNER),
        Attachment("tgw-attach-fw", "tgw-1", "network-function", SENDER, OWNER),
        Attachment("tgw-attach-here", "tgw-1", "peering", "", OWNER, WEST),
        Attachment("tgw-attach-lost", "tgw-1", "peering", "", OWNER, ""),
        Attachment("tgw-attach-peer", "tgw-1", "peering", "", OWNER, EAST),
        Attachment("tgw-attach-vpn", "tgw-1", "vpn", SENDER, OWNER),
    ),
    policy_places=((OWNER, WEST),),
)
"""The gateway's attachments are known, and that it has no metering policy."""
PROCESSED = Row(SENDER, "tgw-attach-1", "out", WEST, WEST, "USW2-TransitGateway-Bytes", 1000)


def line(*, names: Sequence[str] = FIELDS, **changes: str) -> str:
    values = VALUES | FLOW | {name.replace("_", "-"): value for name, value in changes.items()}
    return " ".join(values[name] for name in names)


line_of = partial(line, names=WIDE)


def text(*lines: str, names: Sequence[str] = FIELDS) -> str:
    return "\n".join([" ".join(names), *lines]) + "\n"


wide = partial(text, names=WIDE)
LEAVING = {"tgw_attachment_id": "tgw-attach-peer", "flow_direction": "egress", "tgw_pair_attachment_id": "tgw-attach-1"}


def test_what_enters_is_processed_for_the_sender_and_what_leaves_is_not_metered() -> None:
    lines = line(), line(bytes="500"), line(flow_direction="egress", bytes="1500")
    result = measured(text(*lines), KEY, context=KNOWN)
    assert records(result) == [PROCESSED._replace(bytes=1500)]
    assert (result.balance.rejected, result.balance.rejected_bytes) == (1, 1500)


def test_what_enters_by_a_peering_attachment_is_not_processed_again() -> None:
    result = measured(text(line(tgw_attachment_id="tgw-attach-peer"), line()), KEY, context=KNOWN)
    assert records(result) == [PROCESSED]
    assert (result.balance.rejected, result.balance.rejected_bytes) == (1, 1000)


@pytest.mark.parametrize("attachment", ["tgw-attach-vpn", "tgw-attach-dx"])
def test_what_vpn_and_direct_connect_send_into_a_gateway_is_processed(attachment: str) -> None:
    result = measured(text(line(tgw_attachment_id=attachment, tgw_src_vpc_account_id="-")), KEY, context=KNOWN)
    assert records(result) == [PROCESSED._replace(resource=attachment)]


@pytest.mark.parametrize("attachment", ["tgw-attach-new", "tgw-attach-fw"])
def test_an_attachment_of_unknown_type_is_unclassified_with_a_reason_of_its_own(attachment: str) -> None:
    for direction, far, traffic in (("ingress", WEST, "Regional"), ("egress", "unknown", "Out")):
        result = measured(text(line(tgw_attachment_id=attachment, flow_direction=direction)), KEY, context=KNOWN)
        if attachment == "tgw-attach-fw" and direction == "egress":
            assert not records(result)
            continue
        usage_type = f"USW2-Unclassified-{traffic}-Bytes"
        assert records(result) == [Row(OWNER, attachment, "out", WEST, far, usage_type, 1000)]
        assert {share.reason for share in result.shares} == {"attachment_unknown"}


def test_what_leaves_for_a_gateway_of_another_region_is_metered_once_on_the_side_that_sends() -> None:
    result = measured(wide(line_of(**LEAVING)), KEY, context=KNOWN)
    # In the table of the contract, the usage type contains the names of both regions.
    assert records(result) == [Row(SENDER, "tgw-attach-peer", "out", WEST, EAST, "", 1000)]
    assert {share.usage_type for share in result.shares} == {"USW2-USE1-AWS-Out-Bytes"}
    assert not result.balance.rejected


def test_what_leaves_for_a_gateway_of_the_same_region_is_free() -> None:
    result = measured(text(line(tgw_attachment_id="tgw-attach-here", flow_direction="egress")), KEY, context=KNOWN)
    assert not records(result)
    assert result.balance.rejected_bytes == 1000


def test_a_peering_to_an_unknown_region_is_unclassified_with_a_reason_of_its_own() -> None:
    lost = "tgw-attach-lost"
    result = measured(text(line(tgw_attachment_id=lost, flow_direction="egress")), KEY, context=KNOWN)
    assert records(result) == [Row(OWNER, lost, "out", WEST, "unknown", "USW2-Unclassified-Out-Bytes", 1000)]
    assert {share.reason for share in result.shares} == {"peer_region_unknown"}


def test_without_the_policies_of_a_gateway_the_payer_is_known_only_if_all_have_one_account() -> None:
    unasked = replace(KNOWN, policy_places=())
    result = measured(wide(line_of(tgw_pair_attachment_id="tgw-attach-vpn")), KEY, context=unasked)
    assert {share.reason for share in result.shares} == {"payer_unknown"}
    assert records(result) == [PROCESSED._replace(account=OWNER, usage_type="USW2-Unclassified-Regional-Bytes")]
    owned = replace(unasked, attachments=tuple(each._replace(owner_id=OWNER) for each in KNOWN.attachments))
    mine = line_of(tgw_pair_attachment_id="tgw-attach-vpn", tgw_src_vpc_account_id=OWNER)
    assert records(measured(wide(mine), KEY, context=owned)) == [PROCESSED._replace(account=OWNER)]


def test_where_gateway_and_attachment_are_logged_the_gateways_log_counts() -> None:
    logs = {
        id_: FlowLog(id_, resource, kind, 0, (), "ALL", "arn:aws:s3:::logs", "s3", OWNER, "us-west-2")
        for id_, resource, kind in (("fl-wide", "tgw-1", "tgw"), ("fl-0a1b", "tgw-attach-1", "tgw-attach"))
    }
    alone, both = (replace(KNOWN, flow_logs=chosen) for chosen in ({"fl-0a1b": logs["fl-0a1b"]}, logs))
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
    found = [measured(body, KEY, context=KNOWN) for body in bodies]
    assert [records(each) for each in found] == [records(found[0])] * 4
    assert {(each.balance.metered, each.balance.rejected, each.balance.nodata) for each in found} == {(1, 1, 1)}


def test_without_a_sender_the_account_is_that_of_the_attachment_and_one_that_the_context_contradicts_is_none() -> None:
    for sender in ("-", "unknown", SENDER):
        assert records(measured(text(line(tgw_src_vpc_account_id=sender)), KEY, context=KNOWN)) == [PROCESSED]
    result = measured(text(line(tgw_src_vpc_account_id="333333333333")), KEY, context=KNOWN)
    assert {share.reason for share in result.shares} == {"payer_unknown"}


def test_lost_records_and_minutes_without_traffic_are_counted_apart() -> None:
    result = measured(text(line(log_status="NODATA", bytes="-"), line(log_status="SKIPDATA", bytes="-")), KEY)
    assert (result.balance.nodata, result.balance.skipdata, result.balance.metered) == (1, 1, 0)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"bytes": "-"}, "invalid_number"),
    ({"bytes": "-5"}, "invalid_number"),
    ({"bytes": "99999999999999999999"}, "invalid_number"),
    ({"start": "x"}, "invalid_time"),
    ({"end": "1795525000"}, "invalid_time"),
    ({"end": "1795529000"}, "spans_over_an_hour"),
    ({"flow_direction": "-"}, "invalid_value"),
    ({"tgw_src_vpc_account_id": "22222222222"}, "invalid_account"),
    ({"region": "us-west-2 x"}, "field_count"),
])  # fmt: skip
def test_a_line_that_cannot_be_metered_is_refused_with_the_reason(changes: dict[str, str], reason: str) -> None:
    assert reasons(measured(text(line(**changes), line()), KEY)) == {reason: 1}


def test_a_log_that_does_not_say_which_way_is_refused_as_a_whole() -> None:
    fields = [name for name in FIELDS if name != "flow-direction"]
    with pytest.raises(LogFileRefusedError, match=r"missing_field: .*flow-direction"):
        measured(" ".join(fields) + "\n", KEY)


def test_headers_that_repeat_are_headers_and_times_in_milliseconds_are_times() -> None:
    result = measured(gzipped(text(line())) + gzipped(text(line(start="1795525140000", end="1795525200000"))), KEY)
    assert (result.balance.header, result.balance.metered_bytes) == (2, 2000)
    assert [(total.start_s, total.end_s) for total in result.totals.values()] == [(1795525140, 1795525200)]


def test_a_vpc_flow_log_of_the_same_name_is_still_one() -> None:
    body = (
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
        f"log-status\n2 {OWNER} eni-1 10.0.0.1 10.0.0.2 1 2 6 1 40 1795525140 1795525200 ACCEPT OK\n"
    )
    assert [row.resource for row in records(measured(body, KEY))] == ["eni-1"]


RECEIVER = "444444444444"
H = hour_of(int(VALUES["start"]))
SOURCE, DESTINATION, GATEWAY = "source-attachment-owner", "destination-attachment-owner", "transit-gateway-owner"
UNKNOWN = ""


def rule(
    number: int,
    payer: str,
    asked: Mapping[str, str] = MappingProxyType({}),
    *,
    effective_s: int = H,
    removed: bool = False,
) -> Rule:
    return Rule(number, payer, effective_s, removed)._replace(**asked)  # type: ignore[arg-type]  # by name


def policy(*rules: Rule, **changes: object) -> MeteringPolicy:
    made = MeteringPolicy("tgw-mp-1", "tgw-1", "available", H - HOUR_S, (), tuple(sorted(rules)))
    return made._replace(**changes)  # type: ignore[arg-type]  # by name


def knowing(*policies: MeteringPolicy) -> Context:
    to_receiver = Attachment("tgw-attach-2", "tgw-1", "vpc", RECEIVER, OWNER)
    return replace(KNOWN, attachments=(*KNOWN.attachments, to_receiver), metering_policies=policies)


def payer(context: Context, **changes: str) -> str:
    """Payer of traffic from a VPC of SENDER to a VPC of RECEIVER through OWNER's gateway; empty if unknown."""
    flow = {"tgw_pair_attachment_id": "tgw-attach-2", "tgw_dst_vpc_account_id": RECEIVER} | changes
    result = measured(wide(line_of(**flow)), KEY, context=context)
    [row] = records(result)
    [share] = result.shares
    if share.reason:
        told = share.reason, row.account, row.usage_type
        assert told == ("payer_unknown", OWNER, "USW2-Unclassified-Regional-Bytes")
        return UNKNOWN
    assert row.usage_type == "USW2-TransitGateway-Bytes"
    return row.account


ANY = rule(90, DESTINATION)


@pytest.mark.parametrize(("asked", "fits"), [
    ({}, True),
    ({"source_id": "tgw-attach-1"}, True),
    ({"source_id": "tgw-attach-2"}, False),
    ({"source_kind": "vpc", "destination_kind": "vpc"}, True),
    ({"destination_kind": "vpn"}, False),
    ({"source_cidr": "10.2.0.0/16", "destination_cidr": "10.6.0.0/24"}, True),
    ({"source_cidr": "10.3.0.0/16"}, False),
    ({"source_cidr": "2600:1f14::/36"}, False),
    ({"destination_ports": "443"}, True),
    ({"destination_ports": "400-500", "protocol": "6"}, True),
    ({"destination_ports": "444-500"}, False),
    ({"source_ports": "0-39999"}, False),
    ({"protocol": "17"}, False),
])  # fmt: skip
def test_the_first_rule_that_fits_a_flow_says_who_pays(asked: dict[str, str], fits: bool) -> None:
    context = knowing(policy(rule(10, GATEWAY, asked), ANY))
    assert payer(context) == (OWNER if fits else RECEIVER)


def test_lines_are_added_up_without_their_flow_where_no_rule_asks_for_it() -> None:
    lines = [line_of(tgw_pair_attachment_id="tgw-attach-2", srcport=str(port)) for port in range(5)]
    for asked, number in (({}, 1), ({"source_kind": "vpc"}, 1), ({"source_ports": "2-3"}, 5), ({"protocol": "6"}, 5)):
        subjects = 0

        def watch(block: Block[object]) -> None:
            nonlocal subjects
            subjects += len(block.observations)

        context = knowing(policy(rule(10, GATEWAY, asked)))
        result = measured(wide(*lines), KEY, context=context, watch=watch)
        assert subjects == number
        assert sum(row.bytes for row in records(result)) == 5_000
        assert len(records(result)) == (2 if "source_ports" in asked else 1)


def test_the_lowest_number_counts_and_without_a_rule_that_fits_the_sender_pays() -> None:
    assert payer(knowing(policy(rule(20, GATEWAY), rule(3, DESTINATION)))) == RECEIVER
    assert payer(knowing(policy(rule(20, GATEWAY, {"protocol": "17"})))) == SENDER
    assert payer(knowing(policy())) == payer(knowing()) == SENDER


@pytest.mark.parametrize(("changes", "missing"), [
    ({"destination_ports": "443"}, "dstport"),
    ({"source_cidr": "10.2.0.0/16"}, "srcaddr"),
    ({"protocol": "6"}, "protocol"),
])  # fmt: skip
def test_what_the_log_does_not_say_may_fit_so_the_payer_is_not_known(changes: dict[str, str], missing: str) -> None:
    context = knowing(policy(rule(10, GATEWAY, changes)))
    assert payer(context, **{missing: "-"}) == UNKNOWN
    # In both cases, the account is the same.
    assert payer(knowing(policy(rule(10, SOURCE, changes))), **{missing: "-"}) == SENDER


def test_a_rule_that_cannot_be_read_may_fit() -> None:
    odd = rule(10, GATEWAY, {"source_cidr": "everything"}), rule(10, GATEWAY, {"source_ports": "any"})
    assert {payer(knowing(policy(each))) for each in (*odd, rule(10, "the-moon"))} == {UNKNOWN}


@pytest.mark.parametrize(("effective_s", "removed", "account"), [
    (H, False, OWNER), (H + HOUR_S, False, SENDER), (H + 60, False, UNKNOWN), (H, True, SENDER),
    (H + HOUR_S, True, OWNER), (H + 60, True, UNKNOWN),
])  # fmt: skip
def test_a_rule_is_in_force_by_the_hour_in_which_it_takes_effect(effective_s: int, removed: bool, account: str) -> None:
    changed = rule(10, GATEWAY, effective_s=effective_s, removed=removed)
    assert payer(knowing(policy(changed))) == account


@pytest.mark.parametrize(("state", "effective_s", "account"), [
    ("available", H, OWNER), ("available", 0, OWNER), ("available", H + HOUR_S, UNKNOWN),
    ("modifying", H, OWNER), ("modifying", H + HOUR_S, UNKNOWN), ("modifying", 0, UNKNOWN),
    ("pending", H, OWNER), ("pending", H + HOUR_S, SENDER), ("pending", 0, UNKNOWN),
    ("deleting", H + HOUR_S, OWNER), ("deleted", H, SENDER), ("deleted", 0, UNKNOWN), ("of the future", H, UNKNOWN),
])  # fmt: skip
def test_a_policy_holds_by_its_state_and_the_hour_and_is_unknown_where_it_may_have_been_another(
    state: str, effective_s: int, account: str
) -> None:
    assert payer(knowing(policy(rule(10, GATEWAY), state=state, effective_s=effective_s))) == account


def test_entries_that_could_not_be_read_and_two_policies_make_the_payer_unknown() -> None:
    assert payer(knowing(policy(rules=None))) == UNKNOWN
    assert payer(knowing(policy(), policy(id="tgw-mp-2"))) == UNKNOWN


def test_behind_a_middlebox_only_addresses_are_known() -> None:
    boxed = {"middleboxes": ("tgw-attach-1",)}
    # Traffic that comes from the appliance came from another attachment before.
    assert payer(knowing(policy(**boxed))) == UNKNOWN
    assert payer(knowing(policy(rule(10, DESTINATION), **boxed))) == RECEIVER
    assert payer(knowing(policy(rule(10, GATEWAY, {"source_cidr": "10.2.0.0/16"}), **boxed))) == OWNER
    assert payer(knowing(policy(rule(10, GATEWAY, {"source_id": "tgw-attach-1"}), **boxed))) == UNKNOWN
    # Traffic that goes to the appliance continues to another attachment.
    onward = {"middleboxes": ("tgw-attach-2",)}
    assert payer(knowing(policy(**onward))) == SENDER
    assert payer(knowing(policy(rule(10, DESTINATION), **onward))) == UNKNOWN


def test_a_policy_says_as_well_who_pays_between_regions() -> None:
    context = knowing(policy(rule(10, GATEWAY, {"destination_kind": "peering"})))
    result = measured(wide(line_of(**LEAVING)), KEY, context=context)
    [row] = records(result)
    [share] = result.shares
    assert (row.account, share.usage_type) == (OWNER, "USW2-USE1-AWS-Out-Bytes")
    [unpaired] = records(measured(wide(line_of(**LEAVING | {"tgw_pair_attachment_id": "-"})), KEY, context=knowing()))
    assert (unpaired.account, unpaired.usage_type) == (OWNER, "USW2-Unclassified-Out-Bytes")


def test_a_description_has_policies_and_attachments_as_aws_tells_them() -> None:
    entry = {
        "PolicyRuleNumber": "10", "MeteredAccount": DESTINATION, "State": "deleted",
        "UpdateEffectiveAt": "2026-11-24T15:00:00Z",
        "MeteringPolicyRule": {"SourceTransitGatewayAttachmentType": "tgw-peering", "Protocol": "6"},
    }  # fmt: skip
    one = {
        "TransitGatewayMeteringPolicyId": "tgw-mp-1", "TransitGatewayId": "tgw-1", "State": "available",
        "MiddleboxAttachmentIds": ["tgw-attach-9", "tgw-attach-8"], "UpdateEffectiveAt": "2026-11-24T13:00:00Z",
        "TransitGatewayMeteringPolicyEntries": [entry],
    }  # fmt: skip
    sides = {
        "TransitGatewayAttachmentId": "tgw-attach-peer",
        "RequesterTgwInfo": {"TransitGatewayId": "tgw-1", "OwnerId": OWNER, "Region": WEST},
        "AccepterTgwInfo": {"TransitGatewayId": "tgw-2", "OwnerId": SENDER, "Region": "us-east-1"},
    }
    its_id = {"TransitGatewayAttachmentId": "tgw-attach-1", "TransitGatewayId": "tgw-1"}
    vpc_side = its_id | {"VpcId": "vpc-1", "VpcOwnerId": SENDER}
    listed = its_id | {
        "TransitGatewayOwnerId": OWNER, "ResourceOwnerId": SENDER, "ResourceType": "vpc", "ResourceId": "vpc-1",
        "State": "available",
    }  # fmt: skip
    peer = listed | {"TransitGatewayAttachmentId": "tgw-attach-peer", "ResourceType": "tgw-peering"}
    context = context_of(
        described(
            place(
                TransitGatewayMeteringPolicies=[one],
                TransitGatewayPeeringAttachments=[sides],
                TransitGatewayVpcAttachments=[vpc_side],
                TransitGatewayAttachments=[listed, peer],
            )
        ),
        H,
    )
    assert context.attachments == (
        Attachment("tgw-attach-1", "tgw-1", "vpc", SENDER, OWNER),
        Attachment("tgw-attach-peer", "tgw-1", "peering", "", OWNER, "us-east-1"),
        Attachment("tgw-attach-peer", "tgw-2", "peering", "", SENDER, WEST),
    )
    sent = {"source_kind": "peering", "protocol": "6"}
    removed = rule(10, DESTINATION, sent, effective_s=1_795_532_400, removed=True)
    middleboxes = ("tgw-attach-8", "tgw-attach-9")
    assert context.metering_policies == (
        MeteringPolicy("tgw-mp-1", "tgw-1", "available", 1_795_525_200, middleboxes, (removed,)),
    )
    assert context.transit_vpcs == ("vpc-1",)
    assert type(context).decode(context.encode()).named().sha256 == context.sha256


def test_a_context_of_before_keeps_its_bytes_and_its_name() -> None:
    before = context_of(described(place()), H)
    for name in (b"attachments", b"metering_policies", b"policy_places"):
        assert name not in before.encode()
