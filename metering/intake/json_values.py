"""Exact JSON: numbers are read as text, so no value is rounded, and each value has a canonical text."""

import json
import re
from typing import NamedTuple

from metering.units import INT64_MAX

MAX_DEPTH = 100
"""Most levels of nesting. The number is fixed, because the parsers' own limits depend on the caller's stack."""


class Number(str):
    """A number as its JSON text. NaN and Infinity are accepted: they are not JSON, but many writers produce them."""

    __slots__ = ()


JsonValue = None | bool | Number | str | list["JsonValue"] | dict[str, "JsonValue"]

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_FRACTION = re.compile(r"(-?)([0-9]+)e-([1-9][0-9]{0,3})")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_decode = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number).decode
_MAX_PLAIN_DIGITS = 40
# Exponents of at most this many digits become ints: int() takes quadratic time, and rejects more than 4,300 digits.
_MAX_EXPONENT_DIGITS = 18


class JsonError(ValueError):
    """The text is not JSON (RFC 8259). The error never leaves the package, because callers turn it into a problem."""


class DepthError(JsonError):
    """The text is nested deeper than `MAX_DEPTH`."""


def parse_json(text: str) -> JsonValue:
    """Parse a JSON text; the last value of a repeated key counts.

    NaN and lone surrogates are accepted here. They invalidate only their own field, so only the record is refused, not
    the batch.

    Raises:
        DepthError: The text is nested deeper than `MAX_DEPTH`.
        JsonError: The text is not JSON.
    """
    check_depth(text)
    try:
        value: JsonValue = _decode(text)
    except ValueError as error:
        raise JsonError(str(error)) from error
    return value


def check_depth(text: str) -> None:
    """Check that brackets outside strings are not nested deeper than `MAX_DEPTH`.

    Raises:
        DepthError: They are.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DepthError(f"nested deeper than {MAX_DEPTH} levels")
        elif first in "]}":
            depth -= 1


def canonical_json(value: JsonValue) -> str:
    """Canonical text of a value: ASCII without white space, with sorted keys and canonical numbers."""
    if isinstance(value, Number):
        return canonical_number(value)
    if isinstance(value, list):
        return f"[{','.join(map(canonical_json, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{canonical_json(value[key])}" for key in sorted(value)) + "}"
    return json.dumps(value)


def canonical_number(text: str) -> str:
    """Canonical text of a number: `1000` for `1e3`, `1000.0` and `1000`. NaN stays unchanged."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    sign, whole, fraction, exponent_sign, exponent_digits = match.groups(default="")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return "0"
    exponent_digits = exponent_digits.lstrip("0") or "0"
    if len(exponent_digits) > _MAX_EXPONENT_DIGITS:
        return f"{sign}{whole}.{fraction}e{exponent_sign.lstrip('+')}{exponent_digits}"
    significant = digits.rstrip("0")
    exponent = int(exponent_sign + exponent_digits) - len(fraction) + len(digits) - len(significant)
    if exponent >= 0 and len(significant) + exponent <= _MAX_PLAIN_DIGITS:
        return sign + significant + "0" * exponent
    return f"{sign}{significant}e{exponent}"


def readable_number(canonical: str) -> str:
    """A canonical number in the usual notation: `12.5` for `125e-1`. Any other text stays unchanged."""
    match = _FRACTION.fullmatch(canonical)
    if match is None or len(canonical) > _MAX_PLAIN_DIGITS or int(match[3]) > _MAX_PLAIN_DIGITS:
        return canonical
    sign, digits, places = match[1], match[2], int(match[3])
    digits = digits.rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def int64_of(canonical: str) -> int | None:
    """Integer of a canonical text; None if the number is not an integer or exceeds signed 64 bits."""
    if len(canonical) > _MAX_PLAIN_DIGITS or not canonical.lstrip("-").isdecimal():
        return None
    number = int(canonical)
    return number if -INT64_MAX - 1 <= number <= INT64_MAX else None


def ascii_json(text: str) -> str:
    """Make JSON text safe to store and print: all but printable ASCII is escaped; tabs and line ends become spaces.

    The JSON value is unchanged: outside strings only white space changes, inside strings characters become escapes.
    """
    return text if text.isascii() and text.isprintable() else _NOT_PLAIN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return " " if char in "\t\n\r" else json.dumps(char)[1:-1]


# A string is one token, so that brackets in a string do not count as structure.
_SPAN_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]', re.DOTALL)


class FieldSpan(NamedTuple):
    """A field of an object: `text[start:end]` is its value."""

    name: str
    start: int
    end: int


def field_spans(text: str) -> list[FieldSpan]:
    """Spans of the fields of the outermost object, in order; a repeated field has several spans.

    Args:
        text: A JSON object. For other texts the result is undefined.
    """
    spans: list[FieldSpan] = []
    depth, name, start = 0, "", -1
    for token in _SPAN_TOKEN.finditer(text):
        sign = token[0][0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        if start < 0 and depth == 1 and sign in '":':
            name, start = (_text(token[0]), start) if sign == '"' else (name, token.end())
        elif start >= 0 and ((depth == 1 and sign == ",") or (depth == 0 and sign == "}")):
            spans.append(_stripped(text, name, start, token.start()))
            start = -1
    return spans


def replaced(text: str, values: dict[str, str]) -> str:
    """The object with some fields replaced by new values (JSON texts); missing fields are inserted at the beginning."""
    spans = field_spans(text)
    for span in reversed(spans):
        if span.name in values:
            text = text[: span.start] + values[span.name] + text[span.end :]
    known = {span.name for span in spans}
    added = "".join(f"{json.dumps(name)}:{value}," for name, value in values.items() if name not in known)
    begin = text.index("{") + 1
    return text[:begin] + (added if spans else added.rstrip(",")) + text[begin:]


def _stripped(text: str, name: str, start: int, end: int) -> FieldSpan:
    value = text[start:end]
    return FieldSpan(name, start + len(value) - len(value.lstrip()), start + len(value.rstrip()))


def _text(token: str) -> str:
    # Raw control characters are invalid JSON, but lenient parsers accept them.
    return str(json.loads(token, strict=False))
