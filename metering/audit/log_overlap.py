"""Resources whose traffic of one hour is metered from two flow logs: it may be counted twice.

A context prevents that: it gives one flow log the authority. Without one (`metering ingest --no-context`) only the rows
tell. A resource with several interfaces may have a flow log for each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.lake.ports import RowQuery
from metering.onramps.reading import flow_log_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.lake.view import LakeView

_SCHEME = "flow:"
_QUERY = RowQuery(columns=("batch_id", "resource_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Resource with traffic of more than one flow log in an hour, by flow log."""

    hour_s: int
    resource_id: str
    bytes: dict[str, int]


def overlaps(view: LakeView, hours: Iterable[int]) -> Iterator[Overlap]:
    """Overlaps of each hour, in order of the hours. Memory is that of one hour's resources.

    Raises:
        UnavailableError: An hour changed too often while it was read.
    """
    for hour_s in hours:
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for (batch_id, resource_id), total in view.hour_totals(hour_s, _QUERY).items():
            log = flow_log_of(str(batch_id))
            if log:
                known = found[str(resource_id)]
                known[log] = known.get(log, 0) + total.bytes
        for resource_id, sizes in sorted(found.items()):
            if len(sizes) > 1:
                yield Overlap(hour_s=hour_s, resource_id=resource_id, bytes=dict(sorted(sizes.items())))


def flow_log_of(batch_id: str) -> str:
    """The flow log that a batch was made from; empty of any other batch."""
    if not batch_id.startswith(_SCHEME):
        return ""
    name = flow_log_name(batch_id.removeprefix(_SCHEME).rpartition("/")[0])
    return "" if name is None else name.source
