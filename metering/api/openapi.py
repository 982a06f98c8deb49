"""The OpenAPI document, generated from the declarations that also validate requests, so that both always agree."""

import json
from collections.abc import Iterable, Mapping

from metering.api.asking import MEDIA_TYPES, Resource
from metering.api.parameters import MEDIA_TYPE, Parameter
from metering.reports.answer import Json

Schema = dict[str, Json]

_MOST_ITEMS = 100_000
_INT64 = 2**63 - 1


def text(most: int = 512) -> Schema:
    """A string with a maximum length."""
    return {"type": "string", "maxLength": most}


def integer(least: int = 0) -> Schema:
    """An integer that JSON can hold exactly."""
    return {"type": "integer", "minimum": least, "maximum": _INT64}


def each(schema: Schema, names: str) -> Schema:
    """Fields with these names, separated by spaces, that share a schema."""
    return dict.fromkeys(names.split(), schema)


def array(items: Schema, most: int = _MOST_ITEMS) -> Schema:
    """A list with a maximum length."""
    return {"type": "array", "items": items, "maxItems": most}


def record(required: Schema, **optional: Json) -> Schema:
    """An object with required and optional fields."""
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def mapping(values: Schema) -> Schema:
    """An object whose member names vary with the data."""
    return {"type": "object", "additionalProperties": values}


def maybe(schema: Schema) -> Schema:
    """The same or null."""
    return {"anyOf": [schema, {"type": "null"}]}


FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "maxLength": 40}
# Exact totals are decimal strings, because JSON numbers are inexact in some languages. A repair can be negative.
BYTES: Schema = {"type": "string", "pattern": "^-?[0-9]{1,60}$", "maxLength": 61}
MONEY: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,60}(?:\.[0-9]{1,60})?$", "maxLength": 122}
ACCOUNT: Schema = {"type": "string", "pattern": "^[0-9]{12}$", "maxLength": 12}
HELD_BACK: Schema = array(record({"what": text(), "since": maybe(TIME), "cure": text()}), 1_000)
CURSOR: Schema = maybe(text(4_096))
# A count that can be negative after some repairs, unlike other counts.
DELTA: Schema = integer(-(2**63))
REGION: Schema = {"region": text(64)}

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


def figures(
    sums: Schema,
    others: Schema | None = None,
    *,
    beside_sums: Schema | None = None,
    sometimes: Schema | None = None,
    **more: Json,
) -> Schema:
    """Schema of an answer with totals: the query, the completeness, and rows with the grouping columns.

    Args:
        sums: Columns with figures, which every row has.
        others: Fields of the row that sums the remaining rows.
        beside_sums: Further optional columns with figures.
        sometimes: Further optional fields of the answer.
        more: Further required fields of the answer.
    """
    some = beside_sums or {}
    row = record(sums, **_NAMES, **_DETAILS, **some)
    beside: Schema = {
        "query": _ASKED,
        "as_of": TIME,
        "complete_through": TIME,
        "held_back_by": HELD_BACK,
        "periods": mapping(text(16)),
        **more,
        "rows": array(row),
    }
    optional: Schema = {"next": CURSOR, "rows_total": integer(), "others": maybe(record(others or sums, **some))}
    return record(beside, **optional, **(sometimes or {}))


PATH = "/openapi.json"
_ABOUT = """\
Exact data-transfer usage, and what it costs. Read only. Times are UTC; `from` is included and `to` is not. Byte totals
are decimal strings; GB is 2^30 bytes. Unknown parameters are refused. An answer is never cut off: it is whole, or a
page that names the next one, or refused. Status 400: the request is not as this document says. Status 422: it is, and
makes no sense."""
_SCHEME = "token"
_PROBLEMS: dict[int, str] = {
    400: "The request is not as this document says: every problem at once.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "The token's role or accounts do not see this, or it would tell what other accounts use.",
    404: "There is no such thing, or the token does not see it.",
    422: "The request makes no sense, or asks too much: every problem at once, and the ways out.",
    429: "This token asks too often, or for too much at once; the header Retry-After says when to ask again.",
    503: "A store gave no answer in time; the header Retry-After says when to ask again.",
}
_PUBLIC_PROBLEMS = (400, 503)


