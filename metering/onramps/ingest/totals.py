"""Measures a log file: adds up its lines by the rules' verdicts. Calls no AWS service, and writes nothing.

Each distinct subject of an hour is judged once. Lines of the same record are added up across the whole file, so memory
holds one block and a limited number of distinct records.
"""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeVar

from metering.errors import LogFileRefusedError, ObjectChangedError, ObjectMissingError, ObjectUnreadableError
from metering.intake.records import resource_problems, traffic_of
from metering.onramps import plans, reading
from metering.onramps.ingest.causes import MANY, Bytes, OfResources, Parts, RecordKey
from metering.onramps.kinds import LogKind, why_refused
from metering.onramps.reasons import (
    Classified,
    Classifier,
    FileReason,
    LineReason,
    Outcome,
    Refused,
    Shadowed,
    Traffic,
    Unmetered,
)
from metering.onramps.rules.causes import Cause, Naming
from metering.onramps.sources import ANY, NAMED, Billable, Bills, LogStore, folder_contradicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.onramps.context.store import Timeline


class Verdict(NamedTuple):
    """Verdict on a subject; `usage_type` is empty unless the subject is metered.

    `other` means that the subject's account differs from the account in the file's name. `ends` is the number of
    the ends of the subject's bytes, None unless the file is read for causes.
    """

    outcome: Outcome
    usage_type: str = ""
    other: bool = False
    ends: int | None = None


# About 60 MB. A full cache is emptied; this only costs time.
_MOST_VERDICTS = 100_000


class Judge:
    """Caches verdicts, so that a subject that occurs in many blocks is judged once."""

    def __init__(self, classifier: Classifier[object], billable: Billable, causes: Causes | None = None) -> None:
        self._classifier = classifier
        self._billable = billable
        self._causes = causes
        self._verdicts: dict[tuple[object, int], Verdict] = {}

    def verdict(self, subject: object, hour_s: int) -> Verdict:
        key = (subject, hour_s)
        known = self._verdicts.get(key)
        if known is None:
            if len(self._verdicts) >= _MOST_VERDICTS:
                self._verdicts.clear()
            known = self._judged(self._classifier.outcome(subject, hour_s), hour_s)
            outcome, usage_type, other, _ = known
            if self._causes is not None and isinstance(outcome, Classified):
                known = Verdict(outcome, usage_type, other, self._causes.number(subject, hour_s, outcome, usage_type))
            self._verdicts[key] = known
        return known

    def _judged(self, outcome: Outcome, hour_s: int) -> Verdict:
        if not isinstance(outcome, Classified):
            # The detail of a refusal may name the subject, but refusals are summed by reason.
            return Verdict(outcome)
        other = self._billable.is_other(outcome.traffic.account_id)
        refused = self._billable.refused(outcome, hour_s)
        verdict = Verdict(refused) if refused is not None else _as_the_service_judges(outcome, outcome.traffic)
        return verdict._replace(other=other)


# The records of a file differ mostly in their resources, and this cache's key does not include the resource.
_traffic_of = lru_cache(maxsize=10_000)(traffic_of)


def _as_the_service_judges(outcome: Classified, traffic: Traffic) -> Verdict:
    """Check traffic against the contract, so that no record is sent that the service would refuse."""
    account_id, service, resource_id, direction, from_location, to_location, usage_type = traffic
    judged = _traffic_of((account_id, service, direction, from_location, to_location, usage_type or None))
    problems = [*judged.problems, *resource_problems(resource_id)]
    if not problems:
        return Verdict(outcome, judged.usage_type)
    reason, detail = problems[0]
    own = LineReason.INVALID_ACCOUNT if reason == "invalid_account_id" else LineReason.INVALID_VALUE
    return Verdict(Refused(own, f"{reason}: {detail}"))


K = TypeVar("K")
_HOUR_OF = attrgetter("hour_s")
MAX_ENDS = 1_000_000
"""Most distinct ends of a file, about 250 MB; a file with more has no detail."""
_UNKEPT = Cause("", "", "", "", MANY)


MAX_RECORDS = 250_000
"""Most distinct records of one file: five parts. A flow log of 3,000 interfaces has about 60,000."""
# A line that is kept is cut to this length.
_TEXT_CHARS = 4096


