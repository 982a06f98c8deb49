"""Positions of the fields in the text of a JSON object, so that one can be replaced without touching another byte."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

# A string is one token, so brackets inside it are not taken for structure.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{},:]', re.DOTALL)


class FieldSpan(NamedTuple):
    """A field of an object: `text[start:end]` is its value."""

    name: str
    start: int
    end: int


def field_spans(text: str) -> list[FieldSpan]:
    """Spans of the fields of the outermost object, in order; a repeated field has several.

    Args:
        text: A JSON object. For any other text the answer is meaningless.
    """
    spans: list[FieldSpan] = []
    depth, name, start = 0, "", -1
    for token in _TOKEN.finditer(text):
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
    """The object with new values for some fields, given as JSON texts; fields that it lacks are put first."""
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
    # Raw control characters are not JSON, but lenient parsers take them as they are.
    return str(json.loads(token, strict=False))
