"""Usage types of a bill: which are data transfer, and what no bill shows."""

from __future__ import annotations

import re

_TRAFFIC = (
    r"(?:DataTransfer-(?:Out|In|Regional|xAZ-Out|xAZ-In)|C3DataTransfer-(?:Out|In)|AWS-(?:Out|In)|CloudFront-(?:Out|In)"
    r"|Unclassified-(?:Out|In|Regional)|TransitGateway)-Bytes"
)
_TRANSFER = re.compile(rf"(?:[A-Za-z0-9-]{{1,130}}-)?{_TRAFFIC}")
_METERED_ONLY = re.compile(r"(?:[A-Za-z0-9-]{1,130}-)?(?:C3DataTransfer|Unclassified)-[A-Za-z]{2,8}-Bytes")


def is_transfer(usage_type: str) -> bool:
    """Whether it is data transfer as `docs/contract.md` names it. Storage, requests and all else is not compared."""
    return _TRANSFER.fullmatch(usage_type) is not None


def is_metered_only(usage_type: str) -> bool:
    """Whether no bill has it: traffic within a zone costs nothing, and what a log cannot say AWS classifies itself."""
    return _METERED_ONLY.fullmatch(usage_type) is not None
