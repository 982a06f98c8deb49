"""Notes of the reconciler: the result of its last pass, its work list, and sources that number their batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.ledger.booked_hours import RowSource
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Item, Key, Value
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping


RECONCILIATION_KEY = Key(f"{NOTE}reconcile", "W")
WORK_LIST_KEY = Key(f"{NOTE}worklist", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Backlog: published hours and files that are not compared yet.

    Attributes:
        waiting: Number of hours and files.
        since_s: Time when the oldest of them was put on the list, epoch seconds; None if nothing waits.
    """

    waiting: int = 0
    since_s: int | None = None

    def plus(self, other: Backlog) -> Backlog:
        """What waits in either."""
        since = [since_s for since_s in (self.since_s, other.since_s) if since_s is not None]
        return Backlog(waiting=self.waiting + other.waiting, since_s=min(since, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Result of the reconciler's last pass.

    Attributes:
        finished_s: Time when a pass had compared everything on its list, epoch seconds.
        hours: Number of hours that it compared.
        differences: Number of hours in which two passes showed the same difference.
        scan_due_s: Time by which the next scan of everything is due, epoch seconds; None before the first one ended.
        gaps_since_s: Earliest time a missing batch can have been produced, epoch seconds; None if nothing is missing.
        backlog: Backlog that the last pass left.
    """

    finished_s: int
    hours: int
    differences: int
    gaps_since_s: int | None = None
    backlog: Backlog = Backlog()
    scan_due_s: int | None = None

    def to_item(self) -> dict[str, Value]:
        gaps: dict[str, Value] = {} if self.gaps_since_s is None else {"gaps_since_s": self.gaps_since_s}
        since: dict[str, Value] = {} if self.backlog.since_s is None else {"waiting_since_s": self.backlog.since_s}
        due: dict[str, Value] = {} if self.scan_due_s is None else {"scan_due_s": self.scan_due_s}
        return {
            **gaps,
            **since,
            **due,
            **RECONCILIATION_KEY._asdict(),
            "finished_s": self.finished_s,
            "hours": self.hours,
            "differences": self.differences,
            "waiting": self.backlog.waiting,
        }

    @classmethod
    def from_item(cls, item: Item) -> Reconciliation:
        fields = Fields.of_item(item)
        return cls(
            finished_s=fields.whole("finished_s"),
            hours=fields.whole("hours"),
            differences=fields.whole("differences"),
            gaps_since_s=fields.whole("gaps_since_s", absent=None),
            scan_due_s=fields.whole("scan_due_s", absent=None),
            # Items written before the backlog was measured have none.
            backlog=Backlog(
                waiting=fields.whole("waiting", absent=0), since_s=fields.whole("waiting_since_s", absent=None)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What a scan found to differ in an hour. A quick pass meets by itself only accounts with rows, and new files.

    Attributes:
        accounts: Accounts whose usage differs.
        batches: Batches whose marker differs.
    """

    accounts: frozenset[str] = frozenset()
    batches: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.accounts) + len(self.batches)

    def to_map(self) -> dict[str, Value]:
        return {"accounts": [*sorted(self.accounts)], "batches": [*sorted(self.batches)]}

    @classmethod
    def of_fields(cls, fields: Fields) -> Suspects:
        return cls(accounts=frozenset(fields.texts("accounts")), batches=frozenset(fields.texts("batches")))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """Work list of the reconciler's quick pass. Each entry has the time when it was put on the list.

    Attributes:
        runs: Newest run per shard already added to this list.
        hours: Hours with files that were published since the hours were last found equal.
        files: Lake files that are not yet found equal to the markers of their batches.
        suspects: What a scan found to differ in some of the hours.
        unjudged: Hours in which a scan found something to differ that nobody looked at. Only a scan takes them off.
        scanned_s: Start of the last full scan, completed or not, epoch seconds.
        scan_tries: Ticks that worked on the scan since it was saved last; 0 without a scan that is not at its end.
        scan_runs: Newest run per shard when that scan began.
    """

    runs: Mapping[int, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    files: Mapping[RowSource, int] = field(default_factory=dict)
    suspects: Mapping[int, Suspects] = field(default_factory=dict)
    unjudged: Mapping[int, int] = field(default_factory=dict)
    scanned_s: int = 0
    scan_tries: int = 0
    scan_runs: Mapping[int, int] = field(default_factory=dict)

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """Backlog without the hours and the keys of files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
        since += self.unjudged.values()
        return Backlog(waiting=len(since), since_s=min(since, default=None))

    def to_item(self) -> dict[str, Value]:
        waiting: dict[str, Value] = {hour_label(hour_s): since_s for hour_s, since_s in sorted(self.hours.items())}
        files: list[Value] = [
            [hour_label(file.hour_s), file.key, file.rows, file.bytes, since_s]
            for file, since_s in sorted(self.files.items(), key=lambda entry: entry[0].key)
        ]
        return {
            **WORK_LIST_KEY._asdict(),
            "runs": {str(shard): run for shard, run in self.runs.items()},
            "waiting": waiting,
            "files": files,
            "suspects": {hour_label(hour_s): found.to_map() for hour_s, found in sorted(self.suspects.items())},
            "unjudged": {hour_label(hour_s): since_s for hour_s, since_s in sorted(self.unjudged.items())},
            "scanned_s": self.scanned_s,
            "scan_tries": self.scan_tries,
            "scan_runs": {str(shard): run for shard, run in self.scan_runs.items()},
        }

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """Decode the list. An item of an earlier revision has no times, and counts as empty until a full scan."""
        fields = Fields.of_item(item)
        if "waiting" not in fields:
            return cls()
        return cls(
            runs=_runs_of(fields, "runs"),
            hours=_hours_of(fields, "waiting"),
            files={
                RowSource(
                    key=file.text("key"),
                    hour_s=file.hour("hour"),
                    rows=file.whole("rows"),
                    bytes=file.whole("bytes"),
                    staged=False,
                ): file.whole("since_s")
                for file in fields.rows("files", ("hour", "key", "rows", "bytes", "since_s"))
            },
            suspects=_suspects_of(fields),
            unjudged=_hours_of(fields, "unjudged"),
            scanned_s=fields.whole("scanned_s"),
            scan_tries=fields.whole("scan_tries", absent=0),
            scan_runs=_runs_of(fields, "scan_runs"),
        )


def _hours_of(fields: Fields, name: str) -> dict[int, int]:
    if name not in fields:
        return {}
    hours = fields.nested(name)
    return {hours.hour_named(label): hours.whole(label) for label in hours}


def _suspects_of(fields: Fields) -> dict[int, Suspects]:
    if "suspects" not in fields:
        return {}
    hours = fields.nested("suspects")
    return {hours.hour_named(label): Suspects.of_fields(hours.nested(label)) for label in hours}


def _runs_of(fields: Fields, name: str) -> dict[int, int]:
    if name not in fields:
        return {}
    runs = fields.nested(name)
    return {runs.number_named(shard): runs.whole(shard) for shard in runs}


# Notes about sources (producers that number their batches): rulings, figures, and the state of each source.
#
# | item                | pk            | sk                              | written by   |
# |---------------------|---------------|---------------------------------|--------------|
# | ruling              | `W#ruling`    | source id, kind, numbers        | operators    |
# | figures of sources  | `W#sources`   | `W`                             | reconciler   |


RULING_PK = f"{NOTE}ruling"
SOURCES_KEY = Key(f"{NOTE}sources", "W")
# Number of sources that are named if some could not be followed; all of them are counted.
NAMED = 20


class RulingKind(StrEnum):
    """Kinds of rulings."""

    ACCEPT_GAP = "accept-gap"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """Operator's ruling on a source, which the reconciler honours. A repeated ruling only gets a new time.

    Attributes:
        numbers: First and last number of the gap that is accepted; None for everything up to `at_ms`.
        by: AWS identity of the operator.
        expires_at: Epoch seconds. No marker from before the ruling may outlive it.
    """

    source_id: str
    kind: RulingKind
    at_ms: int
    by: str
    expires_at: int
    numbers: tuple[int, int] | None = None

    @property
    def key(self) -> Key:
        which = "all" if self.numbers is None else f"{self.numbers[0]}-{self.numbers[1]}"
        return Key(RULING_PK, f"{self.source_id}#{self.kind}#{which}")

    def to_item(self) -> dict[str, Value]:
        numbers: list[Value] = [] if self.numbers is None else list(self.numbers)
        return {
            **self.key._asdict(),
            "source_id": self.source_id,
            "kind": self.kind.value,
            "numbers": numbers,
            "at_ms": self.at_ms,
            "by": self.by,
            "expires_at": self.expires_at,
        }

    @classmethod
    def from_item(cls, item: Item) -> Ruling:
        fields = Fields.of_item(item)
        numbers = fields.wholes("numbers")
        if len(numbers) not in {0, 2}:
            fields.fail("numbers", "a first and a last number, or none")
        made = cls(
            source_id=fields.text("source_id"),
            kind=fields.one_of("kind", tuple(RulingKind)),
            at_ms=fields.whole("at_ms"),
            by=fields.text("by"),
            expires_at=fields.whole("expires_at"),
            numbers=(numbers[0], numbers[1]) if numbers else None,
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """Figures of all sources, as of the last whole pass and the rulings that were honoured since.

    Attributes:
        scanned_ms: Time when the last whole pass read the markers. Silence and gaps are as of then.
        ruled_ms: Time of the newest ruling that is honoured.
        sources: Number of sources that are followed.
        silent: Number of them that had sent nothing for `SILENCE_S`.
        gaps: Number of gaps of all of them, unlisted gaps included.
        incredible: Number of sources with numbers that do not credibly continue their sequence.
        unkept: Number of sources that could not be read or written, and of batches of sources beyond those that are
            followed.
        names: The first of those sources.
    """

    scanned_ms: int = 0
    ruled_ms: int = 0
    sources: int = 0
    silent: int = 0
    gaps: int = 0
    incredible: int = 0
    unkept: int = 0
    names: tuple[str, ...] = ()

    def to_item(self) -> dict[str, Value]:
        return {
            **SOURCES_KEY._asdict(),
            "scanned_ms": self.scanned_ms,
            "ruled_ms": self.ruled_ms,
            "sources": self.sources,
            "silent": self.silent,
            "gaps": self.gaps,
            "incredible": self.incredible,
            "unkept": self.unkept,
            "names": list(self.names),
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceFigures:
        fields = Fields.of_item(item)
        return cls(
            scanned_ms=fields.whole("scanned_ms"),
            ruled_ms=fields.whole("ruled_ms"),
            sources=fields.whole("sources"),
            silent=fields.whole("silent"),
            gaps=fields.whole("gaps"),
            incredible=fields.whole("incredible"),
            unkept=fields.whole("unkept"),
            names=fields.texts("names"),
        )


SOURCE_PK = f"{NOTE}source"


def source_id_of(item: Item) -> str:
    """The source id of a source's item, even if the item cannot be read otherwise."""
    return str(item["sk"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """State of a source, as derived from markers.

    Attributes:
        last_sequence: Highest credible number seen.
        last_seen_s: Time when its last batch was decided, epoch seconds; 0 after it was forgotten, until it sends
            again.
        gaps: Missing numbers, as intervals with both ends, in order: the newest few hundred.
        unlisted_gaps, unlisted_numbers: Numbers of older gaps, and of the missing numbers in them.
        incredible, incredible_first: Count of numbers that do not credibly continue the sequence, and the least of
            them.
    """

    source_id: str
    last_sequence: int
    last_seen_s: int
    gaps: tuple[tuple[int, int], ...] = ()
    unlisted_gaps: int = 0
    unlisted_numbers: int = 0
    incredible: int = 0
    incredible_first: int | None = None

    @property
    def missing(self) -> int:
        """Count of missing numbers."""
        return sum(last - first + 1 for first, last in self.gaps) + self.unlisted_numbers

    def is_live(self, now_s: int, life_s: int) -> bool:
        """Whether it has sent anything within `life_s`. Otherwise it does not count as a source any more."""
        return self.last_seen_s > now_s - life_s

    def to_item(self) -> dict[str, Value]:
        gaps: list[Value] = [[first, last] for first, last in self.gaps]
        incredible: dict[str, Value] = {}
        if self.incredible_first is not None:
            incredible = {"incredible": self.incredible, "incredible_first": self.incredible_first}
        return {
            **Key(SOURCE_PK, self.source_id)._asdict(),
            "last_sequence": self.last_sequence,
            "last_seen_s": self.last_seen_s,
            "gaps": gaps,
            "unlisted_gaps": self.unlisted_gaps,
            "unlisted_numbers": self.unlisted_numbers,
            **incredible,
        }

    @classmethod
    def from_item(cls, item: Item) -> SourceState:
        fields = Fields.of_item(item)
        return cls(
            source_id=fields.text("sk"),
            last_sequence=fields.whole("last_sequence", least=-1),
            last_seen_s=fields.whole("last_seen_s"),
            gaps=tuple((gap.whole("first"), gap.whole("last")) for gap in fields.rows("gaps", ("first", "last"))),
            # Items written before gaps were bounded list all of them.
            unlisted_gaps=fields.whole("unlisted_gaps", absent=0),
            unlisted_numbers=fields.whole("unlisted_numbers", absent=0),
            incredible=fields.whole("incredible", absent=0),
            incredible_first=fields.whole("incredible_first", absent=None),
        )


# Time without a batch after which a source counts as silent, as of the whole pass that looked for it.
SILENCE_S = DAY_S
