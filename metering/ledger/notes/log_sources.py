"""Notes about log sources: files received from each source, operators' rulings, and figures of all sources.

| item                | pk               | sk                              | written by              |
|---------------------|------------------|---------------------------------|-------------------------|
| state of a source   | `W#log-source`   | `<kind>#<source>`               | the coverage job        |
| ruling              | `W#log-ruling`   | kind, source, ruling, times     | operators               |
| figures of all      | `W#log-sources`  | `W`                             | the coverage job        |

The sums of plans have their own notes (`log_sums`). A state is derived only from plans and rulings, so the next run of
the job rebuilds a lost state.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from metering.ledger.partitions import NOTE
from metering.stores.codec import AnyText, Fields, Form, SortKey, Spans, StoredItem
from metering.stores.writes import Key

LOG_SOURCE_PK = f"{NOTE}log-source"
LOG_RULING_PK = f"{NOTE}log-ruling"
LOG_SOURCES_KEY = Key(f"{NOTE}log-sources", "W")


class LogRulingKind(StrEnum):
    """Kinds of rulings on a source of logs."""

    ACCEPT_GAP = "accept-gap"
    FORGET = "forget"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRuling(StoredItem):
    """Ruling of an operator on a source of logs; the coverage job applies the ruling.

    Attributes:
        first_s, last_s: First and last accepted slot; 0 for the ruling `forget`.
        at_s: Time of the ruling. Ruling `forget` applies to files up to this time.
        by: AWS identity of the operator.
        expires_at: Epoch seconds; no gap is older than this time.
    """

    kind: str
    source: str
    ruling: LogRulingKind
    at_s: int
    by: str
    expires_at: int
    first_s: int = 0
    last_s: int = 0

    @property
    def key(self) -> Key:
        return Key(LOG_RULING_PK, f"{self.kind}#{self.source}#{self.ruling}#{self.first_s}-{self.last_s}")


def _sums(fields: Fields, name: str) -> tuple[tuple[str, int], ...]:
    sums = fields.nested(name)
    return tuple((each, sums.whole(each)) for each in sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSourceState(StoredItem):
    """State of one source of logs: a flow log, a distribution, a bucket whose requests are logged.

    Attributes:
        kind, source: Kind of log, and the resource that writes the files. `source` is empty if file names do not state
            the source.
        account_id, region: Account and region of the newest file; empty if no file states them.
        place: Location of the newest file, `s3://bucket/key`; for a flow log without files, the log's destination.
        named: Name of the log source in the stage's settings to which this source belongs; else empty. Only sources of
            the stage's settings hold completeness back and raise alarms.
        first_s, newest_s: First and newest slot with a file; None without files, or if the kind has no slots.
        missing: The oldest ranges of slots without a file, first and last slot included, in order.
        unlisted: Number of missing slots in later ranges, which are not in `missing`.
        through_s: Time up to which every record has arrived; None if unknown.
        planned_s: When the newest file was planned; 0 if there is none.
        expected_s: Time from which the contexts list the log; 0 if never listed.
        ended_s: Time from which no file is expected, because a context lists the log no longer or an operator forgot
            it; 0 if active.
        status: State of the log's delivery according to the context; empty if the context states none.
        shadowed_by: Other logs that have the authority over lines of this log (at most 20 logs).
        recent: Sums over the source's last two days, by name (`log_sums.RECENT`).
        deep_s: Time of the last check that covered the last day and all listed gaps.
        whole_s: Time of the last check that covered all files that can still be metered.
    """

    kind: str
    source: AnyText
    account_id: str = ""
    region: str = ""
    place: str = ""
    named: str = ""
    first_s: int | None = None
    newest_s: int | None = None
    missing: Spans = ()
    unlisted: int = 0
    through_s: int | None = None
    planned_s: int = 0
    expected_s: int = 0
    ended_s: int = 0
    status: str = ""
    shadowed_by: tuple[str, ...] = ()
    recent: Annotated[tuple[tuple[str, int], ...], Form(_sums, dict)] = ()
    looked_s: int = 0
    deep_s: int = 0
    whole_s: int = 0

    @property
    def key(self) -> Key:
        return Key(LOG_SOURCE_PK, f"{self.kind}#{self.source}")

    @property
    def came(self) -> bool:
        """Whether any file of the source was ever planned."""
        return self.planned_s > 0

    def recently(self, name: str) -> int:
        """One of the sums over the source's last two days."""
        return dict(self.recent).get(name, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures(StoredItem):
    """Figures of the log sources in the stage's settings, as of the coverage job's last run.

    Attributes:
        sources: Number of known sources, including sources outside the settings.
        log_sources: Number of log sources in the settings. If 0, no alarm fires and nothing is held back.
        missing_slots: Number of slots without a file, over all sources in the settings.
        silent: Number of sources that should deliver, but have not delivered for a long time, or never.
        refusing: Number of sources of whose lines more than 1 % are refused.
        unclassified: Number of sources whose unclassified share of bytes exceeds the stage's limit.
        unclassified_permille: Share of unclassified bytes in all metered bytes of logs of the last two days.
        context_s: Time from which the newest context holds; 0 if there is none.
        held_s: Time up to which the flow logs are complete; None if no flow log holds back completeness.
        holding: Number of sources that have missing slots or never delivered.
        first: The source that holds completeness back the most; empty if no source does.
        place: Location of the files of source `first`, `s3://bucket/prefix`.
        settles_s: Age from which logs of other kinds in the settings are assumed complete; 0 without such logs.
        found_after: Key after which the search for new sources continues.
        found_s: Time when a search through all plans last ended.
        first_run_s: Time when the coverage job first ran.
    """

    key: ClassVar[Key] = LOG_SOURCES_KEY
    looked_s: int
    sources: int = 0
    log_sources: int = 0
    missing_slots: int = 0
    silent: int = 0
    refusing: int = 0
    unclassified: int = 0
    unclassified_permille: int = 0
    context_s: int = 0
    held_s: int | None = None
    holding: int = 0
    first: str = ""
    place: str = ""
    settles_s: int = 0
    found_after: str = ""
    found_s: int = 0
    first_run_s: int = 0


# Sums over the plans of one log source: `W#log-sums-<kind>#<source>`, one item per day, or per hour.
#
# An item lists the plans that its sums include, so each plan is read once, in any order. An item that was written twice
# or lost is never wrong: its sums are always those of the plans that it names.


# Length of the digest prefix that identifies a plan: two plans of an item share it with a probability below 1 in 10^6.
NAME_CHARS = 12
# An item lists at most this many plans, to stay below 400 KB: 86 files per slot of one flow log. Others are not summed.
MOST_PLANS = 25_000
# Sums of the last two days, which a source's state repeats for metrics.
RECENT = ("lines", "refused", "skipdata", "metered_bytes", "unclassified_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSums(StoredItem):
    """Sums over the plans of one source and one day or hour.

    Attributes:
        label: Day, `2026-11-24`, or hour, `2026-11-24T13`, of the sums.
        balance: Lines and bytes by outcome, under the names of a file's balance.
        unclassified: Unclassified bytes by reason.
        refusals: Refused lines by reason.
        shadowed: Shadowed bytes, by the log that has the authority over these bytes.
        names: Names of the summed plans: the first characters of their digests, concatenated.
    """

    kind: str
    source: AnyText
    label: SortKey
    plans: int = 0
    balance: Mapping[str, int] = field(default_factory=dict)
    unclassified: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)
    shadowed: Mapping[str, int] = field(default_factory=dict)
    names: str = ""

    @property
    def key(self) -> Key:
        return Key(log_sums_pk(self.kind, self.source), self.label)

    @property
    def unclassified_bytes(self) -> int:
        return sum(self.unclassified.values())

    def named(self) -> set[str]:
        """Names of the plans that the sums include."""
        return {self.names[at : at + NAME_CHARS] for at in range(0, len(self.names), NAME_CHARS)}


def log_sums_pk(kind: str, source: str) -> str:
    """Partition of the sums of one source."""
    return f"{NOTE}log-sums-{kind}#{source}"


def added(maps: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by word."""
    result: dict[str, int] = {}
    for each in maps:
        for word, number in each.items():
            result[word] = result.get(word, 0) + number
    return result


def sum_log_sums(kind: str, source: str, label: str, parts: Iterable[LogSums]) -> LogSums:
    """The sum of several items of one source, without the names of the plans."""
    kept = tuple(parts)
    return LogSums(
        kind=kind,
        source=source,
        label=label,
        plans=sum(each.plans for each in kept),
        balance=added(each.balance for each in kept),
        unclassified=added(each.unclassified for each in kept),
        refusals=added(each.refusals for each in kept),
        shadowed=added(each.shadowed for each in kept),
    )
