"""Authority: which flow log counts where several log the same interface.

Of the logs that deliver to S3 and see a resource in an hour, the broadest has the authority, then the one with most
fields that tell something, then the oldest. It is decided for full hours: a log takes part from the first full hour
after it was created, unless none was there at the hour's beginning. In hours before it was created it has seen nothing:
there files of a log that was deleted since, and that no context lists, count.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.onramps.context.document import Context
    from metering.onramps.context.facts import FlowLog

# The broadest first. A regional NAT gateway has a log of its own, and no VPC's log sees it; nor does it see what a
# transit gateway or one of its attachments logs.
_BREADTH = {"vpc": 0, "subnet": 1, "eni": 2, "nat": 3, "tgw": 4, "tgw-attach": 5}
_TELLING = frozenset(
    (
        *(
            "flow-direction",
            "traffic-path",
            "az-id",
            "vpc-id",
            "subnet-id",
            "instance-id",
            "region",
            "sublocation-type",
        ),
        *("pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service", "resource-id", "interface-type"),
        *("next-hop-interface-id", "next-hop-az-id", "next-hop-vpc-id", "next-hop-interface-type"),
    )
)


class Overlap(NamedTuple):
    """A flow log that has the authority over something that others log as well.

    Attributes:
        authority: Id of the log that counts.
        shadowed: Ids of the others, sorted. If the authority is not ingested, what only they have is not metered.
    """

    authority: str
    shadowed: tuple[str, ...]


class Authorities:
    """Who counts, by what is logged and by the hour."""

    def __init__(self, context: Context) -> None:
        self._logs: dict[str, list[FlowLog]] = defaultdict(list)
        for log in context.flow_logs.values():
            if log.destination_type == "s3" and log.traffic_type != "REJECT" and log.resource_type in _BREADTH:
                self._logs[log.resource_id].append(log)
        self._subnets = {subnet.id: (subnet.id, subnet.vpc_id) for subnet in context.subnets}
        # Of the many interfaces only those that have a log of their own.
        self._interfaces = {
            each.id: (each.id, *self._subnets[each.subnet_id]) for each in context.interfaces if each.id in self._logs
        }

    def over(self, resource_ids: Iterable[str], hour_s: int) -> FlowLog | None:
        """The log that counts for an interface in an hour, by all that contains it; None if no log is known.

        Args:
            resource_ids: Ids of the interface, its subnet and its VPC, or of a regional NAT gateway, or of a transit
                gateway and its attachment; empty ones are left out.
            hour_s: The hour, in epoch seconds.
        """
        known = (log for resource_id in resource_ids for log in self._logs.get(resource_id, ()))
        seen = [log for log in known if log.created_s < hour_s + HOUR_S]
        there = [log for log in seen if log.created_s <= hour_s] or seen
        return min(there, key=_rank, default=None)

    def overlaps(self, hour_s: int) -> tuple[Overlap, ...]:
        """Logs that have the authority over something that another log sees as well, by id.

        A log that is broader sees all that a narrower one sees, so only what logs name is looked at.
        """
        shadowed: dict[str, set[str]] = defaultdict(set)
        for resource_id in self._logs:
            ids = self._interfaces.get(resource_id) or self._subnets.get(resource_id) or (resource_id,)
            seen = {log.id for each in ids for log in self._logs.get(each, ())}
            authority = self.over(ids, hour_s)
            if authority is not None and len(seen) > 1:
                shadowed[authority.id] |= seen - {authority.id}
        return tuple(Overlap(each, tuple(sorted(shadowed[each]))) for each in sorted(shadowed))


def _rank(log: FlowLog) -> tuple[int, int, int, str]:
    return _BREADTH[log.resource_type], -len(_TELLING.intersection(log.fields)), log.created_s, log.id
