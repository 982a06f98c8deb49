"""Requests and replies of the API, in one form for all resources."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from fastapi import Response

from metering.api.authentication import EVERYONE, Grant, Limits, effective_accounts
from metering.api.parameters import FORMATS, Given, Parameter, ProblemError, problem
from metering.reports import time_range
from metering.reports.answer import Answer, Json, encoded_bytes
from metering.reports.query import ReadBudget, UsageQuery, most_hours, partitions_of
from metering.wiring.answers.usage import hours_to_read, in_short, reads_rows, stored_completeness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.api.parts import ApiParts, Reading
    from metering.audit.freshness import Complete
    from metering.ledger.notes.access import Role
    from metering.wiring.lake import ReadableRegion

KEPT_S = 30
"""How long an answer may be kept that can change at any moment."""
FINAL_S = 86_400
"""How long an answer may be kept that cannot."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An admitted request: the caller's grant, and its parameters.

    Attributes:
        given: Values of the parameters, validated against their declarations.
        now_s: Current time for the whole request, epoch seconds.
        reading: Counts the request's reads, and charges them to the token.
    """

    parts: ApiParts
    grant: Grant
    path: str
    given: Given
    now_s: int
    reading: Reading

    def accounts(self, parameter: str = "account") -> frozenset[str]:
        """The accounts that this request reads; an empty set means all accounts.

        Raises:
            ProblemError: 403, if one of the accounts is not granted.
        """
        return effective_accounts(self.grant, self.given.names(parameter), parameter=parameter)

    @property
    def complete(self) -> Complete:
        """Time up to which counts are complete, in a form for the caller. Read this time before the figures."""
        return self.complete_of(self.parts.regions)

    def complete_of(self, regions: Sequence[ReadableRegion]) -> Complete:
        """Time up to which the counts of some regions are complete."""
        known = stored_completeness(regions)
        return known if self.sees_all else in_short(known)

    def afford(self, query: UsageQuery, budget: ReadBudget | None = None) -> None:
        """Before any read, refuse a query whose answer would exceed the budget; charge an allowed query to the token.

        Raises:
            InvalidParametersError: The answer would cost more than `budget`; None means the budget of the API's limits.
            ProblemError: 429, the token has read too much.
            UnavailableError: A ledger does not respond.
        """
        budget, now_s = budget or self.parts.limits, self.now_s
        problems = budget.of_range(query.from_s, query.to_s, now_s=now_s) or budget.of_query(query, now_s=now_s)
        if problems:
            raise time_range.InvalidParametersError(problems)
        regions = self.parts.regions
        hours = most_hours(query, now_s=now_s)
        if hours and not reads_rows(regions, query, now_s=now_s):
            hours = 0
        read = hours * len(regions)
        if hours > budget.hours:
            # Counting the hours with rows in open months is quick: it lists keys, a few pages per month.
            self.reading.spend(len(list(query.months(now_s=now_s))))
            found = hours_to_read(regions, query, now_s=now_s)
            # An hour counts once for all regions: else a range that each of the regions allows would be refused.
            if problems := budget.of_hours(query, len(set(found))):
                raise time_range.InvalidParametersError(problems)
            read = len(found)
        self.reading.afford(partitions_of(query, now_s=now_s) * len(regions) + read)

    @property
    def sees_all(self) -> bool:
        return self.grant.accounts is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Reply of a resource.

    Attributes:
        answer: The command line's answer. `as_of` and `complete_through` in its `meta` are also sent as headers.
        next: Cursor of the next page; None for the last page, or if the answer has no pages.
        paged: Whether the answer is one page of several, so that its JSON has `next`.
        kept_s: Seconds for which the client may cache the answer; 0 for no caching.
    """

    answer: Answer
    next: str | None = None
    paged: bool = False
    kept_s: int = KEPT_S


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource: its declaration in the OpenAPI document, the roles that may request it, and its handler.

    Attributes:
        name: Name of the operation in the OpenAPI document, and of files with saved answers.
        about: Description of the answer, one or two sentences.
        answer: Answers a request. The function runs in a thread, so it may block.
        final: Returns an id of all inputs if the answer can never change; otherwise None. `final` reads much less than
            `answer`, so a client that already has the answer costs only this read.
        public: Whether requests need no token.
        schema: JSON Schema of the answer's JSON.
    """

    path: str
    name: str
    about: str
    answer: Callable[[Asked], Reply]
    final: Callable[[Asked], str | None] = lambda _asked: None
    parameters: tuple[Parameter, ...] = ()
    roles: frozenset[Role] = EVERYONE
    public: bool = False
    schema: Mapping[str, Json] = field(default_factory=lambda: {"type": "object"})


MEDIA_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_BY_MEDIA_TYPE = {text.partition(";")[0]: form for form, text in MEDIA_TYPES.items()}


def chosen_form(given: str | None, accept: str) -> str:
    """Format of an answer: the parameter `format`, else the first known type of the header Accept, else JSON."""
    if given is not None:
        return given
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept.split(",")[:20]):
        media_type, _, rest = part.partition(";")
        form = _BY_MEDIA_TYPE.get(media_type.strip().lower())
        weight = _weight(rest)
        if form is not None and weight > 0:
            ranked.append((-weight, place, form))
    return min(ranked)[2] if ranked else FORMATS[0]


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name.lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def knows(if_none_match: str, tag: str) -> bool:
    """Whether the header If-None-Match contains this tag."""
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag.removeprefix("W/") in known or "*" in known


def takes_gzip(accept_encoding: str) -> bool:
    """Whether the header Accept-Encoding accepts gzip."""
    for part in accept_encoding.split(","):
        coding, _, rest = part.partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            return _weight(rest) > 0
    return False


# Compressing smaller responses saves no time.
_WORTH_ZIPPING = 1_024
# Fields that differ between two responses with the same data.
_MOVING = frozenset({"as_of"})
_VARY = "Accept, Accept-Encoding, Authorization"


def response_of(
    reply: Reply, *, tag: str, form: str, name: str, query: bytes, headers: Mapping[str, str], limits: Limits
) -> Response:
    """A reply as an HTTP response; 304 without a body if the client already has this answer.

    Raises:
        ProblemError: 422, the answer has more rows or bytes than a response may have.
    """
    answer = reply.answer
    _check_rows(len(answer.rows), form, limits)
    sent = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={reply.kept_s}" if reply.kept_s else "no-store",
        "Vary": _VARY,
        **_metadata(answer),
    }
    if reply.next is not None:
        sent["Link"] = f'<?{_with_cursor(query, reply.next)}>; rel="next"'
    if knows(headers.get("if-none-match", ""), tag):
        return not_modified(tag)
    body = encoded_bytes(answer, form)
    if form != FORMATS[0]:
        sent["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    binary = form == "parquet"
    if len(body) > _WORTH_ZIPPING and not binary and takes_gzip(headers.get("accept-encoding", "")):
        body, binary = gzip.compress(body, compresslevel=6, mtime=0), True
        sent["Content-Encoding"] = "gzip"
    _check_bytes(body, binary=binary, limits=limits)
    return Response(content=body, media_type=MEDIA_TYPES[form], headers=sent)


def not_modified(tag: str) -> Response:
    """The 304 response to a client that already has the answer."""
    return Response(status_code=304, headers={"ETag": tag, "Vary": _VARY})


def entity_tag(reply: Reply, form: str) -> str:
    """Weak ETag over the query, the completeness and the rows, but not over the time of the request."""
    answer = reply.answer
    told = {name: value for name, value in _beside(answer).items() if name not in _MOVING}
    digest = hashlib.sha256(json.dumps([form, reply.next, told], sort_keys=True).encode())
    if answer.document is None:
        names = [column.name for column in answer.columns]
        for row in answer.rows_and_others():
            digest.update(repr([row.get(name) for name in names]).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def final_tag(final: str, asked: Asked, form: str) -> str:
    """Weak ETag of an immutable answer: over the query and all inputs of the answer."""
    values = sorted((name, text) for name, text in asked.given.values.items() if name != "format")
    seen = None if asked.grant.accounts is None else sorted(asked.grant.accounts)
    digest = hashlib.sha256(json.dumps([form, final, values, seen]).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def _beside(answer: Answer) -> Mapping[str, Json]:
    return answer.meta if answer.document is None else answer.document


def _metadata(answer: Answer) -> dict[str, str]:
    """Headers for the `meta` members that CSV and Parquet lack."""
    meta = _beside(answer)
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
    """Size of a body within the JSON that a Lambda function returns: binary as base64, text with escapes."""
    if binary:
        return -(-len(body) // 3) * 4
    return len(body) + sum(body.count(each) for each in (b'"', b"\\", b"\n"))


def too_large(detail: str, more: str) -> ProblemError:
    """The problem of an answer that is too large for a response; answers are never truncated."""
    return problem(
        "answer-too-large",
        f"{detail} Ways out: {more}group by fewer columns, ask for a shorter range, or read the lake with SQL: "
        "metering query.",
    )
