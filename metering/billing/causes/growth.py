"""Workloads and destinations whose bytes grew most from one day to another, for messages about unusual days."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.causes.days import CauseDays, sums_by
from metering.billing.causes.index import CauseIndexes
from metering.billing.causes.names import CauseNames
from metering.billing.owners import UNOWNED
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from metering.billing.causes.index import CauseIndex
    from metering.billing.owners import Owners
    from metering.stores.objects import ObjectStore

UNATTRIBUTED = "unattributed"
_COLUMNS = ("account_id", "usage_type", "cause", "destination")
_READ = (*_COLUMNS, "bytes")
Series = tuple[str, str]
"""Account and usage type."""


class Whose(NamedTuple):
    """Owner, workload and destination of bytes; without a cause, the workload is `unattributed`."""

    owner: str
    workload: str
    destination: str


class Grown(NamedTuple):
    """Bytes that a workload moved more than on the earlier day."""

    whose: Whose
    bytes: int


def grown(
    objects: ObjectStore, day_s: int, before_s: int, series: Collection[Series], owners: Owners | None, *, most: int = 3
) -> Mapping[Series, list[Grown]]:
    """The largest growth of each series from one day to another; empty unless causes of both days are counted.

    Raises:
        ObjectMissingError: The index, or an object of it, was replaced during the call.
        ObjectDamagedError: An object is something else.
        UnavailableError: The bucket does not answer.
    """
    index = CauseIndexes(objects=objects).newest()
    if not index.number or index.counted_s < day_s + DAY_S or before_s < index.from_s:
        return {}
    now, before = (_sums(objects, index, each_s, series, owners) for each_s in (day_s, before_s))
    found: dict[Series, list[Grown]] = {}
    for each in series:
        more = ((whose, size - before[each][whose]) for whose, size in now[each].items())
        largest = sorted((pair for pair in more if pair[1] > 0), key=lambda pair: (-pair[1], pair[0]))
        found[each] = [Grown(*pair) for pair in largest[:most]]
    return found


def _sums(
    objects: ObjectStore, index: CauseIndex, day_s: int, series: Collection[Series], owners: Owners | None
) -> Mapping[Series, Counter[Whose]]:
    names = CauseNames.read(objects, day_s, index.names.get(day_s))
    where = {name: frozenset(each[place] for each in series) for place, name in enumerate(_COLUMNS[:2])}
    days = CauseDays(objects, index, {day_s: names.reused})
    sums: dict[Series, Counter[Whose]] = defaultdict(Counter)
    last_s = day_s + DAY_S - HOUR_S
    groups = sums_by(days.tables(day_s, _READ, where=where), _COLUMNS).groups()
    for group, total in groups:
        account_id, usage_type, cause, destination = map(str, group)
        whose = Whose("", UNATTRIBUTED, destination)
        if cause:
            known = names.at(cause, last_s)
            rule = None if known is None or owners is None else owners.rule_of(known, last_s)
            workload = cause if known is None else known.workload
            whose = Whose(UNOWNED if rule is None else rule.owner, workload, destination)
        sums[account_id, usage_type][whose] += total.bytes
    return sums
