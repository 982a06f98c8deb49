"""CloudFront standard logs: lines, reader, and the billing area of an edge, which is part of the usage type."""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from metering.errors import LogFileRefusedError
from metering.onramps import sources
from metering.onramps.formats import rows
from metering.onramps.formats.pieces import peeked
from metering.onramps.reading import Block, FileName, ReadSettings, epoch_s_of
from metering.onramps.reasons import Classified, FileReason, LineReason, Outcome, Refused, Shadowed, Traffic
from metering.usage.usage_types import CLOUDFRONT, INTERNET, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from metering.onramps.context.store import Timeline

_EDGE = re.compile(r"([A-Z]{3})[0-9]*(?:-[A-Z0-9]+)*")


@cache
def areas_by_airport() -> Mapping[str, str]:
    """Map each known airport code (`LHR`) to its billing area (`EU`); the data file names the sources of both."""
    text = resources.files(__package__).joinpath("edge_areas.json").read_text(encoding="utf-8")
    areas: dict[str, str] = json.loads(text)["areas"]
    return {code: area for area, codes in areas.items() for code in codes.split()}


def airport_of(edge: str) -> str:
    """Airport code of an edge location, such as `LHR` for `LHR61-P2`; empty for another form."""
    found = _EDGE.fullmatch(edge)
    return found[1] if found is not None else ""


SENT, RECEIVED, EDGE = "sc-bytes", "cs-bytes", "x-edge-location"
METHOD, RESULT = "cs-method", "x-edge-result-type"
DATE, TIME, SECONDS, MILLISECONDS = "date", "time", "timestamp", "timestamp(ms)"
USED_FIELDS = (SENT, RECEIVED, EDGE, METHOD, RESULT, DATE, TIME, SECONDS, MILLISECONDS)
"""Fields that metering reads. Legacy logs have them all; version 2 has those that its owner chose."""

LEGACY_FIELDS = (
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status"),
    *("cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)", "x-edge-result-type", "x-edge-request-id"),
    *("x-host-header", "cs-protocol", "cs-bytes", "time-taken", "x-forwarded-for", "ssl-protocol", "ssl-cipher"),
    *("x-edge-response-result-type", "cs-protocol-version", "fle-status", "fle-encrypted-fields", "c-port"),
    *("time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len", "sc-range-start"),
    "sc-range-end",
)
"""The 33 fields of a legacy log, in their order (Amazon CloudFront Developer Guide, "Standard log file fields")."""

_NONE = ("", "-")
# CloudFront forwards the bodies of these requests; AWS bills them as origin traffic (CloudFront's usage report).
_UPLOADS = frozenset({"DELETE", "OPTIONS", "PATCH", "POST", "PUT"})
_READS = frozenset({"GET", "HEAD"})
# The edge answered these requests without an origin. `Error` does not show whether the edge or the origin caused it.
_AT_EDGE = frozenset({"Hit", "Redirect", "LimitExceeded", "CapacityExceeded", "FunctionGeneratedResponse"})
_BY_ORIGIN = "Miss"
METHOD_NOT_LOGGED, ORIGIN_UNKNOWN = "method_not_logged", "origin_unknown"
"""Reasons why it is not known whether what a viewer sent went on to the origin."""


class EdgeTransfer(NamedTuple):
    """Transfer between an edge and viewers or origins, without time and size.

    Attributes:
        direction: `out` to viewers, `in` from viewers, or `origin`: from viewers and forwarded to the origin.
        doubt: Reason why it is unknown whether incoming bytes reached the origin; empty if known.
    """

    airport: str
    edge_logged: bool
    direction: str
    version: str
    doubt: str = ""


class RowJudge:
    """Counts the rows of one file of a version, `legacy` or `v2`.

    Raises:
        LogFileRefusedError: A field that metering requires is missing.
    """

    def __init__(self, fields: Collection[str], version: str) -> None:
        missing = [] if SENT in fields else [SENT]
        if not ({DATE, TIME} <= set(fields) or SECONDS in fields or MILLISECONDS in fields):
            missing.append("date with time, or timestamp")
        if missing:
            detail = f"the log lacks {' and '.join(missing)}: choose these fields for its delivery"
            raise LogFileRefusedError(FileReason.MISSING_FIELD, detail)
        self._edge_logged = EDGE in fields
        self._version = version

    def judge(self, number: int, text: str, value: Callable[[str], str], tally: rows.Tally[EdgeTransfer]) -> None:
        """Count a row (`metering.onramps.formats.rows.RowJudge`)."""
        sent, received = _number(value(SENT)), _number(value(RECEIVED))
        if sent is None or received is None:
            detail = f"{SENT} or {RECEIVED} is no number from 0 to 2^63-1"
            tally.refuse(number, LineReason.INVALID_NUMBER, detail, text, (sent or 0) + (received or 0))
            return
        time_s = _time_s(value(DATE), value(TIME), value(SECONDS), value(MILLISECONDS))
        if time_s is None:
            detail = "the row has no time that can be read"
            tally.refuse(number, LineReason.INVALID_TIME, detail, text, sent + received)
            return
        airport = airport_of(value(EDGE))
        inward, doubt = _went(value(METHOD), value(RESULT))
        moves = [
            rows.Moved(EdgeTransfer(airport, self._edge_logged, direction, self._version, why), size_bytes)
            for direction, size_bytes, why in (("out", sent, ""), (inward, received, doubt))
            if size_bytes
        ]
        if moves:
            tally.metered(moves, time_s, time_s)
        else:
            tally.nodata()


