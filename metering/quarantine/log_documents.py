"""Quarantine objects of log files: lines that were refused, and files that were refused as a whole.

| what | key |
|---|---|
| refused lines of a log file | `quarantine/logs/lines/<sha256 of its identity>.json` |
| a whole log file, by reference | `quarantine/logs/file/<sha256 of place>-<of version, ETag and reason>.json` |

The file itself is not copied: it stays where its owner keeps it. Keys follow from what was refused, so a file that
comes again writes the same objects. All of it is ASCII JSON, because a line can hold any text.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Literal, NamedTuple

from metering.errors import OperationFailedError
from metering.stores.bucket import quarantined_file_key, quarantined_lines_key
from metering.stores.fields import Fields

LogEntryKind = Literal["lines", "file"]

_SCHEMA = "metering.quarantine/1"
_KINDS: tuple[LogEntryKind, ...] = ("lines", "file")
_TEXTS = ("place", "version_id", "etag", "identity", "log_kind", "source", "content_sha256")


class KeptLine(NamedTuple):
    """A refused line, cut at 4 KB. Its number counts from 1; 0 stands for lines that were added up when refused."""

    number: int
    reason: str
    detail: str
    text: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedLog:
    """What was refused of one log file.

    Attributes:
        kind: `lines` of a file that is metered otherwise, or the whole `file`.
        place: Where the file lay, such as `s3://acme-logs/AWSLogs/…`.
        version_id, etag: Its version and ETag then; empty if unknown.
        identity: Its identity; empty if none could be told.
        log_kind: Kind of log; empty if unknown.
        source: What writes such files, such as a flow-log id; empty if unknown.
        content_sha256: SHA-256 of its content; empty if it was not read to its end.
        refusals: All that was refused, as `(reason, lines, bytes)`; of a whole file the one reason, with 0 lines.
        detail: Of a whole file: why, for people.
        lines: Refused lines that are kept.
    """

    kind: LogEntryKind
    place: str
    version_id: str = ""
    etag: str = ""
    identity: str = ""
    log_kind: str = ""
    source: str = ""
    content_sha256: str = ""
    refusals: tuple[tuple[str, int, int], ...]
    detail: str = ""
    lines: tuple[KeptLine, ...] = ()

    @property
    def key(self) -> str:
        if self.kind == "lines":
            return quarantined_lines_key(self.identity)
        return quarantined_file_key(self.place, self.version_id, self.etag, self.refusals[0][0])

    @property
    def name(self) -> str:
        """What people call it by: the identity of a file with refused lines, or the place of a refused file."""
        return self.identity if self.kind == "lines" else self.place

    def encode(self) -> bytes:
        """The object's content."""
        document = {
            "schema": _SCHEMA,
            "kind": self.kind,
            **{name: getattr(self, name) for name in _TEXTS},
            "refusals": [[reason, lines, str(size)] for reason, lines, size in self.refusals],
            "detail": self.detail,
            "lines": [[*line[:4], str(line.bytes)] for line in self.lines],
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes, key: str = "quarantine object") -> QuarantinedLog:
        """Inverse of `encode`.

        Args:
            body: The object's content.
            key: Its key.

        Raises:
            LedgerCorruptError: It is not such an object.
        """
        document = Fields.of_json(body, key)
        document.one_of("schema", (_SCHEMA,))
        refusals = document.rows("refusals", ("reason", "lines", "bytes"))
        if not refusals:
            document.fail("refusals", "one reason at least")
        return cls(
            kind=document.one_of("kind", _KINDS),
            **{name: document.any_text(name) for name in _TEXTS},
            refusals=tuple((row.text("reason"), row.whole("lines"), row.decimal("bytes")) for row in refusals),
            detail=document.any_text("detail"),
            lines=tuple(
                KeptLine(
                    number=row.whole("number"),
                    reason=row.text("reason"),
                    detail=row.any_text("detail"),
                    text=row.any_text("text"),
                    bytes=row.decimal("bytes"),
                )
                for row in document.rows("lines", ("number", "reason", "detail", "text", "bytes"))
            ),
        )


def log_not_retried(log: QuarantinedLog) -> OperationFailedError:
    """Why what is refused of a log is not sent again, and what to do."""
    if log.kind == "file":
        return OperationFailedError(
            f"{log.name} is of a log file, which is read again where it lies.",
            "When its cause is mended: metering ingest " + shlex.quote(log.place),
        )
    kind = "--map MAPPING" if log.log_kind == "mapped" else f"--kind {log.log_kind}"
    return OperationFailedError(
        f"{log.name} is metered without these lines, and stays so: its plan holds whenever it comes again.",
        "To meter them all the same, put them right, below the header of the log, into a file of another name, and "
        f"take that one: metering ingest FILE {kind}",
    )
