"""Planning: stores each log file's plan once, with the contexts that judged the file. Other processes follow it."""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

from metering.errors import LogFileRefusedError, ObjectMissingError
from metering.intake import messages
from metering.intake.work import MAX_RECORDS
from metering.onramps import reading
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.causes import digest_of, rows_of
from metering.onramps.ingest.totals import Who
from metering.onramps.plans import Part, Plan, plan_key
from metering.onramps.reasons import FileReason, LineReason, Traffic
from metering.stores.objects import CONTEXT_PREFIX, ObjectStore, log_part_key
from metering.units import DAY_S, HOUR_S, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.onramps.ingest.causes import CauseRow
    from metering.onramps.ingest.totals import HourTotal, LogFile, Measured
    from metering.stores.clock import Clock

# Parts of a plan: sorted records of a log file, at most 50,000 per batch. The same totals always give the same records
# in the same order, with any version of the libraries. A part's name is the SHA-256 of its records, because another
# version of pyarrow may write different bytes for the same records. Any object under a part's key has the part's
# records, and the SHA-256 of the object itself goes into the message.
#
# A record's `start` and `end` are the earliest start and the latest end of its log lines. Lines of one hour may span
# more than an hour (one from 10:05, one until 11:09). In this case, `end` is set to an hour after `start`, which is the
# contract's maximum. The booked hour follows from `start`, so this does not affect it. A total that exceeds the largest
# number of a record becomes several records. A total of 0 bytes becomes a record, too, because there was a transfer.


class LogRecord(NamedTuple):
    """Record as defined by the contract; `usage_type` is empty if the contract's table determines it."""

    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    start_s: int
    end_s: int
    bytes: int


class PartRecords(NamedTuple):
    """A part of a plan, with its records."""

    part: Part
    records: Sequence[LogRecord]


def parts_of(identity: str, totals: Mapping[tuple[Traffic, int], HourTotal]) -> Iterator[PartRecords]:
    """Yield the parts of a file, in order, one at a time."""
    records = _records(totals)
    number = 0
    while group := tuple(islice(records, MAX_RECORDS)):
        part = Part(
            batch_id=f"{identity}/{number}",
            records=len(group),
            bytes=sum(record.bytes for record in group),
            sha256=_digest(group),
        )
        yield PartRecords(part, group)
        number += 1


def _records(totals: Mapping[tuple[Traffic, int], HourTotal]) -> Iterator[LogRecord]:
    for traffic, hour_s in sorted(totals):
        total = totals[traffic, hour_s]
        end_s = min(total.end_s, total.start_s + HOUR_S)
        rest = total.bytes
        while rest > INT64_MAX:
            yield LogRecord(*traffic, total.start_s, end_s, INT64_MAX)
            rest -= INT64_MAX
        yield LogRecord(*traffic, total.start_s, end_s, rest)


def _digest(records: Sequence[LogRecord]) -> str:
    digest = hashlib.sha256()
    for record in records:
        # No field of the contract contains a line feed or a tab.
        digest.update("\t".join(map(str, record)).encode() + b"\n")
    return digest.hexdigest()


def part_key(identity: str, part: Part) -> str:
    """Key of a part's object."""
    return log_part_key(identity, int(part.batch_id.rpartition("/")[2]), part.sha256)