def document_of(resources: Iterable[Resource], *, version: str) -> dict[str, Json]:
    """The OpenAPI document of these resources, with the paths in the order of the resources."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "metering",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {each.path: {"get": _operation(each)} for each in resources} | {PATH: {"get": _own_operation()}},
        "components": {
            "securitySchemes": {
                _SCHEME: {"type": "http", "scheme": "bearer", "description": "Made with `metering token create`."}
            },
            "schemas": {"Problem": _problem_schema()},
        },
    }


def document_bytes(resources: Iterable[Resource], *, version: str) -> bytes:
    """The OpenAPI document in the form in which it is served."""
    return (json.dumps(document_of(resources, version=version), indent=2) + "\n").encode()


def _operation(resource: Resource) -> dict[str, Json]:
    responses = _public_responses(resource) if resource.public else _responses(resource)
    told: dict[str, Json] = {
        "operationId": resource.name,
        "summary": resource.about.partition(". ")[0].rstrip("."),
        "description": _description(resource),
        "parameters": [_parameter(each) for each in resource.parameters],
        "responses": responses,
    }
    return told | ({"security": []} if resource.public else {"security": [{_SCHEME: []}]})


def _description(resource: Resource) -> str:
    if resource.public:
        return f"{resource.about} Anyone may ask."
    return f"{resource.about} For tokens of the roles: {', '.join(sorted(resource.roles))}."


def _parameter(declared: Parameter) -> dict[str, Json]:
    told: dict[str, Json] = {
        "name": declared.name,
        "in": declared.place,
        "description": declared.about,
        "required": declared.required or declared.place == "path",
        "schema": declared.schema(),
    }
    if declared.example:
        told["example"] = int(declared.example) if declared.kind == "integer" else declared.example
    return told


def _responses(resource: Resource) -> dict[str, Json]:
    several = any(each.name == "format" for each in resource.parameters)
    content: dict[str, Json] = {MEDIA_TYPES["json"]: {"schema": dict(resource.schema)}}
    if several:
        content |= {MEDIA_TYPES[form].partition(";")[0]: {"schema": {}} for form in ("ndjson", "csv", "parquet")}
    return {
        "200": {"description": "The answer.", "headers": _headers(), "content": content},
        "304": {"description": "Nothing has changed since the answer with that ETag."},
        **{str(status): _problem(about) for status, about in _PROBLEMS.items()},
    }


def _public_responses(resource: Resource) -> dict[str, Json]:
    content: Json = {MEDIA_TYPES["json"]: {"schema": dict(resource.schema)}}
    return {
        "200": {"description": "The answer.", "content": content},
        **{str(status): _problem(_PROBLEMS[status]) for status in _PUBLIC_PROBLEMS},
    }


def _own_operation() -> dict[str, Json]:
    content: Json = {MEDIA_TYPES["json"]: {"schema": {"type": "object"}}}
    return {
        "operationId": "document",
        "summary": "This document",
        "description": "This document. Anyone may ask.",
        "parameters": [],
        "responses": {"200": {"description": "The document.", "content": content}, "400": _problem(_PROBLEMS[400])},
        "security": [],
    }


def _headers() -> dict[str, Json]:
    about: Mapping[str, str] = {
        "ETag": "Weak validator of the figures, for If-None-Match.",
        "Metering-As-Of": "When it was asked, where the answer says it.",
        "Metering-Complete-Through": "Up to when everything that was sent is counted, where the answer says it.",
        "Metering-Role": "Role of the token.",
        "Link": "The next page, with rel=next.",
    }
    return {name: {"description": words, "schema": text(8_192)} for name, words in about.items()}


def _problem(about: str) -> dict[str, Json]:
    return {"description": about, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _problem_schema() -> dict[str, Json]:
    return record(
        {
            "type": {"type": "string", "pattern": "^urn:metering:problem:[a-z-]{1,64}$", "maxLength": 128},
            "title": text(128),
            "status": integer(400),
            "detail": text(65_536),
        },
        errors=array(record({"parameter": text(128), "detail": text(2_048)}), 200),
    )