class HourTotal(NamedTuple):
    """Lines of one hour that become one record: exact bytes, earliest start and latest end in epoch seconds."""

    bytes: int
    lines: int
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Totals of a log file.

    Attributes:
        content_sha256: SHA-256 of the file's decompressed content; for Parquet, of the file itself.
        totals: Metered bytes by traffic and hour.
        balance: Its lines by outcome. It holds.
        shadowed: Lines and bytes for which another log has the authority, as `(log, lines, bytes)`.
        refusals: Refused lines and bytes, as `(reason, lines, bytes)`, sorted.
        refused: Kept refused lines, by line number; the balance counts all refused lines.
        hours: Hours in which lines start, for the contexts that a plan pins.
        others: Lines of accounts other than the account in the file's name.
        fields: Fields that all lines have; None for kinds of logs with fixed fields.
        causes: Causes of each record; empty unless the file was read for causes.
    """

    content_sha256: str
    totals: Mapping[tuple[Traffic, int], HourTotal]
    balance: reading.Balance
    shares: tuple[plans.Share, ...]
    shadowed: tuple[tuple[str, int, int], ...]
    refusals: tuple[tuple[str, int, int], ...]
    refused: tuple[reading.RefusedLine, ...]
    hours: frozenset[int]
    others: reading.Others = reading.NO_OTHERS
    fields: frozenset[str] | None = None
    causes: Parts = field(default_factory=dict)


class Causes(Protocol):
    """Rules that name the causes of one file (`metering.onramps.rules.causes`)."""

    def learn(self, shown: Iterable[reading.Shown]) -> None:
        """Note own addresses of interfaces."""

    def number(self, subject: Any, hour_s: int, outcome: Classified, usage_type: str) -> int:
        """Number of the ends of a classified subject's bytes."""

    def resolved(self, number: int, hour_s: int) -> Cause:
        """Cause of bytes whose ends have this number, after all lines were read."""


class Who(Enum):
    """Whether causes are determined.

    A real pass names causes by pinned contexts alone. A dry run also uses contexts of later hours, and takes the
    resource as the cause where a kind of log has no rules for causes.
    """

    NO = "no"
    PINNED = "pinned"
    DRY_RUN = "dry run"


def measure(
    stream: BinaryIO,
    kind: LogKind,
    name: reading.FileName,
    timeline: Timeline,
    settings: reading.ReadSettings | None = None,
    *,
    bills: Bills = ANY,
    max_records: int = MAX_RECORDS,
    watch: Callable[[reading.Block[object]], None] | None = None,
    who: Who = Who.NO,
) -> Measured:
    """Read a log file, judge its lines and add them up.

    Raises:
        LogFileRefusedError: The file as a whole cannot be metered.
        UnavailableError: The store of the file did not answer.
    """
    settings = settings or reading.ReadSettings()
    content = hashlib.sha256()
    classifier = kind.classifier(name, timeline)
    if isinstance(classifier, reading.Folding):
        settings = replace(settings, folding=classifier)
    causes: Causes | None = None
    if who is not Who.NO and isinstance(classifier, Naming):
        causes = classifier.causes(later=who is Who.DRY_RUN)
        settings = replace(settings, detail=causes)
    elif who is Who.DRY_RUN:
        causes = OfResources()
    judge = Judge(classifier, Billable(bills, name, timeline), causes)
    sums = _Sums(max_records=max_records, kept_refusals=settings.kept_refusals)
    for block in kind.read(stream, name, settings, digest=content.update):
        sums.add(block, judge)
        if causes is not None:
            causes.learn(block.shown)
        if watch is not None:
            watch(block)
    return sums.measured(content.hexdigest(), causes)


class _Cell:
    """Lines with the same verdict in one hour. Mutable, because a file has millions of cells."""

    __slots__ = ("bytes", "end_s", "lines", "parts", "start_s")
    bytes: int
    lines: int
    start_s: int
    end_s: int

    def __init__(self, first: reading.Observation[object] | _Cell) -> None:
        self.bytes, self.lines, self.start_s, self.end_s = first.bytes, first.lines, first.start_s, first.end_s
        self.parts: dict[int, list[int]] = {}

    def add(self, other: reading.Observation[object] | _Cell) -> None:
        self.bytes += other.bytes
        self.lines += other.lines
        self.start_s = min(self.start_s, other.start_s)
        self.end_s = max(self.end_s, other.end_s)