def parquet_of(records: Sequence[LogRecord]) -> bytes:
    """Encode records as a Parquet file with the columns of the contract."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("account_id", "service", "resource_id", "direction", "from", "to")
    columns = list(zip(*records, strict=True))
    table = pa.table(
        {
            **{name: pa.array(columns[place], pa.string()) for place, name in enumerate(texts)},
            "usage_type": pa.array([text or None for text in columns[6]], pa.string()),
            "bytes": pa.array(columns[9], pa.int64()),
            "start": pa.array(columns[7], pa.int64()),
            "end": pa.array(columns[8], pa.int64()),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def message_of(part: Part, *, bucket: str, key: str, stored_sha256: str) -> str:
    """The batch message of a part."""
    message = {
        "schema": messages.SCHEMA,
        "batch_id": part.batch_id,
        "record_count": part.records,
        "location": {"bucket": bucket, "key": key, "format": "parquet", "compression": "none"},
        "sha256": stored_sha256,
    }
    return json.dumps(message, separators=(",", ":"))


_UNOWNED = frozenset({
    LineReason.INVALID_ACCOUNT, LineReason.NO_REGION, LineReason.ACCOUNT_NOT_ALLOWED, LineReason.OTHER_ACCOUNT
})  # fmt: skip


class Contexts(Protocol):
    """Versions of the context (`metering.onramps.context.store.ContextStore`)."""

    def timeline(self) -> Timeline:
        """The newest versions."""

    def pinned(self, pins: Mapping[int, str]) -> Timeline:
        """Context versions that a plan pins, by the hour from which each holds.

        Raises:
            ObjectMissingError: A pinned version was deleted.
        """


class Planned(NamedTuple):
    """A stored plan, and the current file measured by the plan's contexts. `new` is True if this call put the plan."""

    plan: Plan
    measured: Measured
    new: bool

    @property
    def cause_rows(self) -> tuple[CauseRow, ...]:
        """Rows of the file's cause part; empty if the plan has another digest, or no digest."""
        rows = rows_of(self.plan.identity, self.measured.causes, self.measured.totals) if self.plan.causes else ()
        return rows if digest_of(rows) == self.plan.causes else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Puts plans, and reads existing plans.

    Attributes:
        window_s: Age from which the service refuses records; None to skip the check.
        causes: Whether new plans have causes.
    """

    objects: ObjectStore
    contexts: Contexts
    clock: Clock
    window_s: int | None
    causes: bool = False

    def found(self, file: LogFile) -> Plan | None:
        key = plan_key(file.kind.name, file.name.source, file.name.slot_s, file.name.identity)
        try:
            return Plan.from_json(self.objects.get(key), key)
        except ObjectMissingError:
            return None

    def planned(self, file: LogFile, *, overlap_known: bool) -> Planned:
        """Measure a file without a plan, and put its plan; if another process has put a plan meanwhile, use that plan.

        `overlap_known` means that a person ruled out other logs of the same traffic, so no context needs to list them.

        Raises:
            LogFileRefusedError: The file as a whole cannot be metered, or the contexts of the plan were deleted.
        """
        with _missing_context_named():
            timeline = self.contexts.timeline()
            if not overlap_known:
                _check_context(file, timeline)
            measured = _measured(file, timeline, causes=self.causes)
        self._check_age(measured)
        check_owner(file, measured)
        plan = self._plan_of(file, measured, timeline)
        if self.objects.put(plan.key, plan.to_json(), if_absent=True):
            return Planned(plan, measured, new=True)
        # Another process stored its plan first, possibly with other contexts.
        return self.followed(file, Plan.from_json(self.objects.get(plan.key), plan.key))

    def followed(self, file: LogFile, plan: Plan) -> Planned:
        """Measure a file by its plan, even if its lines may now bill other accounts.

        Raises:
            LogFileRefusedError: A context that the plan names was deleted.
        """
        with _missing_context_named():
            timeline = self.contexts.pinned(plan.contexts) if plan.contexts else Timeline()
            billed = replace(file, bills=file.bills.as_planned(plan.billed_as))
            measured = _measured(billed, timeline, causes=bool(plan.causes))
            return Planned(plan, measured, new=False)

    def _check_age(self, measured: Measured) -> None:
        newest_s = max(measured.hours, default=None)
        if self.window_s is None or newest_s is None:
            return
        age_s = self.clock.now_ms() // 1000 - newest_s
        if age_s > self.window_s:
            raise LogFileRefusedError(
                FileReason.TOO_OLD,
                f"its newest hour is {age_s // DAY_S} days old, and this stage takes "
                f"{self.window_s // DAY_S}; report it with --dry-run, or ingest it into a stage with a wider "
                "admission_window_s",
            )

    def _plan_of(self, file: LogFile, measured: Measured, timeline: Timeline) -> Plan:
        name = file.name
        return Plan(
            identity=name.identity,
            kind=file.kind.name,
            source=name.source,
            account_id=name.account_id,
            region=name.region,
            slot_s=name.slot_s,
            place=file.place,
            etag=file.etag,
            content_sha256=measured.content_sha256,
            contexts=timeline.pins(measured.hours),
            rules=file.kind.rules,
            parts=tuple(part for part, _ in parts_of(name.identity, measured.totals)),
            balance=measured.balance,
            shares=measured.shares,
            shadowed=measured.shadowed,
            refusals=measured.refusals,
            planned_s=self.clock.now_ms() // 1000,
            billed_as=file.bills.billed_as,
            others=measured.others,
            causes=digest_of(rows_of(name.identity, measured.causes, measured.totals)),
        )


def check_owner(file: LogFile, measured: Measured) -> None:
    """Refuse a whole file if a missing or wrong owner of the file is the reason why no line is metered.

    A plan is permanent, so correcting the owner later would have no effect. Files of a flow log still get plans,
    because the flow log states its account, and the slots of the files are not gaps.

    Raises:
        LogFileRefusedError: The owner of the file is missing or wrong.
    """
    unowned = [reason for reason, _, _ in measured.refusals if reason in _UNOWNED]
    slotted = file.kind.needs_context and file.name.slot_s is not None
    if not unowned or measured.totals or slotted:
        return
    detail = next((line.detail for line in measured.refused if line.reason in _UNOWNED), unowned[0])
    raise LogFileRefusedError(FileReason.NOT_ALLOWED, f"no line of it can be billed: {detail}")


def _measured(file: LogFile, timeline: Timeline, *, causes: bool) -> Measured:
    measured = file.measured(timeline, Who.PINNED if causes else Who.NO)
    identity = file.name.identity
    if identity.startswith(reading.CONTENT_SCHEME) and identity != reading.identity_by_content(measured.content_sha256):
        # The file was already read once, to compute its identity.
        raise LogFileRefusedError(FileReason.CHANGED_WHILE_READ, "it was written to while it was read")
    return measured


@contextmanager
def _missing_context_named() -> Iterator[None]:
    """Convert the error for a deleted context to a refusal. Contexts are read lazily, per hour."""
    try:
        yield
    except ObjectMissingError as error:
        if not error.key.startswith(CONTEXT_PREFIX):
            raise
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            f"the context that its plan names is not there any more ({error.key}), and another one could judge it "
            "otherwise; put that context back",
        ) from error


def _check_context(file: LogFile, timeline: Timeline) -> None:
    """Refuse a file whose kind needs more facts than the context has, because its plan would be permanent."""
    newest_s = timeline.versions[-1][0] if timeline.versions else 0
    context = timeline.at(newest_s if file.name.slot_s is None else file.name.slot_s)
    lacking = file.kind.lacks(context)
    if lacking and file.kind.needs_context:
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            "no context lists the flow logs, so whether another one logs the same traffic cannot be seen; capture one "
            f"(metering context capture), or say that none does: --no-context {file.name.source or 'FLOW_LOG_ID'}",
        )
    if lacking:
        raise LogFileRefusedError(
            FileReason.NO_CONTEXT,
            f"no context {lacking}, and what left AWS could not be told from what did not; capture one "
            "(metering context capture)",
        )
