"""Takes a log file: identity, plan, parts, messages. Each step may be repeated, and a crash between steps is harmless.

1. The identity is derived from the file's name, or from its content.
2. The file is measured by the contexts of its plan; if it has no plan, by the newest contexts.
3. The plan is put if absent.
4. The cause part and the parts are put if absent, and a message is sent for each part. The ledger recognises a repeated
   message.

If the content of a file differs from its plan, the file is sent under the same batch ids. The ledger reports the
conflict, and keeps the content; the totals stay unchanged.

The location of a file without AWS's name has numbered notes of the ingested content, each put once as
`plans/places/<place>/<number>.json`. The note is put before the plan. A file that has grown or changed since the note
is refused, because its old lines would count again under another identity. If two processes find the same new file, one
puts the note, and the other uses that note.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from metering.errors import LogFileRefusedError, ObjectMissingError, UnavailableError
from metering.onramps import reasons, sources
from metering.onramps.formats.pieces import Pieces
from metering.onramps.ingest import causes, planning
from metering.onramps.ingest.totals import LogFile, Measured, log_file, place_of, store_refusals
from metering.onramps.plans import PLACES_PREFIX, Part, Plan
from metering.onramps.reading import NO_OTHERS, Block, Others, ReadSettings, identity_by_content
from metering.quarantine.documents import KeptLine, QuarantinedLog
from metering.stores import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.onramps.kinds import LogKind
    from metering.stores import queues
    from metering.stores.clock import Clock
    from metering.stores.objects import ObjectStore

_COPY = "if it is another file, give it another name and take it from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note(codec.StoredDocument):
    """Content that was last ingested from a location.

    Attributes:
        until_byte: Length of the decompressed content.
        content_sha256: SHA-256 of that content.
        whole_lines: Whether the content ends with a line feed. Release 0.2.0 reads it.
        from_byte: Offset of the first line that release 0.2.0 appended: earlier lines have another plan. 0 in notes of
            later releases.
        after: Identity of the content before `from_byte`; empty without such content.
        sent: Whether the messages of the content were sent.
    """

    SCHEMA: ClassVar[str] = "metering.place/1"
    place: codec.AnyText
    number: int
    from_byte: int = 0
    until_byte: int
    content_sha256: str
    after: str = ""
    whole_lines: bool
    sent: bool = False

    @property
    def identity(self) -> str:
        return identity_by_content(self.content_sha256)

    @property
    def key(self) -> str:
        return f"{places_prefix(self.place)}{self.number:08d}.json"


def places_prefix(place: str) -> str:
    """Prefix of the notes of one location."""
    return f"{PLACES_PREFIX}{hashlib.sha256(place.encode('utf-8', errors='surrogatepass')).hexdigest()[:40]}/"


class _Scan(NamedTuple):
    """Length and hash of a content, and the hash of its first bytes up to a given byte (empty if shorter)."""

    bytes: int
    sha256: str
    whole_lines: bool
    marked_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Records the content of files without AWS's name, by location. `planner` knows whether content has a plan."""

    objects: ObjectStore
    planner: planning.Planner

    def note(self, file: LogFile) -> Note:
        """Note of the current content of a file, put if absent. Call `sent` after the file was sent.

        Raises:
            LogFileRefusedError: Other content from the file's location was sent before, or may have been sent.
        """
        while True:
            last = self._last(file)
            scan = _scan(file, mark_byte=last.until_byte if last else 0)
            if last is not None and last.content_sha256 == scan.sha256:
                if last.from_byte and self._plan_is_missing(last, file):
                    # Release 0.2.0 began to append the lines after this byte, but never planned these lines.
                    raise _grew(scan, last.from_byte)
                return last
            if last is not None:
                self._check_nothing_was_sent(last, scan, file)
            found = Note(
                place=file.place,
                number=0 if last is None else last.number + 1,
                until_byte=scan.bytes,
                content_sha256=scan.sha256,
                whole_lines=scan.whole_lines,
            )
            if self.objects.put(found.key, found.to_json(), if_absent=True):
                return found
            # Another process wrote its note first. The next round reads that note.

    def sent(self, note: Note) -> None:
        """Record that a file was sent, so that no other content is ingested from the file's location."""
        if not note.sent:
            self.objects.put(note.key, replace(note, sent=True).to_json(), if_absent=False)

    def _last(self, file: LogFile) -> Note | None:
        last = None
        for info in self.objects.list(places_prefix(file.place)):
            last = info.key
        return None if last is None else Note.from_json(self.objects.get(last), last)

    def _plan_is_missing(self, note: Note, file: LogFile) -> bool:
        return self.planner.found(file.called(note.identity)) is None

    def _check_nothing_was_sent(self, last: Note, scan: _Scan, file: LogFile) -> None:
        """Refuse content that differs from the last note, unless nothing of the noted content was sent.

        Raises:
            LogFileRefusedError: The noted content was sent, or a running process may send the noted content.
        """
        if not last.until_byte:
            return
        if last.content_sha256 == scan.marked_sha256:
            raise _grew(scan, last.until_byte)
        if last.sent or last.from_byte or not self._plan_is_missing(last, file):
            raise LogFileRefusedError(
                reasons.FileReason.CHANGED_SINCE,
                f"it is not the file that was taken from this place before, nor that one with more lines; {_COPY}",
            )


