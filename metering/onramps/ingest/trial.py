"""A dry run: measures files, writes nothing, and calls only the store of the files."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import LogFileRefusedError
from metering.onramps import sources
from metering.onramps.context.document import address_of, is_public
from metering.onramps.ingest import planning
from metering.onramps.ingest.outcomes import FileOutcome, outcome_of_measured
from metering.onramps.ingest.totals import Judge, Who, kind_and_name, log_file, path_of, place_of, store_refusals
from metering.onramps.reading import Block, FileName, FlowHop, ReadSettings, identity_by_content
from metering.onramps.reasons import Classified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.onramps.context.store import Timeline
    from metering.onramps.kinds import LogKind
    from metering.stores.objects import ObjectInfo

# Number of interface-hours that are stored, which take about 50 MB. A larger run may miss some overlap.
_MOST = 200_000


class Twice(NamedTuple):
    """Interface that two flow logs see in one hour."""

    interface_id: str
    hour_s: int
    first: str
    other: str


class Overlap:
    """Finds interfaces that two flow logs see. Thread-safe: each step is one dictionary operation."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, int], str] = {}
        self._twice: dict[tuple[str, int], Twice] = {}

    @property
    def interface_hours(self) -> int:
        return len(self._twice)

    @property
    def example(self) -> Twice | None:
        """The smallest overlap, so that runs over the same files name the same overlap; None without overlaps."""
        return min(self._twice.values(), default=None)

    def look(self, name: FileName, block: Block[object]) -> None:
        seen = {(s.interface_id, each.hour_s) for each in block.observations if isinstance(s := each.subject, FlowHop)}
        for key in seen:
            if not key[0] or not name.source or len(self._sources) >= _MOST:
                continue
            first = self._sources.setdefault(key, name.source)
            if first != name.source:
                self._twice.setdefault(key, Twice(*key, *sorted((first, name.source))))


class Look(StrEnum):
    """Guess of a person who sees the two addresses of a line and knows no network."""

    INTERNET = "internet"
    PRIVATE = "private"
    BOTH_PUBLIC = "both public"
    UNKNOWN = "no address"


def look_of(hop: FlowHop) -> Look:
    """The guess by RFC 1918, 4193 and 6598 alone. It classifies nothing, and no byte is counted by it."""
    ends = (hop.packet_source or hop.source, hop.packet_destination or hop.destination)
    public = [is_public(address) for text in ends if (address := address_of(text)) is not None]
    if len(public) < len(ends):
        return Look.UNKNOWN
    return Look.BOTH_PUBLIC if all(public) else Look.INTERNET if any(public) else Look.PRIVATE


class Looks:
    """Bytes by usage type, reason and guess, for files without a context. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._bytes: Counter[tuple[str, str, Look]] = Counter()

    def look(self, judge: Judge, block: Block[object]) -> None:
        found: Counter[tuple[str, str, Look]] = Counter()
        for each in block.observations:
            if isinstance(each.subject, FlowHop):
                outcome, usage_type, *_ = judge.verdict(each.subject, each.hour_s)
                if isinstance(outcome, Classified):
                    found[usage_type, outcome.reason, look_of(each.subject)] += each.bytes
        with self._lock:
            self._bytes += found

    def of(self, usage_type: str, reason: str) -> dict[Look, int]:
        """Bytes of a usage type and reason by guess; empty without lines of flow logs."""
        return {look: size for look in Look if (size := self._bytes[usage_type, reason, look])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One file, or all files below a folder or prefix, as named by a person.

    For a single file, `prefix` is its key. A single file without a log's name is refused; in a folder, it is left out.
    """

    store: sources.LogStore
    prefix: str
    single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """File to be taken or left out."""

    store: sources.LogStore
    info: ObjectInfo
    left_out: FileOutcome | None = None


def chosen(
    target: Target, kinds: Sequence[LogKind], *, kind: LogKind | str | None = None, since_s: int | None = None
) -> Iterator[Chosen]:
    """Files of a target, in the order of their keys. The list is not held in memory.

    Args:
        target: What a person named.
        kinds: Kinds of logs.
        kind: Log kind stated by a person; None to detect the kind from the names.
        since_s: Only files whose name states this time or a later time, or that were written since this time.
    """
    for info in _infos(target):
        left_out = None
        slot_s = None
        try:
            _, name = kind_and_name(kinds, path_of(target.store, info.key), kind)
            slot_s = name.slot_s
        except LogFileRefusedError as error:
            if not target.single:
                left_out = FileOutcome(
                    place=place_of(target.store, info.key),
                    verdict="left_out",
                    stored_bytes=info.size_bytes,
                    problem=(error.reason, error.detail),
                )
        if since_s is None or (info.modified_s if slot_s is None else slot_s) >= since_s:
            yield Chosen(store=target.store, info=info, left_out=left_out)


def _infos(target: Target) -> Iterator[ObjectInfo]:
    if target.single:
        info = target.store.head(target.prefix)
        return iter(() if info is None else (info,))
    # If a folder is created in S3's console, S3 stores an empty object.
    return (info for info in target.store.list(target.prefix) if not info.key.endswith("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Measures files, and names causes if `who` is set.

    Without a context, `overlap` finds traffic that two flow logs see, and `looks` guesses.
    """

    kinds: Sequence[LogKind]
    timeline: Timeline
    settings: ReadSettings
    kind: LogKind | str | None = None
    bills: sources.Bills = sources.NAMED
    overlap: Overlap | None = None
    looks: Looks | None = None
    who: bool = False

    def outcome(self, chosen: Chosen, watch: Callable[[Block[object]], None]) -> FileOutcome:
        """Measure one file.

        Raises:
            UnavailableError: The store of the file did not answer.
        """
        info = chosen.info
        place = place_of(chosen.store, info.key)
        try:
            file = log_file(
                chosen.store,
                info.key,
                self.kinds,
                etag=info.etag,
                kind=self.kind,
                settings=self.settings,
                bills=self.bills,
            )

            classifier = file.kind.classifier(file.name, self.timeline)
            judge = Judge(classifier, sources.Billable(file.bills, file.name, self.timeline))

            def watched(block: Block[object]) -> None:
                if self.overlap is not None:
                    self.overlap.look(file.name, block)
                if self.looks is not None:
                    self.looks.look(judge, block)
                watch(block)

            file = replace(file, watch=watched)
            with store_refusals():
                measured = file.measured(self.timeline, Who.DRY_RUN if self.who else Who.NO)
            planning.check_owner(file, measured)
        except LogFileRefusedError as error:
            return FileOutcome(
                place=place, verdict="refused", stored_bytes=info.size_bytes, problem=(error.reason, error.detail)
            )
        identity = file.name.identity or identity_by_content(measured.content_sha256)
        return outcome_of_measured(
            measured, place=place, stored_bytes=info.size_bytes, kind=file.kind.name, identity=identity
        )


# Number of files that wait per thread.
_AHEAD = 2


def outcomes(files: Iterable[Chosen], work: Callable[[Chosen], FileOutcome], *, jobs: int) -> Iterator[FileOutcome]:
    """Call `work` for each file, in `jobs` threads. Left-out files pass through."""
    waiting: deque[FileOutcome | Future[FileOutcome]] = deque()
    rest = iter(files)
    pool = ThreadPoolExecutor(jobs)
    try:
        while True:
            for each in islice(rest, max(0, jobs * _AHEAD - len(waiting))):
                waiting.append(each.left_out or pool.submit(work, each))
            if not waiting:
                return
            first = waiting.popleft()
            yield first if isinstance(first, FileOutcome) else first.result()
    finally:
        pool.shutdown(cancel_futures=True)
