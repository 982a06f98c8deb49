"""Target of an export: a folder, or a prefix of a bucket. A target contains one export, whose manifest is written last.

While files are written, `unfinished.json` names the export's inputs. So an export that crashed does not look complete,
the same export may be restarted, and files of different exports are never mixed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from zlib_ng import gzip_ng

from metering.errors import ObjectMissingError, OperationFailedError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from typing_extensions import Buffer

    from metering.reports.exports.batches import FileFormat
    from metering.stores.objects import ObjectStore

MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"
_SHOWN = 3
# Files of datasets.
_OWN = re.compile(r"[A-Za-z]+-[0-9]{5}\.(parquet|csv\.gz)")
_PIECE_BYTES = MIB

Document = dict[str, object]


class DestinationTakenError(OperationFailedError):
    """An export's target contains data of something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Target of one export: a store, and a key prefix that is empty or ends with `/`."""

    objects: ObjectStore
    prefix: str
    name: str

    def begin(self, identity: Mapping[str, object]) -> Document | None:
        """Begin the export with the inputs of `identity`, or detect that this export is already complete.

        Returns:
            The manifest, if this export is complete and unchanged; None if the export must be written.

        Raises:
            DestinationTakenError: The target contains other data, or files of the complete export were changed.
        """
        there = self._read(MANIFEST)
        if there is not None:
            if there.get("export") != identity:
                raise self._taken("holds another export")
            self._compare(there)
            return there
        self._clear(identity)
        self.objects.put(self.prefix + UNFINISHED, _bytes({"export": identity}), if_absent=False)
        return None

    def put(self, name: str, file: Path) -> None:
        """Store a complete file."""
        self.objects.put(self.prefix + name, file, if_absent=False)

    def finish(self, manifest: Document) -> None:
        """Store the manifest; this completes the export."""
        self.objects.put(self.prefix + MANIFEST, _bytes(manifest), if_absent=False)
        self.objects.delete([self.prefix + UNFINISHED])

    def _clear(self, identity: Mapping[str, object]) -> None:
        """Delete files that a crashed run of the same export left, but no file that others have added."""
        unfinished = self._read(UNFINISHED)
        if unfinished is None:
            found = [info.key.removeprefix(self.prefix) for info in islice(self.objects.list(self.prefix), _SHOWN)]
            if found:
                raise self._taken(f"is not empty ({', '.join(found)})")
            return
        if unfinished.get("export") != identity:
            raise self._taken("holds the files of another export that was not finished")
        left = [info.key.removeprefix(self.prefix) for info in self.objects.list(self.prefix)]
        others = [name for name in left if name != UNFINISHED and _OWN.fullmatch(name) is None]
        if others:
            raise self._taken(f"holds what an export did not write ({', '.join(others[:_SHOWN])})")
        self.objects.delete([self.prefix + name for name in left])

    def _compare(self, manifest: Document) -> None:
        for dataset in cast("list[Document]", manifest["datasets"]):
            for file in cast("list[dict[str, str]]", dataset["files"]):
                if self._digest(file["name"]) != file["sha256"]:
                    raise DestinationTakenError(
                        f"{self.name} holds this export, but {file['name']} is not as it was written.",
                        "Delete the whole place, or export to another one.",
                    )

    def _digest(self, name: str) -> str:
        digest = hashlib.sha256()
        try:
            with self.objects.open(self.prefix + name) as stream:
                while piece := stream.read(_PIECE_BYTES):
                    digest.update(piece)
        except ObjectMissingError:
            return ""
        return digest.hexdigest()

    def _read(self, name: str) -> Document | None:
        try:
            body = self.objects.get(self.prefix + name)
        except ObjectMissingError:
            return None
        try:
            document = json.loads(body)
        except ValueError as error:
            raise self._taken(f"has a {name} that is not of an export") from error
        if not isinstance(document, dict):
            raise self._taken(f"has a {name} that is not of an export")
        return document

    def _taken(self, why: str) -> DestinationTakenError:
        return DestinationTakenError(
            f"{self.name} {why}; nothing was written.", "Name an empty or new place: exports are never mixed."
        )


def _bytes(document: Mapping[str, object]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


FILE_BYTES = 256 * MIB
"""A file that is as large gets no more batches. Readers then can share the work, and memory and disk are bounded."""
SUFFIXES = {"parquet": ".parquet", "csv": ".csv.gz"}
_GZIP_LEVEL = 5
_GZIP = cast("Callable[..., BinaryIO]", gzip_ng.GzipNGFile)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFile:
    """A complete file: its name relative to the export's prefix, and its SHA-256 in hex."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(slots=True, kw_only=True)
class DatasetFiles:
    """Writes the files of one dataset, `<name>-00000.parquet` and so on, one after the other. Mutable."""

    name: str
    schema: pa.Schema
    form: FileFormat
    folder: Path
    file_bytes: int = FILE_BYTES

    def written(self, tables: Iterable[pa.Table]) -> Iterator[WrittenFile]:
        """Write all tables, and yield each completed file. Without rows, one file with only the header is written.

        Raises:
            OSError: The disk is full.
        """
        waiting = iter(tables)
        table = next(waiting, None)
        number = 0
        while table is not None or not number:
            path = self.folder / f"{self.name}-{number:05d}{SUFFIXES[self.form]}"
            rows = 0
            with path.open("wb") as raw:
                sink = _Digested(raw)
                make = _parquet if self.form == "parquet" else _GzipCsv
                with closing(make(sink, self.schema)) as file:
                    while table is not None:
                        file.write_table(table)
                        rows += len(table)
                        table = next(waiting, None)
                        if sink.size_bytes >= self.file_bytes:
                            break
            yield WrittenFile(name=path.name, rows=rows, size_bytes=sink.size_bytes, sha256=sink.digest.hexdigest())
            number += 1


class _File(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def _parquet(sink: _Digested, schema: pa.Schema) -> _File:
    # If the file lacks Arrow's own schema, readers get strings where this code had dictionaries.
    repeated = [each.name for each in schema if not (pa.types.is_string(each.type) or pa.types.is_decimal(each.type))]
    writer: _File = pq.ParquetWriter(sink, schema, compression="zstd", store_schema=False, use_dictionary=repeated)
    return writer


class _GzipCsv:
    """CSV in one gzip member. The gzip header has no time and no name, so the same lines give the same bytes."""

    def __init__(self, sink: _Digested, schema: pa.Schema) -> None:
        self._gzip: BinaryIO = _GZIP(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=sink, mtime=0)
        self._schema = schema
        self._gzip.write((",".join(schema.names) + "\n").encode())

    def write_table(self, table: pa.Table) -> None:
        pieces = io.BytesIO()
        pa_csv.write_csv(table, pieces, pa_csv.WriteOptions(include_header=False))
        self._gzip.write(pieces.getbuffer())

    def close(self) -> None:
        self._gzip.close()


@dataclass(slots=True)
class _Digested(io.RawIOBase):
    """A file wrapper that computes size and digest while data is written. Mutable."""

    raw: io.BufferedWriter
    size_bytes: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size_bytes

    def write(self, data: Buffer) -> int:
        size = memoryview(data).nbytes
        self.raw.write(data)
        self.digest.update(data)
        self.size_bytes += size
        return size