def _grew(scan: _Scan, taken_bytes: int) -> LogFileRefusedError:
    return LogFileRefusedError(
        reasons.FileReason.GREW,
        f"it has {scan.bytes - taken_bytes:,} more bytes than when it was taken; take its first {taken_bytes:,} bytes "
        "once more, and the others as a file of their own",
    )


def _scan(file: LogFile, *, mark_byte: int) -> _Scan:
    """Read a file once to compute its hashes.

    Raises:
        LogFileRefusedError: It cannot be decompressed.
    """
    digest, marked, length, whole = hashlib.sha256(), "", 0, True
    with closing(file.open()) as stream:
        for piece in Pieces(stream, file.settings, len):
            if length < mark_byte <= length + len(piece):
                upto = digest.copy()
                upto.update(piece[: mark_byte - length])
                marked = upto.hexdigest()
            digest.update(piece)
            length += len(piece)
            whole = piece.endswith(b"\n")
    return _Scan(length, digest.hexdigest(), whole or file.name.parquet, marked)


_ATTEMPTS = 6
_BACKOFF_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Writes refused lines and files to quarantine."""

    objects: ObjectStore

    def keep_lines(self, file: LogFile, identity: str, measured: Measured) -> None:
        """Store the refused lines of an otherwise metered file."""
        if measured.refusals:
            kept = QuarantinedLog(
                kind="lines",
                place=file.place,
                etag=file.etag,
                identity=identity,
                log_kind=file.kind.name,
                source=file.name.source,
                content_sha256=measured.content_sha256,
                refusals=measured.refusals,
                lines=tuple(KeptLine(*line) for line in measured.refused),
            )
            self.objects.put(kept.key, kept.to_json(), if_absent=True)

    def keep_file(self, place: str, error: LogFileRefusedError, *, etag: str = "", version_id: str = "") -> str:
        """Store the reference to a file refused as a whole; return the key of the quarantine object."""
        kept = QuarantinedLog(
            kind="file",
            place=place,
            etag=etag,
            version_id=version_id,
            refusals=((error.reason, 0, 0),),
            detail=error.detail,
        )
        self.objects.put(kept.key, kept.to_json(), if_absent=True)
        return kept.key


TakenAs = Literal["metered", "repeated", "conflict", "refused", "empty"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Outcome of taking a log file.

    Attributes:
        verdict: `metered`: this call put the file's plan. `repeated`: the file was already planned, and was sent again.
            `conflict`: other content was planned under the file's name. `empty`: no line of the file is metered.
            `refused`: the whole file cannot be metered.
        quarantine_key: Key of the reference to a refused file; otherwise empty.
    """

    verdict: TakenAs
    place: str
    plan: Plan | None = None
    problem: tuple[str, str] | None = None
    messages: int = 0
    quarantine_key: str = ""

    @property
    def others(self) -> Others:
        """Lines of accounts other than the account in the file's name."""
        return NO_OTHERS if self.plan is None else self.plan.others