def _went(method: str, result: str) -> tuple[str, str]:
    """Direction of a request's bytes, and the reason if the direction is unknown."""
    if method in _NONE:
        return "in", METHOD_NOT_LOGGED
    if method in _READS or result in _AT_EDGE:
        return "in", ""
    if method in _UPLOADS and result == _BY_ORIGIN:
        return "origin", ""
    return "in", ORIGIN_UNKNOWN


def _number(text: str) -> int | None:
    if text in _NONE:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(rows.MAX_BYTES)):
        return None
    number = int(text)
    return number if number <= rows.MAX_BYTES else None


def _time_s(date: str, time: str, seconds: str, milliseconds: str) -> int | None:
    """Time when the response ended, the only time in the log."""
    if date not in _NONE and time not in _NONE:
        return _moment_s(f"{date} {time}", "%Y-%m-%d %H:%M:%S")
    if seconds not in _NONE:
        # The seconds may have a fractional part.
        return _number(seconds.partition(".")[0])
    whole = _number(milliseconds)
    return whole // 1000 if whole and milliseconds not in _NONE else None


_moment_s = lru_cache(maxsize=65_536)(epoch_s_of)


# Rules of CloudFront standard logs: the edge's billing area decides the usage type. A distribution may write both
# versions of the log, each with the same requests. If a context states which version is metered, the other is shadowed.
#
# The metered side is the edge, and the other side is the internet. Viewers' requests have the usage type that AWS's
# naming suggests; no bill has a line for this type, because these requests are free. But the bodies of PUT, POST and
# similar requests go on to the origin, and AWS bills them as origin traffic. Each byte is metered once, under one of
# the two usage types. No field states the origin's location.

AREA, NO_AREA, NO_ORIGIN = "edge_area", "no_edge_area", "no_edge_origin"
# Direction -> the other side, and the usage type of the transfer.
_FAR = {
    "out": (INTERNET, "DataTransfer-Out-Bytes"),
    "in": (INTERNET, "DataTransfer-In-Bytes"),
    "origin": (UNKNOWN, "DataTransfer-Out-OBytes"),
}
EDGE_NOT_LOGGED, EDGE_UNKNOWN = "edge_not_logged", "edge_unknown"
_SERVICE = "AmazonCloudFront"


class CloudFrontClassifier:
    """Classifies the transfers of one file (`Classifier`)."""

    def __init__(self, name: FileName, timeline: Timeline) -> None:
        self._name = name
        self._timeline = timeline

    def outcome(self, subject: EdgeTransfer, hour_s: int) -> Outcome:
        context = self._timeline.at(hour_s)
        known = context.distributions.get(self._name.source) if context is not None else None
        if known is not None and known.log not in ("", subject.version):
            return Shadowed(f"{known.id} {known.log}")
        account_id = self._name.account_id or (known.account_id if known is not None else "")
        if not account_id:
            detail = f"the log does not say whose distribution it is: {sources.GIVE_ACCOUNT}"
            return Refused(LineReason.INVALID_ACCOUNT, detail)
        if not self._name.source:
            return Refused(LineReason.INVALID_VALUE, "the file's name does not say which distribution it is of")
        return self._classified(subject, account_id)

    def _classified(self, subject: EdgeTransfer, account_id: str) -> Classified:
        far, traffic_name = _FAR[subject.direction]
        way = "In" if subject.direction == "in" else "Out"
        area = areas_by_airport().get(subject.airport, "")
        known = area and not subject.doubt
        traffic = Traffic(
            account_id=account_id,
            service=_SERVICE,
            resource_id=self._name.source,
            direction=way.lower(),
            from_location=far if way == "In" else CLOUDFRONT,
            to_location=CLOUDFRONT if way == "In" else far,
            usage_type=f"{area}-{traffic_name}" if known else f"Unclassified-{way}-Bytes",
        )
        if subject.doubt:
            return Classified(traffic, NO_ORIGIN, subject.doubt)
        if area:
            return Classified(traffic, AREA)
        return Classified(traffic, NO_AREA, EDGE_UNKNOWN if subject.edge_logged else EDGE_NOT_LOGGED)


