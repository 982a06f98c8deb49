"""Rules for records (docs/contract.md, the record). Each rule is implemented once, and reports every problem.

The head of a record, its resource id, its bytes and its two times are judged separately, so readers judge a value once
that many records share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from metering.intake.admission import HOUR_US, SECOND_US, Admission
from metering.intake.json_values import readable_number
from metering.intake.records import (
    MAX_HEAD_CHARS,
    AnyRecord,
    ExactRecord,
    Head,
    HeadText,
    Integer,
    LongText,
    Text,
    Undecodable,
    head_of,
    instant_of,
    integer_of,
    is_short,
    kept_head,
)
from metering.intake.work import Problem, Reason, ordered, problem, quoted
from metering.usage.usage_types import (
    CLOUDFRONT,
    CLOUDFRONT_SERVICE,
    EXPLICIT_USAGE_TYPE,
    SERVICE,
    Location,
    classify,
    parse_location,
)

MAX_RESOURCE_ID_CHARS = 512

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Verdict of the rules on a head.

    Attributes:
        usage_type: The record's own usage type, else the table's; empty if there are problems.
        unknown_regions: Regions in `usage_type` without a known billing prefix, whose names replace it.
    """

    problems: tuple[Problem, ...]
    usage_type: str = ""
    unknown_regions: frozenset[str] = frozenset()


def traffic_of(head: Head) -> Traffic:
    """Judge and classify a head, either with its full strings or as stored."""
    head = kept_head(head)
    return _judge_cached(head) if is_short(head) else _judge(head)


def resource_problems(resource_id: Text) -> list[Problem]:
    """Problems of a resource id."""
    if not isinstance(resource_id, str):
        return [_absent("resource_id", Reason.INVALID_RESOURCE_ID, resource_id)]
    if not 1 <= len(resource_id) <= MAX_RESOURCE_ID_CHARS:
        detail = f"{len(resource_id)} characters, not 1 to {MAX_RESOURCE_ID_CHARS}"
        return [problem(Reason.INVALID_RESOURCE_ID, detail)]
    if _CONTROL.search(resource_id) is not None:
        return [problem(Reason.INVALID_RESOURCE_ID, f"control characters: {quoted(resource_id)}")]
    return []


def size_problems(size_bytes: Integer) -> list[Problem]:
    """Problems of a byte count."""
    if not isinstance(size_bytes, int):
        return [_absent("bytes", Reason.INVALID_BYTES, size_bytes)]
    return [] if size_bytes >= 0 else [problem(Reason.INVALID_BYTES, f"{size_bytes} is below 0")]