class _Sums:
    def __init__(self, *, max_records: int, kept_refusals: int) -> None:
        self._max_records = max_records
        self._kept_refusals = kept_refusals
        self._cells: dict[tuple[Classified, str, int], _Cell] = {}
        self._balance = reading.Balance()
        self._shadowed: dict[str, tuple[int, int]] = {}
        self._unmetered: dict[str, tuple[int, int]] = {}
        self._refusals: dict[str, tuple[int, int]] = {}
        self._refused: list[reading.RefusedLine] = []
        self._hours: set[int] = set()
        self._others: dict[bool, tuple[int, int]] = {}
        self._fields: frozenset[str] | None = None
        self._parted = 0

    def add(self, block: reading.Block[object], judge: Judge) -> None:
        """Add a block.

        Raises:
            LogFileRefusedError: The file has more distinct records than allowed.
        """
        self._balance += block.balance
        self._fields = common_fields(self._fields, block.fields)
        self._add_refused(block)
        cells = self._cells
        # Hours are in order, because a classifier caches only a few hours, and each hour may have its own context.
        for each in sorted(block.observations, key=_HOUR_OF):
            outcome, usage_type, other, ends = judge.verdict(each.subject, each.hour_s)
            self._hours.add(each.hour_s)
            if other:
                add_lines(self._others, isinstance(outcome, Classified), each.lines, each.bytes)
            if not isinstance(outcome, Classified):
                self._set_aside(outcome, each)
                continue
            key = (outcome, usage_type, each.hour_s)
            cell = cells.get(key)
            if cell is None:
                cell = self._open(key, each)
            else:
                cell.add(each)
            if ends is not None:
                part = cell.parts.get(ends)
                if part is None:
                    self._parted += 1
                    cell.parts[ends] = [each.bytes, each.lines]
                else:
                    part[0] += each.bytes
                    part[1] += each.lines

    def _open(self, key: tuple[Classified, str, int], first: reading.Observation[object]) -> _Cell:
        cell = self._cells[key] = _Cell(first)
        if len(self._cells) > self._max_records:
            raise LogFileRefusedError(
                FileReason.TOO_DIVERSE,
                f"it would become more than {self._max_records:,} records; is a field read as another one?",
            )
        return cell

    def _set_aside(self, outcome: Shadowed | Unmetered | Refused, lines: reading.Observation[object]) -> None:
        if isinstance(outcome, Shadowed):
            add_lines(self._shadowed, outcome.by, lines.lines, lines.bytes)
        elif isinstance(outcome, Unmetered):
            add_lines(self._unmetered, outcome.rule, lines.lines, lines.bytes)
        else:
            add_lines(self._refusals, outcome.reason, lines.lines, lines.bytes)
            if len(self._refused) < self._kept_refusals:
                self._refused.append(_as_line(lines, outcome))

    def _add_refused(self, block: reading.Block[object]) -> None:
        self._refused += block.refused[: max(0, self._kept_refusals - len(self._refused))]
        reasons = block.refusals or _by_reason(block.refused)
        for reason, (lines, size) in reasons.items():
            add_lines(self._refusals, reason, lines, size)
        lines, size = _sum(reasons)
        if lines != block.balance.refused:
            add_lines(
                self._refusals, LineReason.OTHER, block.balance.refused - lines, block.balance.refused_bytes - size
            )

    def measured(self, content_sha256: str, causes: Causes | None = None) -> Measured:
        totals: dict[tuple[Traffic, int], _Cell] = {}
        shares: dict[tuple[str, str, str], tuple[int, int]] = {}
        processed: dict[str, tuple[int, int]] = {}
        for (outcome, usage_type, hour_s), cell in self._cells.items():
            add_lines(shares, (usage_type, outcome.rule, outcome.reason), cell.lines, cell.bytes)
            _merge(totals, (outcome.traffic, hour_s), cell)
            if outcome.processed is not None:
                traffic, rule = outcome.processed
                add_lines(shares, (traffic.usage_type, rule, ""), cell.lines, cell.bytes)
                add_lines(processed, rule, cell.lines, cell.bytes)
                _merge(totals, (traffic, hour_s), cell)
        return Measured(
            content_sha256=content_sha256,
            totals={key: HourTotal(cell.bytes, cell.lines, cell.start_s, cell.end_s) for key, cell in totals.items()},
            balance=self._moved(*_sum(processed)),
            shares=tuple(
                plans.Share(usage_type=usage_type, rule=rule, reason=reason, bytes=size, lines=lines)
                for (usage_type, rule, reason), (lines, size) in sorted(shares.items())
            ),
            shadowed=_rows(self._shadowed),
            refusals=_rows(self._refusals),
            refused=tuple(sorted(self._refused)),
            hours=frozenset(self._hours),
            others=reading.Others(*_sum(self._others), *self._others.get(True, (0, 0))),
            fields=self._fields,
            causes={} if causes is None else self._causes(causes),
        )

    def _causes(self, causes: Causes) -> Parts:
        """Causes of each record; a record and its processing have the same causes."""
        parts: Parts = {}
        # By hour, because the rules remember the contexts of few hours.
        for (outcome, usage_type, hour_s), cell in sorted(self._cells.items(), key=lambda each: each[0][2]):
            keys = [RecordKey(outcome.traffic, hour_s, usage_type)]
            if outcome.processed is not None:
                traffic = outcome.processed.traffic
                keys.append(RecordKey(traffic, hour_s, traffic.usage_type))
            into = [parts.setdefault(key, {}) for key in keys]
            for ends, (size_bytes, lines) in cell.parts.items():
                cause = _UNKEPT if self._parted > MAX_ENDS else causes.resolved(ends, hour_s)
                if outcome.processed is not None:
                    cause = cause._replace(direction=outcome.traffic.direction)
                for found in into:
                    known = found.get(cause)
                    found[cause] = Bytes(size_bytes, lines) if known is None else known.plus(size_bytes, lines)
        return parts

    def _moved(self, processed: int, processed_bytes: int) -> reading.Balance:
        """Balance after the rules; the reader's balance counts every line that may be metered as `metered`."""
        balance = self._balance
        shadowed, shadowed_bytes = _sum(self._shadowed)
        unmetered, unmetered_bytes = _sum(self._unmetered)
        refused, refused_bytes = _sum(self._refusals)
        set_aside = shadowed + unmetered + refused - balance.refused
        set_aside_bytes = shadowed_bytes + unmetered_bytes + refused_bytes - balance.refused_bytes
        return replace(
            balance,
            metered=balance.metered - set_aside,
            metered_bytes=balance.metered_bytes - set_aside_bytes,
            shadowed=balance.shadowed + shadowed,
            shadowed_bytes=balance.shadowed_bytes + shadowed_bytes,
            rejected=balance.rejected + unmetered,
            rejected_bytes=balance.rejected_bytes + unmetered_bytes,
            refused=refused,
            refused_bytes=refused_bytes,
            processed=processed,
            processed_bytes=processed_bytes,
        )


