"""The exact check of a bucket of logs: each file has a plan, and each batch of the plan was accepted.

It streams: files come from a listing and are checked in groups, so memory is that of a group, whatever the bucket has.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.ledger.markers import Marker, marker_key
from metering.onramps.bills import folder_contradicts
from metering.onramps.coverage.slots import GRACE_S
from metering.onramps.plans import plan_key
from metering.onramps.reasons import FileReason
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.onramps.names import FileName
    from metering.onramps.plans import Plan
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectInfo

# Files that are checked at a time, and plans that are read at once.
_GROUP = 200
_AT_ONCE = 16


class FileVerdict(StrEnum):
    """What the check says of a file.

    `metered`: it has a plan, and all its batches were accepted. `empty`: its plan has nothing to meter. `recent`: it
    has no plan yet, and came a short time ago. `missing`: it has no plan. `undecided`: a batch of it has no verdict.
    `refused`: a batch of it was refused, or some records of one; or it has no plan, and its name contradicts its
    folder. `unknown`: its name says nothing, so nobody can tell.
    """

    METERED = "metered"
    EMPTY = "empty"
    RECENT = "recent"
    MISSING = "missing"
    UNDECIDED = "undecided"
    REFUSED = "refused"
    UNKNOWN = "unknown"


WRONG = frozenset({FileVerdict.MISSING, FileVerdict.UNDECIDED, FileVerdict.REFUSED})
"""Verdicts on files whose bytes are not, or not all, in the totals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """One file of the bucket.

    Attributes:
        source: What wrote it; empty if its name does not say.
        slot_s: Its slot; None if its name does not say.
        detail: The batch that has no verdict or was refused, with the reason; empty otherwise.
    """

    key: str
    size_bytes: int
    verdict: FileVerdict
    source: str = ""
    slot_s: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactCheck:
    """Checks files of a bucket against plans and markers.

    Attributes:
        recognise: What the key of a file says; None of a file without AWS's name, and of kinds that are not metered.
        read_plan: The plan at a key.
        now_s: The time now, epoch seconds.
    """

    items: ItemStore
    recognise: Callable[[str], FileName | None]
    read_plan: Callable[[str], Plan]
    now_s: int

    def check(self, files: Iterable[ObjectInfo]) -> Iterator[FileCheck]:
        """Check each file, in the order of the listing.

        Raises:
            UnavailableError: A store gives no answer.
        """
        waiting = iter(files)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while group := list(islice(waiting, _GROUP)):
                names = [self.recognise(info.key) for info in group]
                plans = list(pool.map(self._plan, names))
                wanted = [part.batch_id for plan in plans if plan is not None for part in plan.parts]
                markers = self._markers(wanted)
                for info, name, plan in zip(group, names, plans, strict=True):
                    yield self._judged(info, name, plan, markers)

    def _plan(self, name: FileName | None) -> Plan | None:
        if name is None or not name.identity:
            return None
        try:
            return self.read_plan(plan_key(name.kind, name.source, name.slot_s, name.identity))
        except ObjectMissingError:
            return None

    def _markers(self, batch_ids: Sequence[str]) -> dict[str, Marker]:
        found = self.items.get_many(Table.LEDGER, [marker_key(batch_id) for batch_id in dict.fromkeys(batch_ids)])
        markers = [Marker.from_item(item) for item in found.values()]
        return {marker.batch_id: marker for marker in markers}

    def _judged(
        self, info: ObjectInfo, name: FileName | None, plan: Plan | None, markers: dict[str, Marker]
    ) -> FileCheck:
        verdict, detail = self._verdict(info, name, plan, markers)
        return FileCheck(
            key=info.key,
            size_bytes=info.size_bytes,
            verdict=verdict,
            source="" if name is None else name.source,
            slot_s=None if name is None else name.slot_s,
            detail=detail,
        )

    def _verdict(
        self, info: ObjectInfo, name: FileName | None, plan: Plan | None, markers: dict[str, Marker]
    ) -> tuple[FileVerdict, str]:
        if name is None or not name.identity:
            return FileVerdict.UNKNOWN, ""
        if plan is None and (contradiction := folder_contradicts(info.key, name)):
            return FileVerdict.REFUSED, f"{FileReason.ACCOUNT_CONTRADICTS}: {contradiction}"
        if plan is None:
            young = self.now_s - info.modified_s < GRACE_S
            return (FileVerdict.RECENT if young else FileVerdict.MISSING), ""
        for part in plan.parts:
            marker = markers.get(part.batch_id)
            if marker is None:
                return FileVerdict.UNDECIDED, part.batch_id
            if marker.verdict != "accepted":
                return FileVerdict.REFUSED, f"{part.batch_id}: {marker.reason}"
            if marker.refused:
                return FileVerdict.REFUSED, f"{part.batch_id}: {marker.refused:,} of {marker.records:,} records"
        return (FileVerdict.METERED if plan.parts else FileVerdict.EMPTY), ""
