"""Real traffic: records from files, split into batches, shifted to the present, with their expected verdicts.

Bad input is normal: a record that violates a rule is sent unchanged, and its batch is expected to be refused partly or
as a whole.
"""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from metering.audit.verification import SentBatch
from metering.billing.money import DECIMALS, UNITS_A_USD
from metering.errors import OperationFailedError
from metering.hours import hour_of, rfc3339
from metering.intake.records import decode_record, record_problems
from metering.intake.work import Reason
from metering.replay.records import expected_totals, start_of
from metering.replay.synthesis import Envelope, Shipment, Synthesis, inline_body, replay_name
from metering.units import HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.intake.admission import Admission
    from metering.replay import scenarios

# Reason -> the field with the problem.
_FIELDS = {
    Reason.INVALID_ACCOUNT_ID: "account_id",
    Reason.INVALID_SERVICE: "service",
    Reason.INVALID_RESOURCE_ID: "resource_id",
    Reason.INVALID_DIRECTION: "direction",
    Reason.INVALID_FROM: "from",
    Reason.INVALID_TO: "to",
    Reason.INVALID_BYTES: "bytes",
    Reason.INVALID_START: "start",
    Reason.INVALID_END: "end",
    Reason.INVALID_USAGE_TYPE: "usage_type",
    Reason.TOO_LATE: "start",
    Reason.IN_THE_FUTURE: "start",
    Reason.END_BEFORE_START: "end",
    Reason.SPANS_OVER_AN_HOUR: "end",
}
_TYPES = {"bytes": "whole number", "start": "time", "end": "time"}
TOO_OLD = "is too old to be admitted"
_WORDS = {
    Reason.TOO_LATE: TOO_OLD,
    Reason.IN_THE_FUTURE: "is in the future",
    Reason.END_BEFORE_START: "is before the start",
    Reason.SPANS_OVER_AN_HOUR: "is more than an hour after the start",
}
_NOT_OF_TYPE = "not of its type: "
_CHARS = 60


def complaint(reason: str, detail: str, record: Mapping[str, object]) -> str:
    """Describe a problem found by the service: `bytes: 12.5 is no whole number`."""
    known = Reason(reason)
    if known is Reason.MISSING_FIELD:
        return f"{detail} is missing"
    field = _FIELDS.get(known)
    if field is None:
        return detail
    if known in _WORDS:
        return f"{field}: {_shown(record.get(field))} {_WORDS[known]}"
    if detail.startswith(_NOT_OF_TYPE):
        return f"{field}: {_shown(record.get(field))} is no {_TYPES.get(field, 'text')}"
    return f"{field}: {detail}"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _CHARS else f"{text[:_CHARS]}..."


_HOUR_S = 3_600
# Seconds of an admission window that are reserved for sending and queueing.
_SENDING_S = 86_400

_KINDS = (
    "A file has one JSON object a line (NDJSON), or is Parquet with a name that ends in .parquet. Convert CSV, or a "
    "JSON array, to one of them."
)
# A line that is not JSON is sent as a string of at most this many characters.
_LINE_CHARS = 1_000

SAMPLE = Path(__file__).parent / "samples" / "aws-bill-lines" / "records.ndjson"

Record = dict[str, object]


