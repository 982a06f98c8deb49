"""Log files: every line of each plan became one thing (I1 for logs), and its bytes are those of its batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from metering.audit.verify.verification import MAX_DIFFERENCES, LogTotals
from metering.errors import LedgerCorruptError, ObjectMissingError
from metering.ledger.markers import Marker, marker_key
from metering.onramps.coverage.finding import find_sources
from metering.onramps.plans import NO_SLOT, Plan, slot_label, source_prefix
from metering.stores.writes import Table
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

# Plans that one verification reads. Of more, only these: a narrower range reads the others.
MOST_PLANS = 100_000
# A plan is put before its messages are sent, and those wait their turn.
_YOUNG_S = 10 * MINUTE_S
# A record may begin before the slot of its file, by an aggregation interval and a clock that is off.
_BEFORE_S = HOUR_S
_GROUP = 500
_AT_ONCE = 16
_SOURCES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCheck:
    """Checks the plans of log files against the markers of their batches.

    Attributes:
        markers: Markers that were read before, by batch id. Those of other batches are looked up.
        now_s: The time now, epoch seconds.
        markers_since_s: Plans from before this may have lost their markers to age.
    """

    items: ItemStore
    objects: ObjectStore
    markers: Mapping[str, Marker]
    now_s: int
    markers_since_s: int

    def run(self, *, from_s: int, to_s: int) -> LogTotals:
        """Check the plans of slots in `[from_s, to_s)`, at most `MOST_PLANS`; from 0 on also those without a slot.

        Raises:
            UnavailableError: A store gives no answer.
        """
        keys = self._keys(from_s, to_s)
        totals = LogTotals()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            left = MOST_PLANS
            while left and (group := list(islice(keys, min(_GROUP, left)))):
                left -= len(group)
                totals = totals.plus(self._checked(list(pool.map(self._read, group)), group))
        more = next(keys, None) is not None
        return totals.plus(LogTotals(left_out=more))

    def _keys(self, from_s: int, to_s: int) -> Iterator[str]:
        first = slot_label(max(from_s - _BEFORE_S, 0))
        end = slot_label(to_s)
        for kind, source in self._sources():
            prefix = source_prefix(kind, source)
            for info in self.objects.list(prefix, after=prefix + first):
                label = info.key.removeprefix(prefix).partition("/")[0]
                if label < end or (label == NO_SLOT and not from_s):
                    yield info.key
                elif from_s:
                    break

    def _sources(self) -> Iterator[tuple[str, str]]:
        after = ""
        while True:
            found = find_sources(self.objects, after=after, most=_SOURCES_AT_ONCE)
            yield from found.sources
            after = found.after
            if not after:
                return

    def _read(self, key: str) -> Plan | str | None:
        try:
            return Plan.decode(self.objects.get(key), key)
        except ObjectMissingError:
            return None
        except LedgerCorruptError as error:
            return str(error)

    def _checked(self, plans: Sequence[Plan | str | None], keys: Sequence[str]) -> LogTotals:
        read = [plan for plan in plans if isinstance(plan, Plan)]
        wanted = [part.batch_id for plan in read for part in plan.parts if part.batch_id not in self.markers]
        later = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in wanted]) if wanted else {}
        fresh = {marker.batch_id: marker for marker in map(Marker.from_item, later.values())}
        found = list(chain.from_iterable(self._problems(plan, fresh) for plan in read))
        found += [(key, plan) for key, plan in zip(keys, plans, strict=True) if isinstance(plan, str)]
        return LogTotals(
            plans=len(read),
            lines=sum(plan.balance.lines for plan in read),
            metered_bytes=sum(plan.balance.metered_bytes for plan in read),
            accepted_bytes=sum(self._accepted(plan, fresh) for plan in read),
            refused_bytes=sum(self._refused(plan, fresh) for plan in read),
            differences=tuple(found[:MAX_DIFFERENCES]),
        )

    def _marker(self, batch_id: str, fresh: Mapping[str, Marker]) -> Marker | None:
        return self.markers.get(batch_id) or fresh.get(batch_id)

    def _accepted(self, plan: Plan, fresh: Mapping[str, Marker]) -> int:
        markers = (self._marker(part.batch_id, fresh) for part in plan.parts)
        return sum(_bytes(marker) for marker in markers if marker is not None and marker.verdict == "accepted")

    def _refused(self, plan: Plan, fresh: Mapping[str, Marker]) -> int:
        """Bytes of batches that were refused, and of refused records of the others. They are in quarantine."""
        judged = ((part, self._marker(part.batch_id, fresh)) for part in plan.parts)
        return sum(
            part.bytes - (_bytes(marker) if marker.verdict == "accepted" else 0)
            for part, marker in judged
            if marker is not None and _has_refusals(marker)
        )

    def _problems(self, plan: Plan, fresh: Mapping[str, Marker]) -> Iterator[tuple[str, str]]:
        if not plan.balance.holds:
            yield plan.identity, "its lines, or their bytes, do not add up to what became of them"
        planned = sum(part.bytes for part in plan.parts)
        if planned != plan.balance.metered_bytes:
            yield plan.identity, f"its lines have {plan.balance.metered_bytes} metered bytes, its batches {planned}"
        for part in plan.parts:
            marker = self._marker(part.batch_id, fresh)
            if marker is None:
                if self.markers_since_s <= plan.planned_s < self.now_s - _YOUNG_S:
                    yield part.batch_id, "it was planned, and has no verdict"
            elif not _has_refusals(marker) and _bytes(marker) != part.bytes:
                yield part.batch_id, f"{part.bytes} bytes were planned, {_bytes(marker)} are metered"


def _has_refusals(marker: Marker) -> bool:
    return marker.verdict != "accepted" or marker.refused > 0


def _bytes(marker: Marker) -> int:
    return sum(total.bytes for total in marker.hours.values())