@dataclass(frozen=True, slots=True, kw_only=True)
class LogIngest:
    """Takes log files, one at a time. Any number of processes may take the same files.

    Attributes:
        window_s: Age from which the service refuses records, and from which whole files are refused at once; None to
            skip the check.
        kinds: Kinds of logs to accept; empty for all.
        is_booked: Returns whether the service accepted a batch of this id; None to skip this check. The check shows
            that a file planned long ago by other rules is counted, although its parts are deleted.
        causes: Whether the causes of new files are kept.
    """

    objects: ObjectStore
    bucket: str
    queue: queues.Queue
    contexts: planning.Contexts
    clock: Clock
    window_s: int | None
    kinds: Sequence[LogKind] = ()
    is_booked: Callable[[str], bool] | None = None
    causes: bool = False

    def take(
        self,
        store: sources.LogStore,
        key: str,
        *,
        etag: str | None = None,
        version_id: str = "",
        bills: sources.Bills = sources.NAMED,
        kind: LogKind | str | None = None,
        settings: ReadSettings | None = None,
        without_context_flow_log: str = "",
        watch: Callable[[Block[object]], None] | None = None,
    ) -> Taken:
        """Take one file.

        Args:
            store: Where it lies.
            key: Its key there.
            etag: Required ETag; None for the current ETag.
            version_id: Version of the object, for the reference to a refused file.
            bills: Accounts that the lines may bill.
            kind: Kind of log; None to detect the kind from the name.
            settings: Limits and hints for reading the file.
            without_context_flow_log: Flow log without overlapping flow logs, so that its files need no context.
            watch: Called with each block read.

        Raises:
            UnavailableError: A service did not answer. Taking the file again resumes at this point.
            LedgerCorruptError: A stored plan is invalid.
        """
        place = place_of(store, key)
        try:
            with store_refusals():
                # ETags have no quotes in events, and have quotes in listings.
                etag = (_etag(store, key) if etag is None else etag).strip('"')
                file = log_file(
                    store,
                    key,
                    self.kinds or _all_kinds(),
                    etag=etag,
                    kind=kind,
                    settings=settings or ReadSettings(),
                    bills=bills,
                    watch=watch,
                )
                # If a file's name contains no flow log, the file belongs to the flow log that the user names. That flow
                # log is not in the file's name, so the plan is the same without it.
                source = file.name.source or without_context_flow_log
                overlap_known = bool(without_context_flow_log) and source == without_context_flow_log
                if file.name.identity:
                    return self._taken(file, overlap_known=overlap_known)
                return self._taken_by_content(replace(file, etag=""), overlap_known=overlap_known)
        except LogFileRefusedError as error:
            kept = self._refusals.keep_file(place, error, etag=etag or "", version_id=version_id)
            return Taken(verdict="refused", place=place, problem=(error.reason, error.detail), quarantine_key=kept)

    def _taken_by_content(self, file: LogFile, *, overlap_known: bool) -> Taken:
        places = Places(objects=self.objects, planner=self._planner)
        note = places.note(file)
        taken = self._taken(file.called(note.identity), overlap_known=overlap_known)
        places.sent(note)
        return taken

    def _taken(self, file: LogFile, *, overlap_known: bool) -> Taken:
        planner = self._planner
        plan = planner.found(file)
        if plan is not None and _is_of(plan, file) and (plan.parts or not plan.refusals):
            # The object is unchanged, so it was stored exactly as measured, unless a part is missing. Refused lines are
            # stored before the parts. If there are no parts, nothing shows whether the refused lines were stored.
            messages = self._messages_of(plan) if self._has_causes(plan) else None
            if messages is not None:
                return self._sent("repeated", file, plan, messages)
        planned = planner.planned(file, overlap_known=overlap_known) if plan is None else planner.followed(file, plan)
        if planned.measured.content_sha256 != planned.plan.content_sha256:
            return self._conflict(file, planned)
        self._refusals.keep_lines(file, planned.plan.identity, planned.measured)
        return self._sent("metered" if planned.new else "repeated", file, planned.plan, self._stored(planned))

    def _stored(self, planned: planning.Planned) -> list[str]:
        """Return messages of the plan's parts; store parts that are not stored yet."""
        plan = planned.plan
        made = list(planning.parts_of(plan.identity, planned.measured.totals))
        if tuple(part for part, _ in made) == plan.parts:
            # A message is only sent if the cause part is stored.
            if rows := planned.cause_rows:
                self.objects.put(causes.causes_key(plan.identity), causes.parquet_of(rows), if_absent=True)
            return self._store(plan.identity, made)
        messages = self._messages_of(plan)
        if messages is None:
            if self.is_booked is not None and all(self.is_booked(part.batch_id) for part in plan.parts):
                return []
            raise LogFileRefusedError(
                reasons.FileReason.OTHER_RULES,
                f"rules {plan.rules or 'without a version'} planned it as something else than it is now, and what they "
                "made of it is not stored any more; take it with the version and the settings that planned it",
            )
        return messages

    def _has_causes(self, plan: Plan) -> bool:
        """Whether the cause part of a plan is stored, unless its life is over."""
        if not plan.causes or self.clock.now_ms() // 1000 >= plan.planned_s + causes.LIFE_S:
            return True
        return self.objects.head(causes.causes_key(plan.identity)) is not None

    def _conflict(self, file: LogFile, planned: planning.Planned) -> Taken:
        """Send changed content under the plan's ids; for parts without such an id, store a reference to the file."""
        plan = planned.plan
        made = list(planning.parts_of(plan.identity, planned.measured.totals))
        messages = self._store(plan.identity, made[: len(plan.parts)])
        error = LogFileRefusedError(
            reasons.FileReason.CHANGED_SINCE,
            f"other content has been planned under its name, of {plan.place}; the first content stays metered",
        )
        kept = ""
        if len(made) != len(plan.parts) or all(part == its for (part, _), its in zip(made, plan.parts, strict=True)):
            kept = self._refusals.keep_file(file.place, error, etag=file.etag)
        sent = self._send(messages)
        return Taken(
            verdict="conflict",
            place=file.place,
            plan=plan,
            problem=(error.reason, error.detail),
            messages=sent,
            quarantine_key=kept,
        )

    def _sent(self, verdict: TakenAs, file: LogFile, plan: Plan, messages: Sequence[str]) -> Taken:
        sent = self._send(messages)
        return Taken(verdict=verdict if plan.parts else "empty", place=file.place, plan=plan, messages=sent)

    def _store(self, identity: str, parts: Iterable[planning.PartRecords]) -> list[str]:
        """Store those parts that do not exist yet; return the messages of all parts."""
        messages = []
        for part, records in parts:
            key, body = planning.part_key(identity, part), planning.parquet_of(records)
            if not self.objects.put(key, body, if_absent=True):
                # Another version of pyarrow may have written different bytes for the same records.
                body = self.objects.get(key)
            messages.append(self._message(key, part, body))
        return messages

    def _messages_of(self, plan: Plan) -> list[str] | None:
        """Messages of a plan's parts if all parts are stored; None if one is missing."""
        messages = []
        for part in plan.parts:
            key = planning.part_key(plan.identity, part)
            try:
                body = self.objects.get(key)
            except ObjectMissingError:
                return None
            messages.append(self._message(key, part, body))
        return messages

    def _message(self, key: str, part: Part, body: bytes) -> str:
        return planning.message_of(part, bucket=self.bucket, key=key, stored_sha256=hashlib.sha256(body).hexdigest())

    def _send(self, messages: Sequence[str]) -> int:
        """Send messages, and return their number; the ledger recognises repeated messages.

        Raises:
            UnavailableError: The queue did not accept all messages after several attempts.
        """
        waiting = list(messages)
        for attempt in range(_ATTEMPTS):
            waiting = [waiting[position] for position in self.queue.send_many(waiting)] if waiting else []
            if not waiting:
                return len(messages)
            self.clock.sleep_ms(_BACKOFF_MS << attempt)
        raise UnavailableError("sqs.SendMessageBatch", f"the queue did not take {len(waiting)} messages of a log file")

    @property
    def _planner(self) -> planning.Planner:
        return planning.Planner(
            objects=self.objects,
            contexts=self.contexts,
            clock=self.clock,
            window_s=self.window_s,
            causes=self.causes,
        )

    @property
    def _refusals(self) -> Refusals:
        return Refusals(objects=self.objects)


def _is_of(plan: Plan, file: LogFile) -> bool:
    """Whether a plan was made from this exact object, or from lines that 0.2.0 appended, which only the parts show."""
    return plan.from_byte > 0 or (bool(plan.etag) and (plan.place, plan.etag) == (file.place, file.etag))


def _etag(store: sources.LogStore, key: str) -> str:
    info = store.head(key)
    if info is None:
        raise ObjectMissingError(key)
    return info.etag


def _all_kinds() -> Sequence[LogKind]:
    from metering.onramps import kinds

    return kinds.KINDS