class InputError(OperationFailedError):
    """A file cannot be replayed: it has no records, or records whose verdict the sender cannot predict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRecord:
    """One record of a file.

    Attributes:
        place: File and line, or row of a Parquet file: `mine.ndjson:3`.
        value: Value to send; a JSON object if the file has an object at `place`.
        unread: Reason why `place` is not valid JSON; empty if it is valid.
    """

    place: str
    value: object
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRecords:
    """Records as read from files.

    Attributes:
        name: Prefix of the batch ids. The prefix is derived from the records, so the same records give the same ids.
        given: The records, in order.
        problems: Problems that the service must find, by the record's position in `given`. Empty before `judged`.
    """

    name: str
    given: Sequence[GivenRecord]
    problems: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """JSON objects among them."""
        return [each.value for each in self.given if isinstance(each.value, dict)]

    @property
    def complaints(self) -> list[str]:
        """Problems, each with the place of its record."""
        return [f"{self.given[at].place}: {what}" for at, found in self.problems.items() for what in found]

    def shipments(self, records_per_batch: int) -> Iterator[Shipment]:
        """All records in order, in inline batches, each with its expected verdict."""
        for number, first in enumerate(range(0, len(self.given), records_per_batch)):
            positions = range(first, min(first + records_per_batch, len(self.given)))
            envelope = Envelope(
                batch_id=f"{self.name}-{number:06d}", source_id=self.name, sequence=number, record_count=len(positions)
            )
            body = inline_body(envelope, [_text_of(self.given[at].value) for at in positions])
            yield Shipment(sent=self._expected(envelope.batch_id, positions), body=body)

    def _expected(self, batch_id: str, positions: range) -> SentBatch:
        good = [
            value for at in positions if at not in self.problems and isinstance(value := self.given[at].value, dict)
        ]
        bad = len(positions) - len(good)
        return SentBatch(
            batch_id=batch_id,
            expect="accepted" if not bad else "partly" if good else "rejected",
            records=len(positions),
            metered=len(good),
            totals=expected_totals(good),
        )

    def shifted_to(self, now_s: int, *, window_s: int) -> GivenRecords:
        """Shift the records by whole hours, so that the newest hour is the last whole hour before `now_s`.

        Hours keep their distances, so hourly totals keep their pattern. A record without times stays unchanged.

        Raises:
            InputError: The records span more time than the admission window.
        """
        times = [_times_of(each.value) for each in self.given]
        starts = [pair[0] for pair in times if pair is not None]
        if not starts:
            return self
        newest = max(starts) - max(starts) % _HOUR_S
        longest_s = window_s - _SENDING_S
        if newest - min(starts) > longest_s:
            days, most = (newest - min(starts)) / 86_400, longest_s // 86_400
            raise InputError(f"the records span {days:.0f} days; {most} days can be admitted: split the file by time")
        shift_s = now_s - now_s % _HOUR_S - _HOUR_S - newest
        moved = [_moved(each, pair, shift_s) for each, pair in zip(self.given, times, strict=True)]
        return replace(self, name=_named(moved), given=moved)

    def judged(self, now_s: int, admission: Admission) -> GivenRecords:
        """Add the problems that the service must find, if the records are sent at `now_s`.

        Raises:
            InputError: A record is valid, but the sender cannot predict its totals.
        """
        found = {at: problems for at, each in enumerate(self.given) if (problems := _problems(each, now_s, admission))}
        return replace(self, problems=found)


def read_records(paths: Sequence[Path]) -> GivenRecords:
    """Read the records of files, in order: `.parquet` is Parquet, every other file is NDJSON.

    Raises:
        InputError: A file cannot be read, or has no record.
    """
    given = [each for path in paths for each in _read(path)]
    return GivenRecords(name=_named(given), given=given)


def _read(path: Path) -> list[GivenRecord]:
    try:
        given = list(_read_parquet(path) if path.suffix == ".parquet" else _read_ndjson(path))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.", "Name a file with records.") from error
    except (ValueError, pa.ArrowException) as error:
        kind = "Parquet" if path.suffix == ".parquet" else "text"
        raise InputError(f"{path} is not {kind}: {' '.join(str(error).split())}", _KINDS) from error
    if not any(isinstance(each.value, dict) for each in given):
        first = f": {_no_object(given[0])} (line {given[0].place.rpartition(':')[2]})" if given else ""
        raise InputError(f"There are no records in {path}{first}.", _KINDS)
    return given


def _read_ndjson(path: Path) -> Iterator[GivenRecord]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parsed(line, f"{path}:{number}")


def _parsed(line: bytes, place: str) -> GivenRecord:
    try:
        return GivenRecord(place=place, value=json.loads(line, parse_constant=_no_number))
    except json.JSONDecodeError as error:
        # The exception's own text would count lines from the start of the record.
        unread = f"not JSON: {error.msg} at column {error.colno}"
    except (ValueError, RecursionError) as error:
        unread = f"not JSON: {error}"
    return GivenRecord(place=place, value=line.decode(errors="replace").strip()[:_LINE_CHARS], unread=unread)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _read_parquet(path: Path) -> Iterator[GivenRecord]:
    rows: list[Record] = pq.read_table(path).to_pylist()
    for number, row in enumerate(rows, start=1):
        record = {name: _plain(value) for name, value in row.items() if value is not None}
        yield GivenRecord(place=f"{path}:{number}", value=record)


def _plain(value: object) -> object:
    """Convert a Parquet value to a JSON value, or to a string if JSON has no such type."""
    if isinstance(value, datetime):
        return rfc3339(int(value.timestamp()))
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return str(value)
    return value


def _text_of(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _no_object(each: GivenRecord) -> str:
    return each.unread or "not a JSON object"


def _problems(each: GivenRecord, now_s: int, admission: Admission) -> list[str]:
    if not isinstance(each.value, dict):
        return [_no_object(each)]
    decoded = decode_record(_text_of(each.value).encode())
    problems = record_problems(decoded, admission=admission, sent_at_ms=now_s * 1000)
    if problems:
        return [complaint(reason, detail, each.value) for reason, detail in problems]
    try:
        # The sender's own count accepts fewer spellings than the service.
        expected_totals([each.value])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{each.place}: it cannot be counted here: {error}", "Nothing was sent. Take it out."
        ) from error
    return []


def _times_of(value: object) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    try:
        return start_of(value), start_of(value, "end")
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _moved(each: GivenRecord, times_s: tuple[int, int] | None, shift_s: int) -> GivenRecord:
    if times_s is None or not isinstance(each.value, dict):
        return each
    start_s, end_s = times_s
    try:
        times = {"start": rfc3339(start_s + shift_s), "end": rfc3339(end_s + shift_s)}
    except (ValueError, OverflowError):
        return each
    return replace(each, value=each.value | times)


def _named(given: Sequence[GivenRecord]) -> str:
    digest = hashlib.sha256()
    for each in given:
        digest.update(json.dumps(each.value, sort_keys=True).encode())
    return f"input-{digest.hexdigest()[:16]}"


class BilledLine(NamedTuple):
    """Line of a real AWS bill that a replay sends; `samples/aws-bill-lines` has the lines and their source.

    Attributes:
        quantity: 1e-10 GB.
        price: 1e-10 USD a GB.
        cost: 1e-10 USD.
        sku: AWS's id of the product.
        rate_code: `<sku>.<offer term>.<rate>`: a tier of the product, or its free bytes.
    """

    hour_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    bytes: int
    quantity: int
    price: int
    cost: int
    sku: str
    rate_code: str


def billed_lines() -> list[BilledLine]:
    """All 338 lines, in the order of the sent records."""
    records = read_records([SAMPLE]).records
    return [
        BilledLine(
            hour_s=int(datetime.fromisoformat(line["usage_hour"]).timestamp()),
            account_id=line["account_id"],
            service=Service(line["service"]),
            usage_type=UsageType(line["usage_type"]),
            from_location=str(record["from"]),
            to_location=str(record["to"]),
            bytes=int(line["bytes"]),
            quantity=_units(line["quantity_gb"]),
            price=_units(line["list_unit_price_usd"]),
            cost=_units(line["list_cost_usd"]),
            sku=sku["sku_id"],
            rate_code=sku["sku_price_id"],
        )
        for line, sku, record in zip(_rows("expected_lines.csv"), _rows("sku_prices.csv"), records, strict=True)
    ]


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(SAMPLE.with_name(name).read_text(encoding="utf-8").splitlines()))


def _units(text: str) -> int:
    """Parse a decimal text into units of 1e-10. Beyond the tenth decimal, AWS writes only zeros.

    Raises:
        ValueError: There is something else.
    """
    whole, _, part = text.partition(".")
    if part[DECIMALS:].strip("0"):
        raise ValueError(f"{text!r} has more than {DECIMALS} decimals")
    return int(whole) * UNITS_A_USD + int(part[:DECIMALS].ljust(DECIMALS, "0"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Messages to be sent.

    Attributes:
        name: Prefix of the batch ids.
        seed: Seed of a scenario; 0 for records of files.
        messages: Number of messages.
        shipments: Messages, generated lazily as they are consumed.
        complaints: Problems of records from files, each with its place. Records with problems are sent unchanged.
    """

    name: str
    seed: int
    messages: int
    shipments: Iterable[Shipment]
    complaints: Sequence[str] = ()