def common_fields(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """Fields that both have in common; None counts as unknown."""
    return one if other is None else other if one is None else one & other


def _merge(totals: dict[tuple[Traffic, int], _Cell], key: tuple[Traffic, int], cell: _Cell) -> None:
    """Add a cell to the record of its traffic and hour. Two rules may produce the same record, and one line two."""
    known = totals.get(key)
    if known is None:
        totals[key] = _Cell(cell)
    else:
        known.add(cell)


def _as_line(first: reading.Observation[object], refused: Refused) -> reading.RefusedLine:
    """First of the lines that the rules refuse for one reason. The lines were added up, so line numbers are unknown."""
    subject = first.subject
    text = " ".join(filter(None, map(str, subject))) if isinstance(subject, tuple) else str(subject)
    return reading.RefusedLine(0, refused.reason, refused.detail, text[:_TEXT_CHARS], first.bytes)


def _by_reason(refused: Iterable[reading.RefusedLine]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for line in refused:
        add_lines(counts, line.reason, 1, line.bytes)
    return counts


def add_lines(into: dict[K, tuple[int, int]], key: K, lines: int, size_bytes: int) -> None:
    """Add lines and bytes to the sums of a key."""
    before = into.get(key, (0, 0))
    into[key] = (before[0] + lines, before[1] + size_bytes)


def _sum(counts: Mapping[K, tuple[int, int]]) -> tuple[int, int]:
    return sum(lines for lines, _ in counts.values()), sum(size for _, size in counts.values())


def _rows(counts: Mapping[str, tuple[int, int]]) -> tuple[tuple[str, int, int], ...]:
    return tuple((str(name), lines, size) for name, (lines, size) in sorted(counts.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One object of a bucket, or one file of a folder.

    Attributes:
        store: Bucket or folder of the file.
        etag: Required ETag of the file; empty if the file has no ETag.
        bills: Accounts that the lines may bill.
        watch: Called with each block.
    """

    store: LogStore
    key: str
    etag: str
    kind: LogKind
    name: reading.FileName
    settings: reading.ReadSettings
    bills: Bills = NAMED
    watch: Callable[[reading.Block[object]], None] | None = None

    @property
    def place(self) -> str:
        return place_of(self.store, self.key)

    def open(self) -> BinaryIO:
        return self.store.open(self.key, if_match=self.etag or None)

    def measured(self, timeline: Timeline, who: Who = Who.NO) -> Measured:
        """Read the file, judge its lines by `timeline`, add them up, and name causes if asked to.

        Raises:
            LogFileRefusedError: The file as a whole cannot be metered.
        """
        with closing(self.open()) as stream:
            return measure(
                stream, self.kind, self.name, timeline, self.settings, bills=self.bills, watch=self.watch, who=who
            )

    def called(self, identity: str) -> LogFile:
        """Copy of the file with an identity derived from its content."""
        return replace(self, name=replace(self.name, identity=identity))


def place_of(store: LogStore, key: str) -> str:
    """Location of a file, for display: `s3://acme-logs/AWSLogs/…`."""
    return f"{store.place.rstrip('/')}/{key}"


def path_of(store: LogStore, key: str) -> str:
    """Key of a file in a bucket, or its full path on a disk.

    Folders in a key can show the owner of the file. On a disk, a person may have named any part of the path.
    """
    return key if store.place.startswith("s3://") else place_of(store, key)


def kind_and_name(kinds: Sequence[LogKind], key: str, kind: LogKind | str | None) -> tuple[LogKind, reading.FileName]:
    """Kind of a file and its parsed name; `kind` is a log kind, or the name of a log kind, given by a person.

    Raises:
        LogFileRefusedError: The file's name is unknown, or the kind is not metered.
    """
    if kind is not None:
        said = kind if isinstance(kind, LogKind) else next((each for each in kinds if each.name == kind), None)
        if said is None:
            known = ", ".join(each.name for each in kinds)
            raise LogFileRefusedError(FileReason.NOT_METERED_KIND, f"{kind} is not a kind of log; known are: {known}")
        name = said.recognise(key)
        return said, name or reading.FileName(kind=said.name, identity="", parquet=key.endswith(".parquet"))
    for each in kinds:
        if (name := each.recognise(key)) is not None:
            return each, name
    why = why_refused(key)
    if why is not None:
        raise LogFileRefusedError(FileReason.NOT_METERED_KIND, why)
    raise LogFileRefusedError(
        FileReason.UNKNOWN_NAME, "its name is that of no log that is metered; if it is one, say which: --kind"
    )


def log_file(
    store: LogStore,
    key: str,
    kinds: Sequence[LogKind],
    *,
    etag: str,
    kind: LogKind | str | None,
    settings: reading.ReadSettings,
    bills: Bills,
    watch: Callable[[reading.Block[object]], None] | None = None,
) -> LogFile:
    """Describe the file at a key. If the name has no account, the only account that may be billed is used.

    Raises:
        LogFileRefusedError: The file's name matches no metered kind, or states an account other than its folder's.
    """
    path = path_of(store, key)
    said, name = kind_and_name(kinds, path, kind)
    if contradiction := folder_contradicts(path, name):
        raise LogFileRefusedError(FileReason.ACCOUNT_CONTRADICTS, contradiction)
    name = name if name.account_id else replace(name, account_id=bills.only)
    return LogFile(store=store, key=key, etag=etag, kind=said, name=name, settings=settings, bills=bills, watch=watch)


@contextmanager
def store_refusals() -> Iterator[None]:
    """Convert errors of a file's store to refusals.

    Raises:
        LogFileRefusedError: The store refuses to return the file.
    """
    try:
        yield
    except ObjectMissingError as error:
        raise LogFileRefusedError(FileReason.MISSING, "it is not there any more") from error
    except ObjectChangedError as error:
        raise LogFileRefusedError(FileReason.CHANGED_WHILE_READ, "it was replaced while it was read") from error
    except ObjectUnreadableError as error:
        raise LogFileRefusedError(FileReason.UNREADABLE, str(error)) from error
