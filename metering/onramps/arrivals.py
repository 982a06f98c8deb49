"""Arrivals: a new object in a log source is metered, refused permanently, or retried later.

Only transient errors return an event to its queue. For a refused file, quarantine keeps a reference, and the event is
acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from metering.errors import LogFileRefusedError, UnavailableError
from metering.onramps import reading
from metering.onramps.reasons import FileReason
from metering.onramps.sources import ORGANIZATION_WARNING, Bills, LogSource, LogStore, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.intake.envelopes import CreatedObject
    from metering.onramps import kinds
    from metering.onramps.context.document import Context
    from metering.onramps.ingest.taking import Taken

_READS = frozenset({"s3.GetObject", "s3.HeadObject"})

ArrivalVerdict = Literal["metered", "repeated", "conflict", "refused", "empty", "vanished"]


class FileTaker(Protocol):
    """Takes a file (`metering.onramps.ingest.taking.LogIngest`). Raises `UnavailableError` if a retry may help."""

    def take(
        self, store: LogStore, key: str, *, etag: str | None = None, version_id: str = "", bills: Bills = ...
    ) -> Taken: ...


class FileRefusals(Protocol):
    """Stores references to refused files (`metering.onramps.ingest.taking.Refusals`)."""

    def keep_file(self, place: str, error: LogFileRefusedError, *, etag: str = "", version_id: str = "") -> str: ...


class NewestContext(Protocol):
    """Contexts of the region (`metering.onramps.context.store.ContextStore`)."""

    def newest(self) -> Context | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Outcome of a new object: the outcome of the file, or `vanished` if the object was deleted before it was read.

    `deprecated` names the setting of the object's log source that the next release removes.
    """

    verdict: ArrivalVerdict
    place: str
    source: str = ""
    reason: str = ""
    detail: str = ""
    messages: int = 0
    others: reading.Others = reading.NO_OTHERS
    deprecated: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Meters the objects that S3 announces.

    Attributes:
        recognise: Returns the log kind that a key's form matches, and the parsed name; None if no kind matches.
        refusals: Records files that are refused before they are read.
    """

    sources: Sequence[LogSource]
    store_of: Callable[[str], LogStore]
    recognise: Callable[[str], tuple[kinds.LogKind, reading.FileName] | None]
    files: FileTaker
    refusals: FileRefusals
    contexts: NewestContext

    def take(self, found: CreatedObject) -> Arrival:
        """Take a new object. A repeated call changes nothing.

        Raises:
            UnavailableError: A service did not answer, or no context is captured yet: retry later.
        """
        source = source_of(self.sources, found.bucket, found.key)
        if source is None:
            return self._refused(found, "", FileReason.NOT_ALLOWED, "it lies in no log source of this region")
        recognised = self.recognise(found.key)
        kind = recognised[0] if recognised is not None else None
        if kind is not None and kind.name not in source.kinds:
            known = ", ".join(source.kinds)
            detail = f"it is named like a log of kind {kind.name}, and the source {source.name} has {known}"
            return self._refused(found, source.name, FileReason.NOT_METERED_KIND, detail)
        return self._taken(found, source, kind)

    def refuse(self, place: str, detail: str) -> Arrival:
        """Refuse a message that announces no readable object, with a human-readable reason."""
        kept = LogFileRefusedError(FileReason.UNREADABLE, detail)
        self.refusals.keep_file(place, kept)
        return Arrival(verdict="refused", place=place, reason=kept.reason, detail=detail)

    def _taken(self, found: CreatedObject, source: LogSource, kind: kinds.LogKind | None) -> Arrival:
        store = self.store_of(found.bucket)
        bills = self._bills(source, kind)
        try:
            taken = self.files.take(store, found.key, etag=found.etag, version_id=found.version_id, bills=bills)
        except UnavailableError as error:
            # If a key is missing and the role may list only the source's prefix, S3 answers "forbidden". Writing and
            # sending follow the read: if either fails, the next delivery sends the plan without reading the file.
            if error.operation not in _READS or not _is_gone(store, found.key):
                raise
            return Arrival(verdict="vanished", place=_place(found), source=source.name)
        reason, detail = taken.problem or ("", "")
        if taken.verdict == "refused" and reason == FileReason.MISSING:
            return Arrival(verdict="vanished", place=_place(found), source=source.name)
        return Arrival(
            verdict=taken.verdict,
            place=_place(found),
            source=source.name,
            reason=reason,
            detail=detail,
            messages=taken.messages,
            others=taken.others,
            deprecated=ORGANIZATION_WARNING if source.bills_organization else "",
        )

    def _bills(self, source: LogSource, kind: kinds.LogKind | None) -> Bills:
        """A file that arrives before the first context is retried later, because a refusal would be permanent."""
        judged = kind is not None and kind.needs_any_context
        if not judged and not source.bills_organization:
            return source.bills(())
        context = self.contexts.newest()
        lacking = kind.lacks(context) if kind is not None else ""
        if context is None or lacking:
            detail = f"no context that {lacking or 'names the accounts'} is captured yet"
            raise UnavailableError("ContextStore.newest", detail, may_have_applied=False)
        return source.bills(context.accounts)

    def _refused(self, found: CreatedObject, source: str, reason: FileReason, detail: str) -> Arrival:
        error = LogFileRefusedError(reason, detail)
        self.refusals.keep_file(_place(found), error, etag=found.etag, version_id=found.version_id)
        return Arrival(verdict="refused", place=_place(found), source=source, reason=reason, detail=detail)


def _place(found: CreatedObject) -> str:
    return f"s3://{found.bucket}/{found.key}"


def _is_gone(store: LogStore, key: str) -> bool:
    # In a listing by the prefix of an existing object's key, that key itself comes first.
    first = next(iter(store.list(key)), None)
    return first is None or first.key != key
