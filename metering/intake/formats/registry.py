"""The table of formats for records in an object.

To add a format, write a module with its reader and register it here; messages, drops and the batch reader take names,
suffixes and readers from this table. The readers are imported on first use, because functions that only need the names
(watch) run without Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.intake.formats.assembly import BatchAssembly
    from metering.intake.work import ReadLimits

Format = Literal["ndjson", "parquet"]
Compression = Literal["none", "gzip", "zstd"]


class ObjectReader(Protocol):
    """Reads the records of an object into the batch that is being assembled."""

    def __call__(self, pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
        """Read all records.

        Args:
            pieces: The object's content after decompression, at most `limits.object_bytes` in total.
            assembly: Receives the records, in order.
            limits: A reader that expands the content further applies `limits.object_bytes` to the result as well.

        Returns:
            Size of the records in bytes, as counted against the decode budget.

        Raises:
            BatchRefusedError: The object is not of this format, or exceeds the records, bytes or work that one batch
                may have.
            OutOfTimeError: It takes too long.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFormat:
    """One format.

    Attributes:
        suffixes: Key suffixes below `drop/` that indicate the format, each with its compression.
    """

    read: ObjectReader
    suffixes: Mapping[str, Compression]


def _read_ndjson(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    from metering.intake.formats.json_records import read_ndjson

    return read_ndjson(pieces, assembly, limits)


def _read_parquet(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    from metering.intake.formats.parquet import read_parquet

    return read_parquet(pieces, assembly, limits)


FORMATS: Mapping[Format, ObjectFormat] = {
    "ndjson": ObjectFormat(
        read=_read_ndjson, suffixes={".ndjson": "none", ".ndjson.gz": "gzip", ".ndjson.zst": "zstd"}
    ),
    # Parquet compresses its own pages, so no suffix announces compression around the file.
    "parquet": ObjectFormat(read=_read_parquet, suffixes={".parquet": "none"}),
}

SUFFIXES: Mapping[str, tuple[Format, Compression]] = {
    suffix: (name, compression) for name, each in FORMATS.items() for suffix, compression in each.suffixes.items()
}
"""The format and compression that each suffix of a dropped object announces."""
