"""Answers as responses: the form that was asked for, headers, validators, and the size that a response may have."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from fastapi import Response

from metering.api.problems import ProblemError
from metering.api.replies.negotiation import MEDIA_TYPES, knows, takes_gzip
from metering.api.vocabulary import FORMATS
from metering.reports.encodings import encoded_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.api.asking import Reply
    from metering.api.limits import Limits

_FINAL_S = 86_400
# Smaller answers are as quick without.
_WORTH_ZIPPING = 1_024
# Fields that differ from one request to the next, though nothing has changed.
_MOVING = frozenset({"as_of"})
# Fields that say how complete figures are; a closed month is complete for ever.
_COMPLETENESS = frozenset({"complete_through", "held_back_by"})


def response_of(
    reply: Reply, *, form: str, name: str, query: bytes, headers: Mapping[str, str], limits: Limits
) -> Response:
    """A reply as a response; 304 without a body, if the asker has it already.

    Args:
        reply: What the resource replies.
        form: `json`, `ndjson`, `csv` or `parquet`.
        name: What a file of it is called, without its suffix.
        query: Query of the URL, for the link to the next page.
        headers: Headers of the request, names in small letters.
        limits: How large an answer may be.

    Raises:
        ProblemError: 422, the answer has more rows or bytes than a response may have.
    """
    answer = reply.answer
    _check_rows(len(answer.rows), form, limits)
    tag = entity_tag(reply, form)
    sent = {
        "ETag": tag,
        "Cache-Control": _kept(reply),
        "Vary": "Accept, Accept-Encoding, Authorization",
        **_metadata(answer.meta),
    }
    if reply.next is not None:
        sent["Link"] = f'<?{_with_cursor(query, reply.next)}>; rel="next"'
    if knows(headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=sent)
    body = encoded_bytes(answer, form)
    if form != FORMATS[0]:
        sent["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    binary = form == "parquet"
    if len(body) > _WORTH_ZIPPING and not binary and takes_gzip(headers.get("accept-encoding", "")):
        body, binary = gzip.compress(body, compresslevel=6, mtime=0), True
        sent["Content-Encoding"] = "gzip"
    _check_bytes(body, binary=binary, limits=limits)
    return Response(content=body, media_type=MEDIA_TYPES[form], headers=sent)


def _kept(reply: Reply) -> str:
    kept_s = _FINAL_S if reply.final else reply.kept_s
    return f"private, max-age={kept_s}" if kept_s else "no-store"


def entity_tag(reply: Reply, form: str) -> str:
    """Weak validator over the question, how complete the figures are, and the rows; not over the time of asking."""
    answer = reply.answer
    left_out = _MOVING | _COMPLETENESS if reply.final else _MOVING
    beside = answer.meta if answer.document is None else answer.document
    told = {name: value for name, value in beside.items() if name not in left_out}
    digest = hashlib.sha256(json.dumps([form, reply.next, told], sort_keys=True).encode())
    if answer.document is None:
        names = [column.name for column in answer.columns]
        for row in answer.rows_and_others():
            digest.update(repr([row.get(name) for name in names]).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def _metadata(meta: Mapping[str, object]) -> dict[str, str]:
    """What CSV and Parquet have no place for."""
    names = {"as_of": "Metering-As-Of", "complete_through": "Metering-Complete-Through"}
    return {header: str(meta[name]) for name, header in names.items() if name in meta}


def _with_cursor(query: bytes, cursor: str) -> str:
    pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True)
    return urlencode([*((name, value) for name, value in pairs if name != "cursor"), ("cursor", cursor)], safe=",:")


def _check_rows(rows: int, form: str, limits: Limits) -> None:
    most = limits.json_rows if form == FORMATS[0] else limits.table_rows
    if rows > most:
        pages = "ask for pages with limit=, " if form == FORMATS[0] else ""
        raise too_large(f"The answer has {rows:,} rows, and {most:,} are the most in this form.", pages)


def _check_bytes(body: bytes, *, binary: bool, limits: Limits) -> None:
    if _payload_bytes(body, binary=binary) > limits.answer_bytes:
        size = f"{len(body):,} bytes"
        raise too_large(f"The answer has {size} after compression, and {limits.answer_bytes:,} are the most.", "")


def _payload_bytes(body: bytes, *, binary: bool) -> int:
    """Size of a body in the JSON that a function hands over: binary as base64, text with escapes."""
    if binary:
        return -(-len(body) // 3) * 4
    return len(body) + sum(body.count(each) for each in (b'"', b"\\", b"\n"))


def too_large(detail: str, more: str) -> ProblemError:
    """The problem of an answer that is larger than a response; nothing is ever cut off."""
    return ProblemError(
        kind="answer-too-large",
        status=422,
        title="The answer is too large",
        detail=f"{detail} Ways out: {more}group by fewer columns, ask for a shorter range, or read the lake with SQL: "
        "metering query.",
    )
