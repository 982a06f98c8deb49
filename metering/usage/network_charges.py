"""Usage types of a region that AWS bills beside the transfer itself: processing, and peering between zones.

Their prices are in the offers AmazonVPC and AmazonEC2, and not in AWSDataTransfer.
"""

from __future__ import annotations

TRAFFIC = frozenset({
    "TransitGateway-Bytes",
    "NatGateway-Bytes",
    "VpcEndpoint-Bytes",
    "VpcEndpoint-GWLBE-Bytes",
    "VpcPeering-In-Bytes",
    "VpcPeering-Out-Bytes",
})  # fmt: skip
_PREFIX = "USE1-"


def contract_name(usage_type: str) -> str:
    """A usage type as `docs/contract.md` has it, where us-east-1 has no prefix.

    AWS's offers and bills give it one for some of these: `USE1-TransitGateway-Bytes`, and yet `NatGateway-Bytes`.
    """
    bare = usage_type.removeprefix(_PREFIX)
    return bare if bare in TRAFFIC else usage_type
