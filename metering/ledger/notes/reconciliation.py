"""Notes of the reconciler: the result of its last pass, its work list, and sources that number their batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Annotated, ClassVar

from metering.hours import hour_label
from metering.ledger import booked_hours
from metering.ledger.partitions import NOTE
from metering.stores.codec import Added, Fields, Form, Hour, SortKey, Spans, StoredItem, item_of, struct_of
from metering.stores.writes import Item, Key, Value
from metering.units import DAY_S

RECONCILIATION_KEY = Key(f"{NOTE}reconcile", "W")
WORK_LIST_KEY = Key(f"{NOTE}worklist", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Backlog: published hours and files that are not compared yet.

    Attributes:
        since_s: Time when the oldest entry was added to the list, epoch seconds; None if the list is empty.
    """

    waiting: int = 0
    since_s: int | None = None

    def plus(self, other: Backlog) -> Backlog:
        """Both backlogs as one."""
        since = [since_s for since_s in (self.since_s, other.since_s) if since_s is not None]
        return Backlog(waiting=self.waiting + other.waiting, since_s=min(since, default=None))


def _backlog(fields: Fields, _: str) -> Backlog:
    # Items that were written before the backlog was measured lack this attribute.
    return Backlog(waiting=fields.whole("waiting", absent=0), since_s=fields.whole("waiting_since_s", absent=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation(StoredItem):
    """Result of the reconciler's last pass.

    Attributes:
        finished_s: Time when a pass last finished comparing all entries of its list, epoch seconds.
        differences: Number of hours in which two passes showed the same difference.
        scan_due_s: Time by which the next full scan is due, epoch seconds; None before the end of the first scan.
        gaps_since_s: Earliest possible creation time of a missing batch, epoch seconds; None if no batch is missing.
        day_s: Start of the day on which quick passes compared `batches` and `records` of new lake files. A batch counts
            once for each of its hours.
        batches_before, records_before: As `batches` and `records`, of the whole day before.
    """

    key: ClassVar[Key] = RECONCILIATION_KEY
    finished_s: int
    hours: int
    differences: int
    gaps_since_s: int | None = None
    backlog: Annotated[Backlog, Form(_backlog, None)] = Backlog()
    scan_due_s: int | None = None
    day_s: Annotated[int, Added(0)] = 0
    batches: Annotated[int, Added(0)] = 0
    records: Annotated[int, Added(0)] = 0
    batches_before: Annotated[int, Added(0)] = 0
    records_before: Annotated[int, Added(0)] = 0

    def counted(self, batches: int, records: int, *, now_s: int) -> Reconciliation:
        """The note with further batches and records of the present day."""
        day_s = now_s - now_s % DAY_S
        if day_s == self.day_s:
            return replace(self, batches=self.batches + batches, records=self.records + records)
        follows = day_s - DAY_S == self.day_s
        return replace(
            self,
            day_s=day_s,
            batches=batches,
            records=records,
            batches_before=self.batches if follows else 0,
            records_before=self.records if follows else 0,
        )

    def to_item(self) -> dict[str, Value]:
        since: dict[str, Value] = {} if self.backlog.since_s is None else {"waiting_since_s": self.backlog.since_s}
        return item_of(self) | since | {"waiting": self.backlog.waiting}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """Differences that a scan found in an hour. A quick pass alone covers only accounts with rows, and new files."""

    accounts: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.accounts) + len(self.batches)


def _files(fields: Fields, name: str) -> dict[booked_hours.RowSource, int]:
    return {
        booked_hours.RowSource(
            key=file.text("key"),
            hour_s=file.hour("hour"),
            rows=file.whole("rows"),
            bytes=file.whole("bytes"),
            staged=False,
        ): file.whole("since_s")
        for file in fields.rows(name, ("hour", "key", "rows", "bytes", "since_s"))
    }


def _rows(files: Mapping[booked_hours.RowSource, int]) -> list[list[str | int]]:
    return [
        [hour_label(file.hour_s), file.key, file.rows, file.bytes, since_s]
        for file, since_s in sorted(files.items(), key=lambda entry: entry[0].key)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList(StoredItem):
    """Work list of the reconciler's quick pass. Each entry has the time when it was added to the list.

    Attributes:
        runs: Newest run of each shard whose hours are already on this list.
        hours: Hours for which files were published since the hours were last found equal.
        files: Lake files not yet found equal to the markers of their batches.
        suspects: Differences that a scan found, for some of the hours.
        unjudged: Hours with differences that a scan found but no pass has examined. Only a scan removes these hours.
        scanned_s: Start of the last full scan, even if unfinished, epoch seconds.
        scan_tries: Number of invocations that worked on the scan since it was last saved; 0 without an unfinished scan.
        scan_runs: Newest run of each shard when this scan began.
    """

    key: ClassVar[Key] = WORK_LIST_KEY
    runs: Annotated[Mapping[int, int], Added({})] = field(default_factory=dict)
    hours: Annotated[Mapping[Hour, int], "waiting"] = field(default_factory=dict)
    files: Annotated[Mapping[booked_hours.RowSource, int], Form(_files, _rows)] = field(default_factory=dict)
    suspects: Annotated[Mapping[Hour, Suspects], Added({})] = field(default_factory=dict)
    unjudged: Annotated[Mapping[Hour, int], Added({})] = field(default_factory=dict)
    scanned_s: int = 0
    scan_tries: Annotated[int, Added(0)] = 0
    scan_runs: Annotated[Mapping[int, int], Added({})] = field(default_factory=dict)

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """Backlog, without the hours and files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
        since += self.unjudged.values()
        return Backlog(waiting=len(since), since_s=min(since, default=None))

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """Decode the list. An item of an earlier revision has no times, and is treated as empty until a full scan."""
        return struct_of(cls, item) if "waiting" in item else cls()


# Notes about sources (producers that number their batches): rulings, figures, and the state of each source.
#
# | item                | pk            | sk                              | written by   |
# |---------------------|---------------|---------------------------------|--------------|
# | ruling              | `W#ruling`    | source id, kind, numbers        | operators    |
# | figures of sources  | `W#sources`   | `W`                             | reconciler   |


RULING_PK = f"{NOTE}ruling"
SOURCES_KEY = Key(f"{NOTE}sources", "W")
# If some sources could not be tracked, at most this many are named; the count includes all.
NAMED = 20


class RulingKind(StrEnum):
    """Kinds of rulings."""

    ACCEPT_GAP = "accept-gap"
    FORGET = "forget"


def _numbers(fields: Fields, name: str) -> tuple[int, int] | None:
    numbers = fields.wholes(name)
    if len(numbers) not in {0, 2}:
        fields.fail(name, "a first and a last number, or none")
    return (numbers[0], numbers[1]) if numbers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling(StoredItem):
    """Ruling of an operator on a source; the reconciler applies the ruling. Repeating a ruling only updates its time.

    Attributes:
        numbers: First and last number of the accepted gap; None for all numbers up to `at_ms`.
        by: AWS identity of the operator.
        expires_at: Epoch seconds. The ruling must outlive all markers written before it.
    """

    source_id: str
    kind: RulingKind
    at_ms: int
    by: str
    expires_at: int
    numbers: Annotated[tuple[int, int] | None, Form(_numbers, lambda numbers: list(numbers or ()))] = None

    @property
    def key(self) -> Key:
        which = "all" if self.numbers is None else f"{self.numbers[0]}-{self.numbers[1]}"
        return Key(RULING_PK, f"{self.source_id}#{self.kind}#{which}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures(StoredItem):
    """Figures of all sources, as of the last whole pass and the rulings applied since.

    Attributes:
        scanned_ms: Time when the last whole pass read the markers. Figures on silence and gaps are as of this time.
        ruled_ms: Time of the newest applied ruling.
        silent: Number of sources that had sent nothing for `SILENCE_S`.
        gaps: Number of gaps of all sources, including unlisted gaps.
        incredible: Number of sources with numbers that do not credibly continue their sequence.
        unkept: Number of unreadable or unwritable sources, and of batches from sources beyond the limit.
        names: Names of the first sources counted in `unkept`.
    """

    key: ClassVar[Key] = SOURCES_KEY
    scanned_ms: int = 0
    ruled_ms: int = 0
    sources: int = 0
    silent: int = 0
    gaps: int = 0
    incredible: int = 0
    unkept: int = 0
    names: tuple[str, ...] = ()


SOURCE_PK = f"{NOTE}source"


def source_id_of(item: Item) -> str:
    """The source id of a source's item, even if the item is otherwise unreadable."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState(StoredItem):
    """State of a source, as derived from markers.

    Attributes:
        last_sequence: Highest credible number seen.
        last_seen_s: Time when the source's last batch got its verdict, epoch seconds; 0 for a forgotten source until it
            sends again.
        gaps: The newest few hundred intervals of missing numbers (both ends included), in order.
        unlisted_gaps, unlisted_numbers: Number of older gaps, and of the missing numbers in them.
        incredible, incredible_first: Count of numbers that do not credibly continue the sequence, and the lowest such
            number.
    """

    source_id: SortKey
    last_sequence: Annotated[int, Form(partial(Fields.whole, least=-1))]
    last_seen_s: int
    gaps: Spans = ()
    unlisted_gaps: Annotated[int, Added(0)] = 0
    unlisted_numbers: Annotated[int, Added(0)] = 0
    incredible: Annotated[int, Added(0)] = 0
    incredible_first: int | None = None

    @property
    def key(self) -> Key:
        return Key(SOURCE_PK, self.source_id)

    @property
    def missing(self) -> int:
        """Count of missing numbers."""
        return sum(last - first + 1 for first, last in self.gaps) + self.unlisted_numbers

    def is_live(self, now_s: int, life_s: int) -> bool:
        """Whether the source has sent a batch within `life_s`. Otherwise the source is no longer counted."""
        return self.last_seen_s > now_s - life_s

    def to_item(self) -> dict[str, Value]:
        item = item_of(self)
        if self.incredible_first is None:
            del item["incredible"]
        return item


# A source counts as silent if a complete pass looked for a batch of it and found none for this long.
SILENCE_S = DAY_S
# Where complete passes are rarer than that, new lake files say who sent. A file may come a day after its batches, and a
# source may send once a day.
_SILENCE_BY_FILES_S = 3 * DAY_S


def silence_of(scan_every_s: int) -> int:
    """Time without a batch after which a source counts as silent, by the interval of complete passes."""
    return SILENCE_S if scan_every_s <= DAY_S else _SILENCE_BY_FILES_S
