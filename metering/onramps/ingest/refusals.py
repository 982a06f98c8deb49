"""What is kept of refused lines and files: one quarantine object a file, the same one whenever the file comes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.quarantine.log_documents import KeptLine, QuarantinedLog

if TYPE_CHECKING:
    from metering.errors import LogFileRefusedError
    from metering.onramps.ingest.files import LogFile
    from metering.onramps.ingest.totals import Measured
    from metering.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """Writes refused lines and files to quarantine.

    Attributes:
        objects: The region's data bucket.
    """

    objects: ObjectStore

    def keep_lines(self, file: LogFile, identity: str, measured: Measured) -> None:
        """Keep the refused lines of a file that is metered otherwise."""
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
            self.objects.put(kept.key, kept.encode(), if_absent=True)

    def keep_file(self, place: str, error: LogFileRefusedError, *, etag: str = "", version_id: str = "") -> str:
        """Keep the reference to a file that is refused as a whole; returns the key of the quarantine object."""
        kept = QuarantinedLog(
            kind="file",
            place=place,
            etag=etag,
            version_id=version_id,
            refusals=((error.reason, 0, 0),),
            detail=error.detail,
        )
        self.objects.put(kept.key, kept.encode(), if_absent=True)
        return kept.key
