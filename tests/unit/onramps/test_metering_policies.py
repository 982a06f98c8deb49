"""Metering policies of transit gateways: who pays, by rules in order, in force by the hour; never a guess."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from metering.hours import hour_of
from metering.onramps.context.facts import Attachment, MeteringPolicy
from metering.onramps.context.facts import MeteringRule as Rule
from metering.onramps.context.inventory import context_of
from metering.units import HOUR_S
from tests.unit.onramps.context.describing import described, place
from tests.unit.onramps.readers import measured, records
from tests.unit.onramps.test_transit_gateway import KEY, KNOWN, LEAVING, OWNER, SENDER, VALUES, WEST, line_of, wide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.onramps.context.document import Context
    from metering.onramps.reading import Block

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
    """Who pays for what a VPC of SENDER sends to one of RECEIVER through the gateway of OWNER; empty if unknown."""
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


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
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
    ],
)
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


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"destination_ports": "443"}, "dstport"),
        ({"source_cidr": "10.2.0.0/16"}, "srcaddr"),
        ({"protocol": "6"}, "protocol"),
    ],
)
def test_what_the_log_does_not_say_may_fit_so_the_payer_is_not_known(changes: dict[str, str], missing: str) -> None:
    context = knowing(policy(rule(10, GATEWAY, changes)))
    assert payer(context, **{missing: "-"}) == UNKNOWN
    # Whichever it is, it is the same account.
    assert payer(knowing(policy(rule(10, SOURCE, changes))), **{missing: "-"}) == SENDER


def test_a_rule_that_cannot_be_read_may_fit() -> None:
    for odd in ({"source_cidr": "everything"}, {"source_ports": "any"}):
        assert payer(knowing(policy(rule(10, GATEWAY, odd)))) == UNKNOWN
    assert payer(knowing(policy(rule(10, "the-moon")))) == UNKNOWN


@pytest.mark.parametrize(
    ("effective_s", "removed", "account"),
    [
        (H, False, OWNER),
        (H + HOUR_S, False, SENDER),
        (H + 60, False, UNKNOWN),
        (H, True, SENDER),
        (H + HOUR_S, True, OWNER),
        (H + 60, True, UNKNOWN),
    ],
)
def test_a_rule_is_in_force_by_the_hour_in_which_it_takes_effect(
    effective_s: int,
    removed: bool,
    account: str,
) -> None:
    changed = rule(10, GATEWAY, effective_s=effective_s, removed=removed)
    assert payer(knowing(policy(changed))) == account


@pytest.mark.parametrize(
    ("state", "effective_s", "account"),
    [
        ("available", H, OWNER),
        ("available", 0, OWNER),
        ("available", H + HOUR_S, UNKNOWN),
        ("modifying", H, OWNER),
        ("modifying", H + HOUR_S, UNKNOWN),
        ("modifying", 0, UNKNOWN),
        ("pending", H, OWNER),
        ("pending", H + HOUR_S, SENDER),
        ("pending", 0, UNKNOWN),
        ("deleting", H + HOUR_S, OWNER),
        ("deleted", H, SENDER),
        ("deleted", 0, UNKNOWN),
        ("of the future", H, UNKNOWN),
    ],
)
def test_a_policy_holds_by_its_state_and_the_hour_and_is_unknown_where_it_may_have_been_another(
    state: str, effective_s: int, account: str
) -> None:
    assert payer(knowing(policy(rule(10, GATEWAY), state=state, effective_s=effective_s))) == account


def test_entries_that_could_not_be_read_and_two_policies_make_the_payer_unknown() -> None:
    assert payer(knowing(policy(rules=None))) == UNKNOWN
    assert payer(knowing(policy(), policy(id="tgw-mp-2"))) == UNKNOWN


def test_behind_a_middlebox_only_addresses_are_known() -> None:
    boxed = {"middleboxes": ("tgw-attach-1",)}
    # What comes from the appliance came from another attachment before.
    assert payer(knowing(policy(**boxed))) == UNKNOWN
    assert payer(knowing(policy(rule(10, DESTINATION), **boxed))) == RECEIVER
    assert payer(knowing(policy(rule(10, GATEWAY, {"source_cidr": "10.2.0.0/16"}), **boxed))) == OWNER
    assert payer(knowing(policy(rule(10, GATEWAY, {"source_id": "tgw-attach-1"}), **boxed))) == UNKNOWN
    # What goes to it goes on to another one.
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
    one = {
        "TransitGatewayMeteringPolicyId": "tgw-mp-1",
        "TransitGatewayId": "tgw-1",
        "MiddleboxAttachmentIds": ["tgw-attach-9", "tgw-attach-8"],
        "State": "available",
        "UpdateEffectiveAt": "2026-11-24T13:00:00Z",
        "TransitGatewayMeteringPolicyEntries": [
            {
                "PolicyRuleNumber": "10",
                "MeteredAccount": DESTINATION,
                "State": "deleted",
                "UpdateEffectiveAt": "2026-11-24T15:00:00Z",
                "MeteringPolicyRule": {"SourceTransitGatewayAttachmentType": "tgw-peering", "Protocol": "6"},
            },
        ],
    }
    sides = {
        "TransitGatewayAttachmentId": "tgw-attach-peer",
        "RequesterTgwInfo": {"TransitGatewayId": "tgw-1", "OwnerId": OWNER, "Region": WEST},
        "AccepterTgwInfo": {"TransitGatewayId": "tgw-2", "OwnerId": SENDER, "Region": "us-east-1"},
    }
    its_id = {"TransitGatewayAttachmentId": "tgw-attach-1", "TransitGatewayId": "tgw-1"}
    vpc_side = its_id | {"VpcId": "vpc-1", "VpcOwnerId": SENDER}
    listed = its_id | {
        "TransitGatewayOwnerId": OWNER,
        "ResourceOwnerId": SENDER,
        "ResourceType": "vpc",
        "ResourceId": "vpc-1",
        "State": "available",
    }
    context = context_of(
        described(
            place(
                TransitGatewayMeteringPolicies=[one],
                TransitGatewayPeeringAttachments=[sides],
                TransitGatewayVpcAttachments=[vpc_side],
                TransitGatewayAttachments=[
                    listed,
                    listed | {"TransitGatewayAttachmentId": "tgw-attach-peer", "ResourceType": "tgw-peering"},
                ],
            )
        ),
        H,
    )
    assert context.attachments == (
        Attachment("tgw-attach-1", "tgw-1", "vpc", SENDER, OWNER),
        Attachment("tgw-attach-peer", "tgw-1", "peering", "", OWNER, "us-east-1"),
        Attachment("tgw-attach-peer", "tgw-2", "peering", "", SENDER, WEST),
    )
    assert context.metering_policies == (
        MeteringPolicy(
            "tgw-mp-1",
            "tgw-1",
            "available",
            1_795_525_200,
            ("tgw-attach-8", "tgw-attach-9"),
            (
                rule(
                    10,
                    DESTINATION,
                    {"source_kind": "peering", "protocol": "6"},
                    effective_s=1_795_532_400,
                    removed=True,
                ),
            ),
        ),
    )
    assert context.transit_vpcs == ("vpc-1",)
    assert type(context).decode(context.encode()).named().sha256 == context.sha256


def test_a_context_of_before_keeps_its_bytes_and_its_name() -> None:
    before = context_of(described(place()), H)
    for name in (b"attachments", b"metering_policies", b"policy_places"):
        assert name not in before.encode()
