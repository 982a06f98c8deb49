"""Rows of transit gateway flow logs.

Each flow passes two attachments, and has a record at each: `ingress` where it enters the gateway, `egress` where it
leaves. The rules say what is charged of either. Packets that were lost are counted in packets, not in bytes, so their
fields are not read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from metering.errors import LogFileRefusedError
from metering.hours import hour_of
from metering.onramps.reasons import FileReason, LineReason
from metering.onramps.rows.tally import MAX_BYTES, Moved
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from metering.onramps.rows.tally import Tally

GATEWAY, ATTACHMENT = "tgw-id", "tgw-attachment-id"
_PAIR, _OWNER, _REGION = "tgw-pair-attachment-id", "account-id", "region"
_SENDER, _RECEIVER = "tgw-src-vpc-account-id", "tgw-dst-vpc-account-id"
_FLOW = ("srcaddr", "dstaddr", "srcport", "dstport", "protocol")
_BYTES, _START, _END, _STATUS, _DIRECTION = "bytes", "start", "end", "log-status", "flow-direction"
_NEEDED = (ATTACHMENT, _BYTES, _START, _END, _DIRECTION)
USED_FIELDS = (
    *(GATEWAY, ATTACHMENT, _PAIR, _SENDER, _RECEIVER, _OWNER, _REGION, _BYTES, _START, _END, _STATUS, _DIRECTION),
    *_FLOW,
)

_ACCOUNT = re.compile(r"[0-9]{12}")
_DIGITS = re.compile(r"[0-9]{1,20}")
_NONE = ("", "-", "unknown")
# Ten digits last until 2286, so more are milliseconds.
_MILLISECONDS_FROM = 10**11


class TransitHop(NamedTuple):
    """Traffic at an attachment of a transit gateway. What the log has not, or where it says `-`, is empty.

    Attributes:
        gateway_id: The gateway.
        attachment_id: The attachment that it came by, or left by.
        pair_id: The attachment on the other side of the gateway.
        outward: Whether it left the gateway here.
        region: Region of the gateway.
        owner_id: Account of the gateway.
        sender_id: Account of the VPC that it came from.
        receiver_id: Account of the VPC that it went to.
        source, destination: Addresses of the packets.
        source_port, destination_port: Their ports.
        protocol: Number of their protocol.
    """

    gateway_id: str
    attachment_id: str
    pair_id: str = ""
    outward: bool = False
    region: str = ""
    owner_id: str = ""
    sender_id: str = ""
    receiver_id: str = ""
    source: str = ""
    destination: str = ""
    source_port: str = ""
    destination_port: str = ""
    protocol: str = ""


@runtime_checkable
class AsksFlows(Protocol):
    """Rules that say whether addresses, ports and protocols matter to them. If not, lines are added up without them."""

    def asks_flows(self, gateway_id: str, hour_s: int) -> bool:
        """Whether the rules ask for the flows of a gateway in an hour, in epoch seconds."""
        ...


class TransitRowJudge:
    """Counts rows of one file.

    Args:
        fields: Fields that the file has, as AWS names them.
        rules: Rules that judge them; None keeps all that they might ask for.

    Raises:
        LogFileRefusedError: A field is missing without which nothing can be metered.
    """

    def __init__(self, fields: Collection[str], rules: object = None) -> None:
        self._rules = rules if isinstance(rules, AsksFlows) else None
        self._asked: dict[tuple[str, int], bool] = {}
        missing = [name for name in _NEEDED if name not in fields]
        if missing:
            detail = f"the flow log of a transit gateway has no {', no '.join(missing)}"
            raise LogFileRefusedError(FileReason.MISSING_FIELD, detail)

    def judge(self, number: int, text: str, value: Callable[[str], str], tally: Tally[TransitHop]) -> None:
        """Count a row; `value` gives one of `USED_FIELDS`, empty if the row has none."""
        status = value(_STATUS)
        if status == "NODATA":
            tally.nodata()
            return
        if status == "SKIPDATA":
            tally.skipdata()
            return
        size_bytes = _number(value(_BYTES))
        if size_bytes is None:
            tally.refuse(number, LineReason.INVALID_NUMBER, "bytes is no number from 0 to 2^63-1", text)
            return
        problem = self._count(value, size_bytes, tally)
        if problem is not None:
            tally.refuse(number, *problem, text, size_bytes)

    def _asks(self, gateway_id: str, hour_s: int) -> bool:
        if self._rules is None:
            return True
        asked = self._asked.get((gateway_id, hour_s))
        if asked is None:
            asked = self._asked[gateway_id, hour_s] = self._rules.asks_flows(gateway_id, hour_s)
        return asked

    def _count(
        self, value: Callable[[str], str], size_bytes: int, tally: Tally[TransitHop]
    ) -> tuple[LineReason, str] | None:
        """Count a row with bytes, or say why not."""
        start_s, end_s = _seconds(value(_START)), _seconds(value(_END))
        if start_s is None or end_s is None or end_s < start_s:
            return LineReason.INVALID_TIME, "start and end are no times in order"
        if end_s - start_s > HOUR_S:
            return LineReason.SPANS_OVER_AN_HOUR, f"{end_s - start_s} s"
        direction = value(_DIRECTION)
        if direction not in ("egress", "ingress"):
            return LineReason.INVALID_VALUE, f"flow-direction is {direction[:64]!r}, neither ingress nor egress"
        accounts = [_text(value(name)) for name in (_OWNER, _SENDER, _RECEIVER)]
        for account_id in accounts:
            if account_id and _ACCOUNT.fullmatch(account_id) is None:
                return LineReason.INVALID_ACCOUNT, f"{account_id[:64]!r} is no account of 12 digits"
        gateway_id, attachment_id, pair_id = (_text(value(name)) for name in (GATEWAY, ATTACHMENT, _PAIR))
        flow = [_text(value(name)) for name in _FLOW] if self._asks(gateway_id, hour_of(start_s)) else ()
        hop = TransitHop(
            gateway_id,
            attachment_id or gateway_id,
            pair_id,
            direction == "egress",
            _text(value(_REGION)),
            *accounts,
            *flow,
        )
        tally.metered([Moved(hop, size_bytes)], start_s, end_s)
        return None


def _text(value: str) -> str:
    return "" if value in _NONE else value


def _number(text: str) -> int | None:
    number = int(text) if _DIGITS.fullmatch(text) else None
    return number if number is not None and number <= MAX_BYTES else None


def _seconds(text: str) -> int | None:
    number = _number(text)
    return number // 1000 if number is not None and number >= _MILLISECONDS_FROM else number
