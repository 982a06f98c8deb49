"""URL parameters, validated by their declarations, and problem details (RFC 9457) for invalid values."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from fastapi import Response

from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.reports.query import COST_COLUMNS, DETAIL_COLUMNS, GROUP_COLUMNS, Filter
from metering.reports.time_range import WORDS, InvalidParametersError, ParameterProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.reports import answer


MEDIA_TYPE = "application/problem+json"
_URN = "urn:metering:problem:"
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterFault:
    """An invalid parameter: its name in the URL, and a sentence that describes the fault."""

    parameter: str
    detail: str


@dataclass(kw_only=True)
class ProblemError(Exception):
    """Ends a request with a problem document.

    Attributes:
        kind: Last part of the problem's URN, such as `unknown-column`.
        status: HTTP status.
        title: Title, the same for all problems of this kind.
        detail: What is wrong in this request, and what to do.
        faults: The invalid parameters.
        headers: Further headers, such as `Retry-After` and `WWW-Authenticate`.
    """

    kind: str
    status: int
    title: str
    detail: str
    faults: Sequence[ParameterFault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """The problem as a response that is never cached."""
        document: dict[str, object] = {
            "type": f"{_URN}{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            document["errors"] = [{"parameter": each.parameter, "detail": each.detail} for each in self.faults]
        return Response(
            content=(json.dumps(document, indent=2) + "\n").encode(),
            status_code=self.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **self.headers},
        )


# Kind of problem -> status and title.
_PROBLEMS = {
    "answer-too-large": (422, "The answer is too large"),
    "invalid-cursor": (422, "The cursor cannot be used"),
    "invalid-parameters": (422, "The question makes no sense"),
    "invalid-request": (400, "The request is not as the document says"),
    "not-authenticated": (401, "Not authenticated"),
    "not-found": (404, "Not found"),
    "not-granted": (403, "Not granted"),
    "other-host": (421, "Meant for another host"),
    "refused": (422, "It cannot be answered"),
    "too-late": (503, "It took too long"),
    "too-many-requests": (429, "Too many requests"),
    "unavailable": (503, "No answer now"),
}


def problem(
    kind: str,
    detail: str,
    *,
    title: str = "",
    faults: Sequence[ParameterFault] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemError:
    """A problem of a known kind, with the kind's status, and with its title unless another is given."""
    status, usual = _PROBLEMS[kind]
    return ProblemError(
        kind=kind, status=status, title=title or usual, detail=detail, faults=faults, headers=headers or {}
    )


def fault_of(problem: ParameterProblem) -> ParameterFault:
    """A problem that the reports found, as one sentence."""
    return ParameterFault(
        parameter=problem.parameter, detail=f"{problem.value} {problem.problem} {problem.advice}".strip()
    )


def problem_of(error: MeteringError) -> ProblemError | None:
    """The problem of a failed request; None for a fault that only the operator can correct."""
    if isinstance(error, InvalidParametersError):
        faults = [fault_of(each) for each in error.problems]
        return problem("invalid-parameters", " ".join(dict.fromkeys(each.detail for each in faults)), faults=faults)
    if isinstance(error, UnavailableError):
        return problem(
            "unavailable",
            "A store gave no answer. Nothing is wrong with the request: send it again.",
            headers={"Retry-After": str(_RETRY_AFTER_S)},
        )
    if isinstance(error, OperationFailedError):
        detail = f"{error.reason} {error.advice}".strip()
        return problem("refused", detail)
    return None


