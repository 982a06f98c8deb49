"""What the canary, the watch and the reconciler keep in the ledger for people and alarms.

| item                | pk            | sk                         | written by   |
|---------------------|---------------|----------------------------|--------------|
| canary run          | `W#canary`    | start of its minute        | canary       |
| watch state         | `W#watch`     | `W`                        | watch        |
| completeness        | `W#complete`  | `W`                        | watch        |
| conflict seen       | `W#conflict`  | moment, batch id, hash     | aggregator   |
| reconciliation      | `W#reconcile` | `W`                        | reconciler   |
| work list           | `W#worklist`  | `W`                        | reconciler   |
| source              | `W#source`    | source id                  | reconciler   |

What the watch remembers of the queues is in `metering.domain.queue_memory`, rulings on sources and their figures are in
`metering.domain.source_items`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.domain.fields import Fields
from metering.domain.hours import hour_label, rfc3339
from metering.domain.items import Key
from metering.domain.lake import Source
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.domain.items import Item, Value

CANARY_PK = "W#canary"
CONFLICT_PK = "W#conflict"
WATCH_KEY = Key("W#watch", "W")
COMPLETENESS_KEY = Key("W#complete", "W")
RECONCILIATION_KEY = Key("W#reconcile", "W")
WORK_LIST_KEY = Key("W#worklist", "W")
SOURCE_PK = "W#source"

# How long canary runs and conflicts are remembered.
REMEMBERED_S = 7 * DAY_S


class CanaryVerdict(StrEnum):
    """What became of a canary batch."""

    SENT = "sent"
    GOOD = "good"
    LATE = "late"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRun:
    """One canary batch.

    Attributes:
        slot_s: Start of its minute, epoch seconds; names the batch.
        settled_s: When its verdict was found; 0 while it is `sent`.
    """

    slot_s: int
    sent_s: int
    verdict: CanaryVerdict = CanaryVerdict.SENT
    settled_s: int = 0

    @property
    def key(self) -> Key:
        return canary_key(self.slot_s)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "slot_s": self.slot_s,
            "sent_s": self.sent_s,
            "verdict": self.verdict.value,
            "settled_s": self.settled_s,
            "expires_at": self.sent_s + REMEMBERED_S,
        }

    @classmethod
    def from_item(cls, item: Item) -> CanaryRun:
        fields = Fields.of_item(item)
        made = cls(
            slot_s=fields.whole("slot_s"),
            sent_s=fields.whole("sent_s"),
            verdict=fields.one_of("verdict", tuple(CanaryVerdict)),
            settled_s=fields.whole("settled_s"),
        )
        fields.check_key(made.key)
        return made


def canary_key(slot_s: int) -> Key:
    """Key of a canary run; sorts as time does."""
    return Key(CANARY_PK, rfc3339(slot_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """What the watch remembers from one run to the next.

    Attributes:
        first_s: When it ran for the first time: ages of what never was count from then.
        queue_empty_s: When it last saw the ingest queue empty; 0 if it never did.
    """

    first_s: int
    queue_empty_s: int

    def to_item(self) -> dict[str, Value]:
        return {**WATCH_KEY._asdict(), "first_s": self.first_s, "queue_empty_s": self.queue_empty_s}

    @classmethod
    def from_item(cls, item: Item) -> WatchState:
        fields = Fields.of_item(item)
        return cls(first_s=fields.whole("first_s"), queue_empty_s=fields.whole("queue_empty_s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Up to when all that was sent is counted, as the watch last measured it.

    Attributes:
        through_s: All that was sent before it is counted, epoch seconds. That stays true, so it may be read late.
        published: Hours that have rows in staging, and had others published before.
        open: Wide commits that were open, the oldest first, as many as a sweep can take.
    """

    through_s: int
    published: frozenset[int] = frozenset()
    open: tuple[str, ...] = ()

    def to_item(self) -> dict[str, Value]:
        published: list[Value] = [hour_label(hour_s) for hour_s in sorted(self.published)]
        return {
            **COMPLETENESS_KEY._asdict(),
            "through_s": self.through_s,
            "published": published,
            "open": list(self.open),
        }

    @classmethod
    def from_item(cls, item: Item) -> Completeness:
        fields = Fields.of_item(item)
        return cls(
            through_s=fields.whole("through_s"),
            published=frozenset(fields.hours("published")),
            # Items of before there was a sweep each minute name none.
            open=fields.texts("open") if "open" in fields else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was published and is not compared yet.

    Attributes:
        waiting: How many hours and files.
        since_s: When the oldest of them was put on the list, epoch seconds; None if nothing waits.
    """

    waiting: int = 0
    since_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What the reconciler's last pass came to.

    Attributes:
        finished_s: When a pass came to everything that it had to compare, epoch seconds.
        hours: How many hours it compared.
        differences: In how many of them two passes showed the same difference.
        gaps_since_s: What a source is known to miss was made after this, epoch seconds; None if nothing is missing.
        backlog: What the last pass left.
    """

    finished_s: int
    hours: int
    differences: int
    gaps_since_s: int | None = None
    backlog: Backlog = Backlog()

    def to_item(self) -> dict[str, Value]:
        gaps: dict[str, Value] = {} if self.gaps_since_s is None else {"gaps_since_s": self.gaps_since_s}
        since: dict[str, Value] = {} if self.backlog.since_s is None else {"waiting_since_s": self.backlog.since_s}
        return {
            **gaps,
            **since,
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
            # Items of before it was measured have none.
            backlog=Backlog(
                waiting=fields.whole("waiting", absent=0), since_s=fields.whole("waiting_since_s", absent=None)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkList:
    """What the reconciler has to compare, beside reading everything. Each entry with when it was put on the list.

    Attributes:
        runs: The last run of each shard whose hours and files are on the list, or were.
        hours: Hours that something was published in since they were last found equal.
        files: Lake files that were not found equal to the markers of their batches yet.
        scanned_s: When everything was read last, or that was tried, epoch seconds.
    """

    runs: Mapping[int, int] = field(default_factory=dict)
    hours: Mapping[int, int] = field(default_factory=dict)
    files: Mapping[Source, int] = field(default_factory=dict)
    scanned_s: int = 0

    def backlog(self, *, different: frozenset[int | str] = frozenset()) -> Backlog:
        """What waits, but for the hours and the keys of files that were compared and differ."""
        since = [since_s for hour_s, since_s in self.hours.items() if hour_s not in different]
        since += [since_s for file, since_s in self.files.items() if file.key not in different]
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
            "scanned_s": self.scanned_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> WorkList:
        """An item without moments, of an earlier revision, is an empty list: everything is read, which renews it."""
        fields = Fields.of_item(item)
        if "waiting" not in fields:
            return cls()
        runs, waiting = fields.nested("runs"), fields.nested("waiting")
        return cls(
            runs={runs.number_named(shard): runs.whole(shard) for shard in runs},
            hours={waiting.hour_named(label): waiting.whole(label) for label in waiting},
            files={
                Source(
                    key=file.text("key"),
                    hour_s=file.hour("hour"),
                    rows=file.whole("rows"),
                    bytes=file.whole("bytes"),
                    staged=False,
                ): file.whole("since_s")
                for file in fields.rows("files", ("hour", "key", "rows", "bytes", "since_s"))
            },
            scanned_s=fields.whole("scanned_s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """A producer that numbers its batches, as derived from markers.

    Attributes:
        last_sequence: Highest credible number seen.
        last_seen_s: When a batch of it was decided last, epoch seconds; 0 after it was forgotten, until it sends again.
        gaps: Numbers that are missing, as intervals with both ends, in order: the newest few hundred.
        unlisted_gaps, unlisted_numbers: Older gaps, and the numbers that were missing in them.
        incredible, incredible_first: How many numbers came that are no credible continuation, and the least of them.
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
        """How many numbers are missing."""
        return sum(last - first + 1 for first, last in self.gaps) + self.unlisted_numbers

    def is_live(self, now_s: int, life_s: int) -> bool:
        """Whether it has sent anything for so long. One that has not is no source any more."""
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
            # Items of before they were bounded list all their gaps.
            unlisted_gaps=fields.whole("unlisted_gaps", absent=0),
            unlisted_numbers=fields.whole("unlisted_numbers", absent=0),
            incredible=fields.whole("incredible", absent=0),
            incredible_first=fields.whole("incredible_first", absent=None),
        )


def conflict_seen_item(batch_id: str, content_hash: str, now_s: int) -> dict[str, Value]:
    """The note that a conflict was settled at a moment, so that the watch can count new ones without a scan."""
    key = Key(CONFLICT_PK, f"{rfc3339(now_s)}#{batch_id}#{content_hash}")
    return {**key._asdict(), "expires_at": now_s + REMEMBERED_S}


def conflict_of(item: Item) -> tuple[str, str]:
    """Batch id and content hash of a conflict that was seen."""
    fields = Fields.of_item(item)
    parts = fields.text("sk").split("#")
    if len(parts) != 3 or not all(parts):
        fields.fail("sk", "a moment, a batch id and a hash")
    return parts[1], parts[2]
