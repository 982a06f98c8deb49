"""Parameters of a URL: declared once, checked by it, and told in the OpenAPI document.

What a declaration does not allow is a problem of status 400. What it allows and makes no sense (an empty range, a
column that does not exist) is found by the reports, and is a problem of status 422.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl

from metering.api.problems import ParameterFault, ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.reports.answer import Json

_MOST_QUERY_CHARS = 8_192
_SHOWN_CHARS = 80
_KIND, _TITLE = "invalid-request", "The request is not as the document says"
_DIGITS = re.compile(r"[0-9]{1,9}")
_FLAGS = {"true": True, "false": False}
# What took the place of a parameter of the release before. An entry goes with the next release.
_GONE = {"blended": " Exports in CUR have blended costs."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a URL.

    Attributes:
        name: Its name, the same as the option of the command line without dashes.
        about: One or two sentences for the document.
        words: The rest of a sentence that begins with a wrong value: `is not an account: an account has 12 digits.`
        pattern: What one value looks like, whole. Not for integers and flags.
        most_chars: Most characters of one value.
        most_values: Most values, with commas between them.
        kind: `text`, `integer` or `flag` (true or false).
        minimum, maximum: Of an integer.
        choices: The only values, if they are few.
        example: A value that stands in the document.
        required: It has to be given.
        place: `path` if it is a part of the path.
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
        """What is wrong with a value, as the rest of a sentence; None if the document allows it."""
        if self.kind == "flag":
            return None if text in _FLAGS else "is neither true nor false."
        if self.kind == "integer":
            fits = _DIGITS.fullmatch(text) and self.minimum <= int(text) <= self.maximum
            return None if fits else f"is not a whole number from {self.minimum} to {self.maximum}."
        if self.choices:
            return None if text in self.choices else f"is not one of {', '.join(self.choices)}."
        return self._text_fault(text)

    def schema(self) -> dict[str, Json]:
        """JSON Schema of the value."""
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
    """The values of a request. All are as their parameters allow; a parameter that was not given is not there."""

    values: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        return self.values.get(name)

    def names(self, name: str) -> tuple[str, ...]:
        """Values with commas between them, each once."""
        return tuple(dict.fromkeys(self.values[name].split(","))) if name in self.values else ()

    def number(self, name: str) -> int | None:
        return int(self.values[name]) if name in self.values else None

    def flag(self, name: str) -> bool:
        return _FLAGS[self.values.get(name, "false")]


def given_values(declared: Sequence[Parameter], query: bytes, path: Mapping[str, object] | None = None) -> Given:
    """Check what a request gives.

    Args:
        declared: The parameters of its resource.
        query: The query of its URL, as it came.
        path: Values of the parts of its path that are parameters.

    Raises:
        ProblemError: 400, with every parameter that is unknown, given twice, missing, or not as declared.
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
        raise ProblemError(
            kind=_KIND,
            status=400,
            title=_TITLE,
            detail=" ".join(dict.fromkeys(each.detail for each in faults)),
            faults=faults,
        )
    return Given(values=values)


def _fault(declared: Parameter, text: str) -> str | None:
    if not text:
        return f"{declared.name} is empty. Leave it out, or give it a value."
    wrong = declared.fault(text)
    if wrong is None:
        return None
    # In a query, + is a space: who writes an offset of time gets one.
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
    return ProblemError(kind=_KIND, status=400, title=_TITLE, detail=detail)


def _strangers(names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterFault]:
    """Parameters that do not exist: a filter with a mistyped name must not be a larger total."""
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
    """A text of a stranger in an error: short, without control characters, and never nothing."""
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
    return "".join(each if each.isprintable() else "?" for each in short) or "(empty)"