def time_problems(start_us: Integer, end_us: Integer, *, admission: Admission, sent_at_ms: int) -> list[Problem]:
    """Problems of a record's two times, in themselves and against the admission window at `sent_at_ms`."""
    problems = []
    if not isinstance(start_us, int):
        problems.append(_absent("start", Reason.INVALID_START, start_us))
    else:
        refusal = admission.refusal(start_us // SECOND_US, sent_at_ms)
        if refusal is not None:
            age_s = sent_at_ms // 1000 - start_us // SECOND_US
            problems.append(problem(Reason(refusal), f"start is {age_s} s before the message was sent"))
    if not isinstance(end_us, int):
        problems.append(_absent("end", Reason.INVALID_END, end_us))
    elif isinstance(start_us, int):
        if end_us < start_us:
            problems.append(problem(Reason.END_BEFORE_START, f"by {start_us - end_us} us"))
        elif end_us - start_us > HOUR_US:
            problems.append(problem(Reason.SPANS_OVER_AN_HOUR, f"{(end_us - start_us) // SECOND_US} s"))
    return problems


def record_problems(record: AnyRecord, *, admission: Admission, sent_at_ms: int) -> tuple[Problem, ...]:
    """Every problem of a record, in the order of `Reason`; empty if it is metered."""
    if isinstance(record, ExactRecord) and record.broken is not None:
        return (record.broken[0],)
    return field_problems(
        head_of(record),
        record.resource_id,
        integer_of(record.bytes),
        (instant_of(record.start), instant_of(record.end)),
        admission=admission,
        sent_at_ms=sent_at_ms,
    )


def field_problems(
    head: Head,
    resource_id: Text,
    size_bytes: Integer,
    times_us: tuple[Integer, Integer],
    *,
    admission: Admission,
    sent_at_ms: int,
) -> tuple[Problem, ...]:
    """Every problem of a record's decoded fields, in the order of `Reason`; empty if it is metered."""
    return ordered(
        [
            *traffic_of(head).problems,
            *resource_problems(resource_id),
            *size_problems(size_bytes),
            *time_problems(*times_us, admission=admission, sent_at_ms=sent_at_ms),
        ]
    )


def _judge(head: Head) -> Traffic:
    account_id, service, direction, from_text, to_text, usage_type = head
    problems = [
        *_pattern_problems("account_id", account_id, _ACCOUNT_ID, Reason.INVALID_ACCOUNT_ID, "not 12 digits"),
        *_pattern_problems("service", service, SERVICE, Reason.INVALID_SERVICE, "not 1 to 64 of A-Za-z0-9"),
    ]
    if direction not in ("in", "out"):
        problems.append(_direction_problem(direction))
    if usage_type is not None:
        rule = "not [A-Za-z0-9][A-Za-z0-9:._-]{0,127}"
        problems += _pattern_problems("usage_type", usage_type, EXPLICIT_USAGE_TYPE, Reason.INVALID_USAGE_TYPE, rule)
    from_location = _location("from", from_text, Reason.INVALID_FROM, problems)
    to_location = _location("to", to_text, Reason.INVALID_TO, problems)
    metered = from_location if direction == "out" else to_location if direction == "in" else None
    if metered is not None and not metered.region:
        problems += _edge_problems(metered, head)
    if problems or from_location is None or to_location is None:
        return Traffic(problems=tuple(problems))
    if isinstance(usage_type, str):
        return Traffic(problems=(), usage_type=usage_type)
    classified = classify(str(direction), from_location, to_location)
    return Traffic(problems=(), usage_type=classified.usage_type, unknown_regions=classified.unknown_regions)


def _edge_problems(metered: Location, head: Head) -> list[Problem]:
    """Problems of a metered side that is not a region: only CloudFront's own records may have one, the edge."""
    _, service, direction, _, _, usage_type = head
    if metered.name == CLOUDFRONT and service == CLOUDFRONT_SERVICE:
        # No table maps an edge to a usage type: AWS bills edges by billing areas, which are not locations.
        return [problem(Reason.MISSING_FIELD, "usage_type")] if usage_type is None else []
    detail = f"direction {direction}, and {'from' if direction == 'out' else 'to'} is {metered.name}"
    return [problem(Reason.METERED_SIDE_NOT_A_REGION, detail)]


# The accounts, services and paths of a fleet repeat from batch to batch. The cache takes at most about 20 MB.
_judge_cached = lru_cache(maxsize=16_384)(_judge)


def _pattern_problems(name: str, value: HeadText, pattern: re.Pattern[str], reason: Reason, rule: str) -> list[Problem]:
    if not isinstance(value, str):
        return [_absent(name, reason, value)]
    return [] if pattern.fullmatch(value) else [problem(reason, f"{rule}: {quoted(value)}")]


def _direction_problem(value: HeadText) -> Problem:
    if not isinstance(value, str):
        return _absent("direction", Reason.INVALID_DIRECTION, value)
    return problem(Reason.INVALID_DIRECTION, f"neither in nor out: {quoted(value)}")


def _location(name: str, value: HeadText, reason: Reason, problems: list[Problem]) -> Location | None:
    if not isinstance(value, str):
        problems.append(_absent(name, reason, value))
        return None
    location = parse_location(value)
    if isinstance(location, str):
        problems.append(problem(reason, f"{location}: {quoted(value)}"))
        return None
    return location


def _absent(name: str, reason: Reason, value: Undecodable | LongText | None) -> Problem:
    if value is None:
        return problem(Reason.MISSING_FIELD, name)
    if isinstance(value, LongText):
        begin = f"more than {MAX_HEAD_CHARS} characters" if value.decoded else "not of its type"
        return problem(reason, f"{begin}: {quoted(value.start)}")
    return problem(reason, f"not of its type: {quoted(readable_number(value.json))}")
