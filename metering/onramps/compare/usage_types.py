"""Usage types of a bill: which are data transfer, what no bill shows, and what is billed and not metered by any log."""

from __future__ import annotations

import re

_PREFIX = r"(?:[A-Za-z0-9-]{1,130}-)?"
_WAYS = r"(?:In|Out)"
_ZONES = rf"DataTransfer-x?AZ-{_WAYS}"
_PROCESSING = r"(?:NatGateway|VpcEndpoint|VpcEndpoint-GWLBE)"
_TRAFFIC = (
    rf"(?:DataTransfer-(?:Out|In|Regional)|{_ZONES}|C3DataTransfer-{_WAYS}|AWS-{_WAYS}|CloudFront-{_WAYS}"
    rf"|Unclassified-(?:Out|In|Regional)|VpcPeering-{_WAYS}|TransitGateway|{_PROCESSING})-Bytes"
)
# What viewers upload and CloudFront sends on to origins has a name of its own.
_TRANSFER = re.compile(rf"{_PREFIX}(?:{_TRAFFIC}|DataTransfer-Out-OBytes)")
_METERED_ONLY = re.compile(rf"{_PREFIX}(?:C3DataTransfer|Unclassified)-[A-Za-z]{{2,8}}-Bytes")
_BILLED_ONLY = (
    (
        re.compile(rf"{_PREFIX}{_PROCESSING}-Bytes"),
        "not metered here: no on-ramp meters processing by NAT gateways and endpoints; a producer may name it",
    ),
    (
        re.compile(rf"{_PREFIX}{_ZONES}-Bytes"),
        "contested: bills have it for databases, often at 0.00, where a database's side between zones is "
        "DataTransfer-Regional-Bytes here",
    ),
)


def is_transfer(usage_type: str) -> bool:
    """Whether it is data transfer or its processing, as `docs/contract.md` names it, or as AWS's bills do beside that.

    Storage, hours, requests and all else is not compared.
    """
    return _TRANSFER.fullmatch(usage_type) is not None


def is_metered_only(usage_type: str) -> bool:
    """Whether no bill has it: traffic within a zone costs nothing, and what a log cannot say AWS classifies itself."""
    return _METERED_ONLY.fullmatch(usage_type) is not None


def why_billed_only(usage_type: str) -> str:
    """Why a bill may have it while nothing is metered under it, in words; empty if that is a difference."""
    return next((why for pattern, why in _BILLED_ONLY if pattern.fullmatch(usage_type)), "")