_MOST_QUERY_CHARS = 8_192
_SHOWN_CHARS = 80
_DIGITS = re.compile(r"[0-9]{1,9}")
_FLAGS = {"true": True, "false": False}
# Parameters of the previous release and their replacements. An entry is removed in the next release.
_GONE = {"blended": " Exports in CUR have blended costs."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a URL.

    Attributes:
        name: Name, the same as the command-line option's without dashes.
        about: One or two sentences for the OpenAPI document.
        words: End of a sentence that begins with a wrong value: `is not an account: an account has 12 digits.`
        pattern: Regular expression of one whole value. Unused for integers and flags.
        most_chars: Maximum length of one value.
        most_values: Maximum number of values, separated by commas.
        kind: `text`, `integer` or `flag` (true or false).
        minimum, maximum: Of an integer.
        choices: The allowed values, if they are few.
        place: `path` for a part of the URL's path.
    """

    name: str
    about: str
    words: str = "cannot be used."
    pattern: str = ""
    most_chars: int = 128
    most_values: int = 1
    kind: Literal["text", "integer", "flag"] = "text"
    minimum: int = 1
    maximum: int = 1_000_000
    choices: tuple[str, ...] = ()
    example: str = ""
    required: bool = False
    place: Literal["query", "path"] = "query"

    def fault(self, text: str) -> str | None:
        """The fault of a value, as the end of a sentence; None if the OpenAPI document allows the value."""
        if self.kind == "flag":
            return None if text in _FLAGS else "is neither true nor false."
        if self.kind == "integer":
            fits = _DIGITS.fullmatch(text) and self.minimum <= int(text) <= self.maximum
            return None if fits else f"is not a whole number from {self.minimum} to {self.maximum}."
        if self.choices:
            return None if text in self.choices else f"is not one of {', '.join(self.choices)}."
        return self._text_fault(text)

    def schema(self) -> dict[str, answer.Json]:
        if self.kind == "flag":
            return {"type": "string", "enum": [*_FLAGS]}
        if self.kind == "integer":
            return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        one, most = f"(?:{self.pattern})", self.most_values
        whole = f"^{one}$" if most == 1 else f"^{one}(?:,{one}){{0,{most - 1}}}$"
        return {"type": "string", "pattern": whole, "minLength": 1, "maxLength": (self.most_chars + 1) * most - 1}

    def _text_fault(self, text: str) -> str | None:
        values = text.split(",") if self.most_values > 1 else [text]
        if len(values) > self.most_values:
            return f"names {len(values)} values, and {self.most_values} are the most."
        one = re.compile(self.pattern)
        wrong = [each for each in values if len(each) > self.most_chars or one.fullmatch(each) is None]
        if not wrong:
            return None
        return self.words if len(values) == 1 else f": {_shown(wrong[0])} {self.words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The values of a request. Every value is valid for its parameter; a missing parameter has no value."""

    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        return self.values.get(name)

    def names(self, name: str) -> tuple[str, ...]:
        """Distinct values of a comma-separated parameter."""
        return tuple(dict.fromkeys(self.values[name].split(","))) if name in self.values else ()

    def filters(self, known: Iterable[str], accounts: Iterable[str]) -> dict[str, Sequence[str]]:
        """Known values of the filters, for the accounts that may be read."""
        return {**{name: self.names(name) for name in known}, "account": sorted(accounts)}

    def number(self, name: str) -> int | None:
        return int(self.values[name]) if name in self.values else None

    def flag(self, name: str) -> bool:
        return _FLAGS[self.values.get(name, "false")]


def given_values(declared: Sequence[Parameter], query: bytes, path: Mapping[str, object] | None = None) -> Given:
    """Check a request's values: the raw query of its URL, and the parts of its path.

    Raises:
        ProblemError: 400, with every parameter that is unknown, given twice, missing, or invalid.
    """
    known = {each.name: each for each in declared if each.place == "query"}
    pairs = _pairs(query)
    faults = [*_strangers([name for name, _ in pairs], list(known)), *_twice(name for name, _ in pairs)]
    values = {**dict(pairs), **{name: str(value) for name, value in (path or {}).items()}}
    for each in declared:
        if each.name not in values:
            if each.required:
                faults.append(ParameterFault(parameter=each.name, detail=f"{each.name} has to be given. {each.about}"))
        elif (wrong := _fault(each, values[each.name])) is not None:
            faults.append(ParameterFault(parameter=each.name, detail=wrong))
    if faults:
        raise problem("invalid-request", " ".join(dict.fromkeys(each.detail for each in faults)), faults=faults)
    return Given(values=values)


def _fault(declared: Parameter, text: str) -> str | None:
    if not text:
        return f"{declared.name} is empty. Leave it out, or give it a value."
    wrong = declared.fault(text)
    if wrong is None:
        return None
    # In a query string, `+` decodes to a space, so an offset such as `+02:00` arrives with a space.
    hint = " Write + as %2B in a URL." if " " in text else ""
    return f"{declared.name} {wrong[2:]}{hint}" if wrong.startswith(": ") else f"{_shown(text)} {wrong}{hint}"


def _pairs(query: bytes) -> list[tuple[str, str]]:
    if len(query) > _MOST_QUERY_CHARS:
        raise _malformed(f"The query of the URL has {len(query)} characters, and {_MOST_QUERY_CHARS} are the most.")
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise _malformed("The query of the URL is not UTF-8, or has more than 100 parameters.") from error


def _malformed(detail: str) -> ProblemError:
    return problem("invalid-request", detail)


def _strangers(names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterFault]:
    """Unknown parameters are refused, because ignoring a filter with a mistyped name would give a larger total."""
    for name in dict.fromkeys(names):
        if name not in known:
            near = get_close_matches(name, known, n=1)
            nearest = f" Nearest: {near[0]}." if near else ""
            there = f"There are: {', '.join(known)}." if known else "This resource takes none."
            detail = f"There is no parameter {_shown(name)}.{_GONE.get(name, nearest)} {there}"
            yield ParameterFault(parameter=_shown(name), detail=detail)


def _twice(names: Iterator[str]) -> Iterator[ParameterFault]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            detail = f"{_shown(name)} is given twice. Give it once; several values have commas between them."
            yield ParameterFault(parameter=_shown(name), detail=detail)
        seen.add(name)


def _shown(text: str) -> str:
    """Untrusted text in a form for error messages: short, without control characters, and never empty."""
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return "".join(each if each.isprintable() else "?" for each in short) or "(empty)"


_TIME = (
    "[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2}))?)?"
    f"|{'|'.join(WORDS)}"
)
_NO_TIME = "is not a time: write it as 2026-11-24T13:00:00Z, 2026-11-24, 2026-11 or one of " + ", ".join(WORDS) + "."
FORMATS = ("json", "ndjson", "csv", "parquet")

FROM = Parameter(
    name="from",
    about="Beginning of the range, included: RFC 3339, a date, a month, today, yesterday, this-month or last-month. "
    "Default: this month. In UTC.",
    words=_NO_TIME,
    pattern=_TIME,
    most_chars=25,
    example="2026-11-01",
)
TO = Parameter(
    name="to",
    about="End of the range, not included. Default: the end of `from` if that is a date or month, else the end of this "
    "hour.",
    words=_NO_TIME,
    pattern=_TIME,
    most_chars=25,
    example="2026-11-08",
)
LAST = Parameter(
    name="last",
    about="A span that ends with the hour that runs now, in place of `from` and `to`: 24h, 7d, 2w or 3m.",
    words="is not a span of time: write it as 24h, 7d, 2w or 3m (months).",
    pattern="[0-9]{1,4}[hdwm]",
    most_chars=5,
    example="7d",
)
MONTH = Parameter(
    name="month",
    about="One billing month, in place of `from`, `to` and `last`.",
    words="is not a month: write it as 2026-11.",
    pattern="[0-9]{4}-[0-9]{2}",
    most_chars=7,
    example="2026-11",
)
TZ = Parameter(
    name="tz",
    about="Zone of dates and months, and of the times in the answer. Default: UTC.",
    words="is not a time zone.",
    pattern="[A-Za-z0-9+_/-]{1,64}",
    most_chars=64,
    example="Europe/Berlin",
)


def filter_parameter(it: Filter, *, one: bool = False) -> Parameter:
    """The parameter of a filter, for one value or for several separated by commas."""
    return Parameter(
        name=it.name,
        about=it.about_one if one else it.about,
        words=it.words,
        pattern=it.url_pattern or it.rule.pattern,
        most_chars=it.most_chars,
        most_values=1 if one else it.most_values,
        example=it.example,
    )


def columns(name: str, known: Sequence[str], *, about: str, most: int, example: str) -> Parameter:
    """A parameter that names columns."""
    return Parameter(
        name=name,
        about=about,
        words=f"is not one of the columns. The columns are: {', '.join(known)}.",
        pattern="|".join(known),
        most_chars=max(map(len, known)),
        most_values=most,
        example=example,
    )


_GROUPS = "Columns of the answer, with commas between them. Default: usage_type."
GROUP_BY = columns("group_by", GROUP_COLUMNS, about=_GROUPS, most=8, example="day,usage_type")
COST_GROUP_BY = columns("group_by", COST_COLUMNS, about=_GROUPS, most=8, example="account_id,tier")
DETAIL = columns(
    "detail",
    DETAIL_COLUMNS,
    about="Further columns, which only the lake has. Rows are read, hour by hour.",
    most=3,
    example="resource_id",
)
SORT = Parameter(
    name="sort",
    about="Sort by this column; with :desc the largest first. Such an answer has no pages.",
    words="is not a column, or a column with :asc or :desc.",
    pattern=r"[a-z_]{1,32}(?::(?:asc|desc))?",
    most_chars=40,
    example="bytes:desc",
)
TOP = Parameter(
    name="top",
    about="Only the first rows, by bytes unless `sort` says otherwise; the others become one sum.",
    kind="integer",
    maximum=100_000,
    example="10",
)
WITH_CORRECTIONS = Parameter(
    name="with_corrections",
    about="Also rows that were booked later for closed months, told apart by the column `corrects`.",
    kind="flag",
    example="true",
)
NOW = Parameter(
    name="now",
    about="Exact as of now, also of what is not rolled up yet, which is a matter of seconds. It takes longer.",
    kind="flag",
    example="true",
)
FORMAT = Parameter(
    name="format", about="Form of the answer; it wins over the header Accept.", choices=FORMATS, example="csv"
)
LIMIT = Parameter(
    name="limit",
    about="Rows of a page. Without it the whole answer comes at once, or is refused as too large; never a part of it.",
    kind="integer",
    maximum=20_000,
    example="1000",
)
CURSOR = Parameter(
    name="cursor",
    about="Where the next page begins: `next` of the page before, with the same other parameters.",
    words="is not a cursor.",
    pattern="[A-Za-z0-9_-]{1,4096}",
    most_chars=4_096,
)

SPAN = (FROM, TO, LAST)
PAGED = (FORMAT, LIMIT, CURSOR)
"""Parameters that stand together."""
