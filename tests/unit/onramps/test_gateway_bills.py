"""What AWS bills of transit gateways, from a description as EC2 tells it to the records of a log."""

from __future__ import annotations

from typing import Any

from metering.onramps.context.inventory import context_of
from tests.unit.onramps.context.describing import described, place
from tests.unit.onramps.readers import measured

OWNER, SENDER, RECEIVER = "111111111111", "222222222222", "333333333333"
KEY = f"AWSLogs/{OWNER}/vpcflowlogs/us-west-2/2026/11/24/{OWNER}_vpcflowlogs_us-west-2_fl-0a_20261124T1305Z_ab12.log.gz"
FIELDS = (
    "version account-id tgw-id tgw-attachment-id tgw-pair-attachment-id tgw-src-vpc-account-id tgw-dst-vpc-account-id "
    "bytes start end log-status region flow-direction"
)


def attachment(attachment_id: str, kind: str, owner_id: str) -> dict[str, Any]:
    return {
        "TransitGatewayAttachmentId": attachment_id,
        "TransitGatewayId": "tgw-1",
        "TransitGatewayOwnerId": OWNER,
        "ResourceOwnerId": owner_id,
        "ResourceType": kind,
        "State": "available",
    }


GATEWAY: dict[str, Any] = {
    "TransitGatewayAttachments": [
        attachment("tgw-attach-1", "vpc", SENDER),
        attachment("tgw-attach-2", "vpc", RECEIVER),
        attachment("tgw-attach-peer", "peering", OWNER),
    ],
    "TransitGatewayPeeringAttachments": [
        {
            "TransitGatewayAttachmentId": "tgw-attach-peer",
            "RequesterTgwInfo": {"TransitGatewayId": "tgw-1", "OwnerId": OWNER, "Region": "us-west-2"},
            "AccepterTgwInfo": {"TransitGatewayId": "tgw-9", "OwnerId": OWNER, "Region": "us-east-1"},
        }
    ],
    "TransitGatewayMeteringPolicies": [],
}
POLICY = {
    "TransitGatewayMeteringPolicyId": "tgw-mp-1",
    "TransitGatewayId": "tgw-1",
    "State": "available",
    "TransitGatewayMeteringPolicyEntries": [
        {"PolicyRuleNumber": "10", "MeteredAccount": "destination-attachment-owner", "MeteringPolicyRule": {}}
    ],
}


def billed(line: str, **lists: Any) -> list[tuple[str, str, int]]:
    """Account, usage type and bytes of what a line is metered as."""
    context = context_of(described(place(account_id=OWNER, **GATEWAY | lists)), 0)
    result = measured(f"{FIELDS}\n6 {OWNER} tgw-1 {line}\n", KEY, context=context)
    accounts = [traffic.account_id for traffic, _ in result.totals]
    return [(*accounts, share.usage_type, share.bytes) for share in result.shares]  # type: ignore[misc]  # there is one


def entering(attachment_id: str, pair_id: str, sender: str) -> str:
    return f"{attachment_id} {pair_id} {sender} {RECEIVER} 1000 1795525140 1795525200 OK us-west-2 ingress"


def test_what_enters_a_gateway_by_a_peering_attachment_is_not_charged_as_processing() -> None:
    assert billed(entering("tgw-attach-peer", "tgw-attach-1", "-")) == []


def test_a_metering_policy_says_who_pays_for_processing() -> None:
    line = entering("tgw-attach-1", "tgw-attach-2", SENDER)
    assert billed(line, TransitGatewayMeteringPolicies=[POLICY]) == [(RECEIVER, "USW2-TransitGateway-Bytes", 1000)]


def test_traffic_between_regions_over_peered_gateways_is_metered_where_it_leaves() -> None:
    leaving = f"tgw-attach-peer tgw-attach-1 {SENDER} - 1000 1795525140 1795525200 OK us-west-2 egress"
    assert billed(leaving) == [(SENDER, "USW2-USE1-AWS-Out-Bytes", 1000)]
