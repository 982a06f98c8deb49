"""Rules of CloudFront standard logs: the billing area of the edge makes the usage type.

A distribution may write both versions of the log, each with the same requests: where a context says which of them is
metered, the other one is shadowed.

The metered side is the edge, and the other one is the internet. What viewers sent has the usage type that AWS's naming
gives it; no bill has a line for it, because it is free. But what they sent with PUT, POST and the like goes on to the
origin, and AWS bills it as that. A byte is metered once, so it is the one or the other. Where the origin is, no field
says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.bills import GIVE_ACCOUNT
from metering.onramps.cloudfront.areas import areas_by_airport
from metering.onramps.reasons import LineReason
from metering.onramps.traffic import Classified, Refused, Shadowed, Traffic
from metering.usage.locations import CLOUDFRONT, INTERNET, UNKNOWN

if TYPE_CHECKING:
    from metering.onramps.cloudfront.rows import EdgeTransfer
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.traffic import Outcome

AREA, NO_AREA, NO_ORIGIN = "edge_area", "no_edge_area", "no_edge_origin"
# The other side, and what its transfer is called, by direction.
_FAR = {
    "out": (INTERNET, "DataTransfer-Out-Bytes"),
    "in": (INTERNET, "DataTransfer-In-Bytes"),
    "origin": (UNKNOWN, "DataTransfer-Out-OBytes"),
}
EDGE_NOT_LOGGED, EDGE_UNKNOWN = "edge_not_logged", "edge_unknown"
_SERVICE = "AmazonCloudFront"


class CloudFrontClassifier:
    """Judges transfers of the edges for one file (`Classifier`)."""

    def __init__(self, name: FileName, timeline: Timeline) -> None:
        self._name = name
        self._timeline = timeline

    def outcome(self, subject: EdgeTransfer, hour_s: int) -> Outcome:
        """Judge a transfer in an hour."""
        context = self._timeline.at(hour_s)
        known = context.distributions.get(self._name.source) if context is not None else None
        if known is not None and known.log not in ("", subject.version):
            return Shadowed(f"{known.id} {known.log}")
        account_id = self._name.account_id or (known.account_id if known is not None else "")
        if not account_id:
            detail = f"the log does not say whose distribution it is: {GIVE_ACCOUNT}"
            return Refused(LineReason.INVALID_ACCOUNT, detail)
        if not self._name.source:
            return Refused(LineReason.INVALID_VALUE, "the file's name does not say which distribution it is of")
        return self._classified(subject, account_id)

    def _classified(self, subject: EdgeTransfer, account_id: str) -> Classified:
        far, traffic_name = _FAR[subject.direction]
        way = "In" if subject.direction == "in" else "Out"
        area = areas_by_airport().get(subject.airport, "")
        known = area and not subject.doubt
        traffic = Traffic(
            account_id=account_id,
            service=_SERVICE,
            resource_id=self._name.source,
            direction=way.lower(),
            from_location=far if way == "In" else CLOUDFRONT,
            to_location=CLOUDFRONT if way == "In" else far,
            usage_type=f"{area}-{traffic_name}" if known else f"Unclassified-{way}-Bytes",
        )
        if subject.doubt:
            return Classified(traffic, NO_ORIGIN, subject.doubt)
        if area:
            return Classified(traffic, AREA)
        return Classified(traffic, NO_AREA, EDGE_UNKNOWN if subject.edge_logged else EDGE_NOT_LOGGED)
