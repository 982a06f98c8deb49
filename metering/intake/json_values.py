"""JSON read exactly: numbers by their text, so that no value is rounded, and a canonical form for hashing."""

from __future__ import annotations

import json
import re

from metering.units import INT64_MAX

MAX_DEPTH = 100
"""Levels of nesting at most. A fixed number, because the parsers' own limits depend on the caller's stack."""


class Number(str):
    """A number as its JSON text; also NaN and Infinity, which are no JSON, but many writers' numbers."""

    __slots__ = ()


JsonValue = None | bool | Number | str | list["JsonValue"] | dict[str, "JsonValue"]

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_NOT_PLAIN = re.compile(r"[^\x20-\x7e]")
_decode = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number).decode
_MAX_PLAIN_DIGITS = 40
# Text of an exponent that is still turned into an int; int() takes quadratic time and refuses 4,300 digits.
_MAX_EXPONENT_DIGITS = 18


class JsonError(ValueError):
    """The text is no JSON (RFC 8259). Internal to the domain: callers turn it into a problem."""


class DepthError(JsonError):
    """The text is nested deeper than `MAX_DEPTH`."""


def parse_json(text: str) -> JsonValue:
    """The value of a JSON text; of keys that come twice the last counts.

    Takes what breaks only the field that it stands in, so that it costs a record and not a batch: lone surrogates, NaN.

    Raises:
        DepthError: Nested deeper than `MAX_DEPTH`.
        JsonError: No JSON.
    """
    check_depth(text)
    try:
        value: JsonValue = _decode(text)
    except ValueError as error:
        raise JsonError(str(error)) from error
    return value


def check_depth(text: str) -> None:
    """Raises DepthError if brackets outside of strings are nested deeper than `MAX_DEPTH`."""
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
    """One text for all ways to write a value: ASCII, no white space, keys sorted, numbers by value."""
    if isinstance(value, Number):
        return canonical_number(value)
    if isinstance(value, list):
        return f"[{','.join(map(canonical_json, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{canonical_json(value[key])}" for key in sorted(value)) + "}"
    return json.dumps(value)


def canonical_number(text: str) -> str:
    """One text for all ways to write a number: `1e3`, `1000.0` and `1000` are `1000`. NaN stays."""
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


def int64_of(canonical: str) -> int | None:
    """The number that a canonical text writes, if it is whole and fits 64 bits with a sign."""
    if len(canonical) > _MAX_PLAIN_DIGITS or not canonical.lstrip("-").isdecimal():
        return None
    number = int(canonical)
    return number if -INT64_MAX - 1 <= number <= INT64_MAX else None


def ascii_json(text: str) -> str:
    """`text` safe to store and print: what is not printable ASCII becomes its JSON escape, line ends a space.

    JSON stays the same JSON: outside of strings only white space is affected, inside of them only what may be escaped.
    """
    return text if text.isascii() and text.isprintable() else _NOT_PLAIN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    return " " if char in "\t\n\r" else json.dumps(char)[1:-1]
