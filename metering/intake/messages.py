"""The batch message (docs/contract.md): its fields, all their problems, and the formats of its records.

A refused message keeps its id and source if these are readable, and its records are read for the content hash anyway.

To add a format, write a module with its reader and register it here; messages, drops and the batch reader use names,
suffixes and readers of this table. Readers are imported on first use, because functions that need only the formats'
names (watch) run without Arrow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.intake.json_values import JsonError, JsonValue, Number, canonical_number, int64_of, parse_json
from metering.intake.work import Problem, ReadLimits, Reason, ordered, problem, quoted
from metering.stores.objects import INGEST_PREFIX
from metering.units import INT64_MAX, MIB
from metering.version import CONTRACT_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.intake.formats.assembly import BatchAssembly

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
            BatchRefusedError: The object has another format, or exceeds a batch's limit of records, bytes or work.
            OutOfTimeError: It takes too long.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFormat:
    """One format.

    Attributes:
        suffixes: Suffixes of keys below `drop/` that indicate the format, each with a compression.
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
    # Parquet compresses its own pages, so no suffix declares a compression of the file.
    "parquet": ObjectFormat(read=_read_parquet, suffixes={".parquet": "none"}),
}

SUFFIXES: Mapping[str, tuple[Format, Compression]] = {
    suffix: (name, compression) for name, each in FORMATS.items() for suffix, compression in each.suffixes.items()
}
"""The format and compression that each suffix of a dropped object announces."""


# Of docs/contract.md.
SCHEMA = f"metering.batch/{CONTRACT_VERSION}"
MAX_BODY_BYTES = MIB

_BATCH_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_MAX_KEY_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineRecords:
    """Records inside the message: the JSON text of the array."""

    array: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecords:
    """Records in an object of the region's own bucket.

    Attributes:
        sha256: Lower-case hex digest of the object's stored bytes; empty if the message states no digest.
        if_match: ETag that the object must have; empty if any ETag is accepted.
        version_id: Version of the announced object; empty if the bucket has no versions.
    """

    key: str
    format: Format
    compression: Compression
    sha256: str = ""
    if_match: str = ""
    version_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchMessage:
    """A batch, as announced by a message.

    Attributes:
        batch_id: Empty if the id could not be read.
        record_count: None if missing or invalid.
        records: The records or their location; None if neither could be read.
        retry_of: First batch id of this content, if the message is a retry under another id; else empty.
        problems: Reasons to refuse the batch regardless of its records; empty for a valid message.
        object_key: Key of the object with the records, as stated in the message, even if not allowed; empty if none.
    """

    batch_id: str
    source_id: str = ""
    sequence: int | None = None
    record_count: int | None = None
    records: InlineRecords | ObjectRecords | None = None
    retry_of: str = ""
    problems: tuple[Problem, ...] = ()
    object_key: str = ""
    announced: bool = False


class _Location(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    bucket: str
    key: str
    format: Format
    compression: Compression


class _Envelope(BaseModel):
    """A batch message without its records."""

    model_config = ConfigDict(strict=True, frozen=True)

    schema_name: Literal["metering.batch/1"] = Field(alias="schema")
    batch_id: Annotated[str, StringConstraints(pattern=f"^{_BATCH_ID.pattern}$")]
    source_id: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,128}$")] | None = None
    sequence: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    retry_of: Annotated[str, StringConstraints(pattern=f"^{_BATCH_ID.pattern}$")] | None = None
    record_count: Annotated[int, Field(ge=0, le=INT64_MAX)]
    location: _Location | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")] | None = None


_REASONS = {
    "schema": Reason.UNSUPPORTED_SCHEMA,
    "batch_id": Reason.INVALID_BATCH_ID,
    "source_id": Reason.INVALID_SOURCE,
    "sequence": Reason.INVALID_SOURCE,
    "retry_of": Reason.INVALID_RETRY_OF,
    "record_count": Reason.INVALID_RECORD_COUNT,
    "location": Reason.INVALID_LOCATION,
    "sha256": Reason.INVALID_LOCATION,
}


