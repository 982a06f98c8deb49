"""Rules of transit gateway flow logs: what entered a gateway was processed for the account that sent it.

This is a second record of bytes that the flow logs of interfaces have, too, as it is on the bill: those tell transfer,
this tells processing. So it is never metered as transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.reading import Folding
from metering.onramps.reasons import LineReason
from metering.onramps.rules.knowledge import knowledge_of
from metering.onramps.traffic import Classified, Refused, Shadowed, Traffic
from metering.onramps.transit_gateway.rows import TransitHop
from metering.usage.usage_types import usage_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.onramps.context.document import Context
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.observations import FlowHop
    from metering.onramps.traffic import Classifier, Outcome

PROCESSING = "transit_gateway_processing"
_SERVICE = "AmazonVPC"


class WithTransit:
    """Judges the flow logs of one file, whichever kind it is of: AWS names both alike (`Classifier`).

    Args:
        name: What the file's name says.
        timeline: The contexts that judge it.
        flows: Judge of hops of interfaces.
    """

    def __init__(self, name: FileName, timeline: Timeline, flows: Classifier[FlowHop]) -> None:
        self._name = name
        self._timeline = timeline
        self._flows = flows

    def outcome(self, subject: FlowHop | TransitHop, hour_s: int) -> Outcome:
        """Judge a hop of an interface, or what entered a transit gateway."""
        if isinstance(subject, TransitHop):
            return _shadow(subject, self._name, self._timeline.at(hour_s), hour_s) or _outcome(subject, self._name)
        return self._flows.outcome(subject, hour_s)

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """Addresses that the judge of hops does not tell apart (`Folding`)."""
        if isinstance(self._flows, Folding):
            return self._flows.alike(addresses, hours, directed=directed)
        return addresses


def _shadow(subject: TransitHop, name: FileName, context: Context | None, hour_s: int) -> Shadowed | None:
    """The log that counts, if it is another one: a gateway and each of its attachments may have one."""
    authorities = knowledge_of(context).authorities
    if authorities is None or not name.source:
        return None
    authority = authorities.over((subject.gateway_id, subject.attachment_id), hour_s)
    return None if authority is None or authority.id == name.source else Shadowed(authority.id)


def _outcome(subject: TransitHop, name: FileName) -> Outcome:
    account_id = subject.account_id or name.account_id
    region = subject.region or name.region
    if not account_id:
        return Refused(LineReason.INVALID_ACCOUNT, "neither the line nor the file's name has the account")
    if not region:
        return Refused(LineReason.NO_REGION, "neither the line nor the file's name has the region")
    usage_type = usage_type_of(region, "TransitGateway-Bytes").usage_type
    traffic = Traffic(account_id, _SERVICE, subject.attachment_id, "out", region, region, usage_type)
    return Classified(traffic, PROCESSING)