# CloudFront standard logs have these formats: W3C with `#Fields`, plain with a header line, JSON, and raw with given
# names. In version 2, the distribution's owner chooses the fields and the delimiter. A file's header states its fields,
# and the first line shows the delimiter.

LEGACY, V2 = "legacy", "v2"
_FIELDS = "#Fields:"
_DELIMITERS = ("\t", ",", " ", "|", ";")
_BETWEEN_NAMES = re.compile(r"[\s,|;]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9()_-]*")
_USED = frozenset(USED_FIELDS)
_decode_json = msgspec.json.Decoder(dict[str, object]).decode


class TextJudge:
    """`LineJudge` of one file. `fields` names the columns of a file without a header."""

    def __init__(self, fields: Sequence[str], *, known_as_v2: bool) -> None:
        self._known_as_v2 = known_as_v2
        self._names: tuple[str, ...] = ()
        self._places: dict[str, int] = {}
        self._delimiter = ""
        self._rows: RowJudge | None = None
        self._json_rows: RowJudge | None = None
        if fields:
            self._know(fields)

    def judge(self, number: int, line: str, tally: rows.Tally[EdgeTransfer]) -> None:
        if line.startswith("#"):
            if line.startswith(_FIELDS):
                self._know(_names(line.removeprefix(_FIELDS)))
            tally.header()
        elif line.startswith("{"):
            self._judge_json(number, line, tally)
        elif _is_header(line):
            self._know(_names(line))
            tally.header()
        else:
            self._judge_fields(number, line, tally)

    def _know(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        legacy = self._names == LEGACY_FIELDS and not self._known_as_v2
        self._rows = RowJudge(self._names, LEGACY if legacy else V2)
        self._places = {name: place for place, name in enumerate(self._names) if name in _USED}
        self._delimiter = ""

    def _judge_fields(self, number: int, line: str, tally: rows.Tally[EdgeTransfer]) -> None:
        if self._rows is None and self._json_rows is not None:
            tally.refuse(
                number, LineReason.INVALID_VALUE, "the line is no JSON object, as others of the file are", line
            )
            return
        if self._rows is None:
            detail = "no line names the fields: give them with --fields, in the order of the delivery"
            raise LogFileRefusedError(FileReason.NO_HEADER, detail)
        if not self._delimiter:
            self._delimiter = next((each for each in _DELIMITERS if line.count(each) + 1 == len(self._names)), "")
        values = line.split(self._delimiter) if self._delimiter else [line]
        if len(values) != len(self._names):
            detail = f"{len(values)} fields, and the file has {len(self._names)}"
            tally.refuse(number, LineReason.FIELD_COUNT, detail, line)
            return
        places = self._places
        self._rows.judge(number, line, lambda name: values[places[name]] if name in places else "", tally)

    def _judge_json(self, number: int, line: str, tally: rows.Tally[EdgeTransfer]) -> None:
        try:
            document = _decode_json(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            tally.refuse(number, LineReason.INVALID_VALUE, f"the line is no JSON: {error}", line)
            return
        if self._json_rows is None:
            self._json_rows = RowJudge(document, V2)
        self._json_rows.judge(number, line, _value_in(document), tally)


def _value_in(document: dict[str, object]) -> Callable[[str], str]:
    def value(name: str) -> str:
        found = document.get(name, "")
        return found if isinstance(found, str) else str(found) if isinstance(found, int | float) else ""

    return value


def _names(text: str) -> list[str]:
    return [name for name in _BETWEEN_NAMES.split(text.strip()) if name]


def _is_header(line: str) -> bool:
    """Whether a line holds field names instead of values: a number of bytes is never a field name."""
    if SENT not in line:
        return False
    names = _names(line)
    return SENT in names and all(map(_NAME.fullmatch, names))


def read_cloudfront_log(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[EdgeTransfer]]:
    """Read a file (`LogReader`)."""
    start, whole = peeked(stream)
    if not name.parquet and start not in rows.PARQUET_MAGIC:
        judge = TextJudge(settings.fields, known_as_v2=name.version == V2)
        yield from rows.read_lines(whole, settings, digest, judge)
        return
    with rows.seekable(whole, digest) as file:
        columns = rows.column_names(file, settings)
        used = tuple(name for name in USED_FIELDS if name in columns)
        yield from rows.read_rows(file, settings, used, RowJudge(columns, V2))