def read_batch_message(fields: Mapping[str, bytes], *, bucket: str, also: tuple[Problem, ...] = ()) -> BatchMessage:
    """Read a batch message.

    Args:
        fields: The top-level fields, each as JSON text.
        bucket: The region's own data bucket.
        also: Problems of the envelope around the message.
    """
    values, problems = plain_values(fields, but="records")
    location = values.get("location")
    if isinstance(location, dict) and "sha256" not in values:
        # The contract allows the field in two places: next to `location`, and inside it.
        values["sha256"] = location.get("sha256")
    envelope, wrong = _validate(values, problems)
    records = _records(fields, envelope, bucket, problems)
    source_id, sequence = values.get("source_id"), values.get("sequence")
    if (source_id is None) != (sequence is None):
        problems.append(problem(Reason.INVALID_SOURCE, "source_id and sequence come together or not at all"))
    known_source = wrong.isdisjoint(("source_id", "sequence"))
    count = values.get("record_count")
    batch_id, retry_of = readable_batch_id(values.get("batch_id")), readable_batch_id(values.get("retry_of"))
    return BatchMessage(
        batch_id=batch_id,
        source_id=source_id if known_source and isinstance(source_id, str) else "",
        sequence=sequence if known_source and isinstance(sequence, int) else None,
        record_count=count if isinstance(count, int) and "record_count" not in wrong else None,
        records=records,
        # If a message names its own id as `retry_of`, it is just another copy.
        retry_of="" if retry_of == batch_id else retry_of,
        problems=ordered([*also, *problems]),
        object_key=_named_key(location),
    )


def _named_key(location: object) -> str:
    key = location.get("key") if isinstance(location, dict) else None
    return key if isinstance(key, str) else ""


def readable_batch_id(value: object) -> str:
    """`value` if it is a batch id, else an empty string."""
    return value if isinstance(value, str) and _BATCH_ID.fullmatch(value) else ""


def key_problems(key: str, prefix: str) -> list[Problem]:
    """Problems of an object's key, which must begin with `prefix` and not leave this prefix by `..` segments."""
    if not key.startswith(prefix) or ".." in key.split("/") or key == prefix:
        return [problem(Reason.LOCATION_NOT_ALLOWED, f"not an object below {prefix}: {quoted(key)}")]
    if len(key.encode("utf-8", errors="surrogatepass")) > _MAX_KEY_BYTES or not key.isprintable():
        return [problem(Reason.LOCATION_NOT_ALLOWED, f"no key of an object: {quoted(key)}")]
    return []


def plain_values(fields: Mapping[str, bytes], *, but: str = "") -> tuple[dict[str, object], list[Problem]]:
    """Values of all fields but `but`, in the form that pydantic expects, and the problems of unreadable fields."""
    values: dict[str, object] = {}
    problems: list[Problem] = []
    for name, text in fields.items():
        if name == but:
            continue
        try:
            values[name] = _plain(parse_json(text.decode("utf-8", errors="surrogatepass")))
        except JsonError as error:
            problems.append(problem(Reason.TOO_DEEPLY_NESTED, f"{quoted(name)}: {error}"))
    return values, problems


def _validate(values: dict[str, object], problems: list[Problem]) -> tuple[_Envelope | None, set[str]]:
    try:
        return _Envelope.model_validate(values), set()
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
    for each in wrong:
        path = ".".join(str(part) for part in each["loc"])
        problems.append(problem(_REASONS[str(each["loc"][0])], f"{path}: {each['msg']}"))
    return None, {str(each["loc"][0]) for each in wrong}


def _records(
    fields: Mapping[str, bytes], envelope: _Envelope | None, bucket: str, problems: list[Problem]
) -> InlineRecords | ObjectRecords | None:
    array = fields.get("records", b"null").strip()
    has_location = fields.get("location", b"null").strip() != b"null"
    if array == b"null":
        if not has_location:
            problems.append(problem(Reason.INVALID_RECORDS, "neither records nor a location"))
        return _object(envelope, bucket, problems)
    if has_location:
        problems.append(problem(Reason.INVALID_RECORDS, "both records and a location"))
    if not array.startswith(b"["):
        problems.append(problem(Reason.INVALID_RECORDS, "records is no array"))
        return None
    return InlineRecords(array=array)


def _object(envelope: _Envelope | None, bucket: str, problems: list[Problem]) -> ObjectRecords | None:
    if envelope is None or envelope.location is None:
        return None
    location = envelope.location
    if location.bucket != bucket:
        problems.append(problem(Reason.LOCATION_NOT_ALLOWED, f"another bucket: {quoted(location.bucket)}"))
    problems += key_problems(location.key, INGEST_PREFIX)
    if any(reason == Reason.LOCATION_NOT_ALLOWED for reason, _ in problems):
        return None
    return ObjectRecords(
        key=location.key,
        format=location.format,
        compression=location.compression,
        sha256=(envelope.sha256 or "").lower(),
    )


def _plain(value: JsonValue) -> object:
    """A value with integers as int, and other numbers as NaN, because no field of a message accepts a non-integer."""
    if isinstance(value, Number):
        whole = int64_of(canonical_number(value))
        return float("nan") if whole is None else whole
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value