def given_traffic(
    read: GivenRecords, records_per_batch: int, now_s: int, *, admission: Admission, shifted: bool = True
) -> Traffic:
    """Records of files, sent at `now_s` to a stage with this admission window; `shifted` moves times into the window.

    Raises:
        InputError: The records span more time than the window, or the sender cannot predict the totals of a record.
    """
    given = (read.shifted_to(now_s, window_s=admission.window_s) if shifted else read).judged(now_s, admission)
    number = -(-len(given.given) // records_per_batch)
    return Traffic(
        name=given.name,
        seed=0,
        messages=number,
        shipments=given.shipments(records_per_batch),
        complaints=given.complaints,
    )


def synthetic_traffic(
    name: str, scenario: scenarios.Scenario, batches: int | None, seed: int, now_s: int, bucket: str
) -> Traffic:
    """Scenario traffic whose newest records start in the last whole hour before `now_s`."""
    # The last complete hour: no record may start in the future.
    base_hour_s = hour_of(now_s) - HOUR_S
    run = replay_name(name, seed, base_hour_s)
    synthesis = Synthesis(name=run, scenario=scenario, seed=seed, base_hour_s=base_hour_s, bucket=bucket)
    number = batches or scenario.batches
    return Traffic(name=run, seed=seed, messages=number, shipments=synthesis.shipments(number))
