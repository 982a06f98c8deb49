"""JSON Schemas of answers, from which the document is made. They say what is there; fields are added, never changed."""

from __future__ import annotations

from metering.reports.answer import Json

Schema = dict[str, Json]

_MOST_ITEMS = 100_000
_INT64 = 2**63 - 1


def text(most: int = 512) -> Schema:
    """A text of a known greatest length."""
    return {"type": "string", "maxLength": most}


def integer(least: int = 0) -> Schema:
    """A count that JSON can hold."""
    return {"type": "integer", "minimum": least, "maximum": _INT64}


def array(items: Schema, most: int = _MOST_ITEMS) -> Schema:
    """A list of a known greatest length."""
    return {"type": "array", "items": items, "maxItems": most}


def record(required: Schema, **optional: Json) -> Schema:
    """An object: fields that are always there, and fields that may be."""
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def mapping(values: Schema) -> Schema:
    """An object whose names are data."""
    return {"type": "object", "additionalProperties": values}


def maybe(schema: Schema) -> Schema:
    """The same or null."""
    return {"anyOf": [schema, {"type": "null"}]}


TIME: Schema = {"type": "string", "format": "date-time", "maxLength": 40}
# Exact totals are decimal strings, because JSON numbers are not exact in every language. A repair can be negative.
BYTES: Schema = {"type": "string", "pattern": "^-?[0-9]{1,60}$", "maxLength": 61}
MONEY: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,60}(?:\.[0-9]{1,60})?$", "maxLength": 122}
ACCOUNT: Schema = {"type": "string", "pattern": "^[0-9]{12}$", "maxLength": 12}
HELD_BACK: Schema = array(record({"what": text(), "since": maybe(TIME), "cure": text()}), 1_000)
CURSOR: Schema = maybe(text(4_096))

_NAMES: dict[str, Json] = {
    "account_id": ACCOUNT,
    "usage_type": text(128),
    "service": text(64),
    "from": text(128),
    "to": text(128),
    "month": text(7),
    "day": text(10),
    "hour": text(25),
    "corrects": text(25),
    "region": text(64),
}
_DETAILS: dict[str, Json] = {"resource_id": text(512), "direction": text(3), "batch_id": text(128)}
_ASKED = record({"from": TIME, "to": TIME, "group_by": array(text(32), 10)})


def figures(sums: Schema, others: Schema | None = None, *, sometimes: Schema | None = None, **more: Json) -> Schema:
    """An answer of totals: the question, how complete they are, and rows with the columns grouped by.

    Args:
        sums: Columns of figures, which every row has.
        others: What the sum of further rows has.
        sometimes: Further fields of the answer that may be there.
        more: Further fields of the answer that are always there.
    """
    row = record(sums, **_NAMES, **_DETAILS)
    beside: Schema = {
        "query": _ASKED,
        "as_of": TIME,
        "complete_through": TIME,
        "held_back_by": HELD_BACK,
        "periods": mapping(text(16)),
        **more,
        "rows": array(row),
    }
    optional: Schema = {"next": CURSOR, "rows_total": integer(), "others": maybe(record(others or sums))}
    return record(beside, **optional, **(sometimes or {}))
