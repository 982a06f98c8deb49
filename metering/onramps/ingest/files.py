"""A log file to be taken: its place, its name, and how it is read."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from metering.errors import LogFileRefusedError, ObjectChangedError, ObjectMissingError, ObjectUnreadableError
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.kinds import LogKind, why_refused
from metering.onramps.reading import Block, FileName, ReadSettings
from metering.onramps.reasons import FileReason
from metering.onramps.sources import NAMED, Bills, LogStore, folder_contradicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.onramps.context.store import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One object of a bucket, or one file of a folder.

    Attributes:
        store: Bucket or folder of the file.
        etag: ETag that it must have; empty if it has none.
        bills: Whom its lines may bill.
        watch: Is called with each block.
    """

    store: LogStore
    key: str
    etag: str
    kind: LogKind
    name: FileName
    settings: ReadSettings
    bills: Bills = NAMED
    watch: Callable[[Block[object]], None] | None = None

    @property
    def place(self) -> str:
        return place_of(self.store, self.key)

    def open(self) -> BinaryIO:
        return self.store.open(self.key, if_match=self.etag or None)

    def measured(self, timeline: Timeline) -> Measured:
        """Read it and add it up, judged by `timeline`.

        Raises:
            LogFileRefusedError: It cannot be metered as a whole.
        """
        with closing(self.open()) as stream:
            return measure(stream, self.kind, self.name, timeline, self.settings, bills=self.bills, watch=self.watch)

    def called(self, identity: str) -> LogFile:
        """The file under an identity that its content gives."""
        return replace(self, name=replace(self.name, identity=identity))


def place_of(store: LogStore, key: str) -> str:
    """Place of a file for people: `s3://acme-logs/AWSLogs/…`."""
    return f"{store.place.rstrip('/')}/{key}"


def path_of(store: LogStore, key: str) -> str:
    """The key of a file in a bucket, or its whole path on a disk.

    Folders in a name can say whose the file is. On a disk a person may have named any of them.
    """
    return key if store.place.startswith("s3://") else place_of(store, key)


def kind_and_name(kinds: Sequence[LogKind], key: str, kind: LogKind | str | None) -> tuple[LogKind, FileName]:
    """The kind of a file and its parsed name; `kind` is the kind, or its name, that a person says it is.

    Raises:
        LogFileRefusedError: Its name is none that is known, or the kind is none that is metered.
    """
    if kind is not None:
        said = kind if isinstance(kind, LogKind) else next((each for each in kinds if each.name == kind), None)
        if said is None:
            known = ", ".join(each.name for each in kinds)
            raise LogFileRefusedError(FileReason.NOT_METERED_KIND, f"{kind} is not a kind of log; known are: {known}")
        name = said.recognise(key)
        return said, name or FileName(kind=said.name, identity="", parquet=key.endswith(".parquet"))
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
    settings: ReadSettings,
    bills: Bills,
    watch: Callable[[Block[object]], None] | None = None,
) -> LogFile:
    """The file at a key. The only account that may be billed stands in for a name without one.

    Raises:
        LogFileRefusedError: Its name is of no kind that is metered, or of another account than its folder.
    """
    path = path_of(store, key)
    said, name = kind_and_name(kinds, path, kind)
    if contradiction := folder_contradicts(path, name):
        raise LogFileRefusedError(FileReason.ACCOUNT_CONTRADICTS, contradiction)
    name = name if name.account_id else replace(name, account_id=bills.only)
    return LogFile(store=store, key=key, etag=etag, kind=said, name=name, settings=settings, bills=bills, watch=watch)


@contextmanager
def store_refusals() -> Iterator[None]:
    """Turn errors of a file's store into refusals.

    Raises:
        LogFileRefusedError: The store does not hand the file out.
    """
    try:
        yield
    except ObjectMissingError as error:
        raise LogFileRefusedError(FileReason.MISSING, "it is not there any more") from error
    except ObjectChangedError as error:
        raise LogFileRefusedError(FileReason.CHANGED_WHILE_READ, "it was replaced while it was read") from error
    except ObjectUnreadableError as error:
        raise LogFileRefusedError(FileReason.UNREADABLE, str(error)) from error
