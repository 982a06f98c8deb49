"""Pages of an answer: an opaque cursor holds the start of the next page and a hash of the query."""

from __future__ import annotations

import base64
import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.api.asking import FINAL_S, KEPT_S, Asked, Reply
from metering.api.parameters import ParameterFault, ProblemError, problem
from metering.reports.time_range import WORDS, InvalidParametersError, ParameterProblem
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from metering.reports.answer import Answer, Cell, Json

_UNCOUNTED = frozenset({"limit", "cursor", "format"})
# The year 6325 is later than any time that a report accepts, and still a valid date.
_MOST_SECONDS = 2**37

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Beginning of a page.

    Attributes:
        after: Key of the previous page's last row; None for the first page.
        fixed: Values that the first page computed and later pages reuse, such as the range of `last=7d`, in seconds.
    """

    after: Key | None = None
    fixed: tuple[int, ...] = ()


def position_of(asked: Asked, accounts: Collection[str], *, fixed: int = 0) -> Position:
    """Start of the requested page.

    Anyone can forge a cursor, so the caller validates its `fixed` numbers like parameters. A cursor is valid only for
    callers that may see the same accounts.

    Raises:
        ProblemError: 422, the cursor is invalid, or belongs to another query.
    """
    text = asked.given.text("cursor")
    if text is None:
        return Position()
    try:
        question, after, numbers = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        position = Position(after=tuple(after), fixed=tuple(numbers))
    except (ValueError, TypeError, RecursionError):
        raise unusable("It is damaged.") from None
    if not _fits(position, fixed):
        raise unusable("It is damaged.")
    if question != _question(asked, accounts):
        raise unusable("It belongs to another question: keep all parameters as they were on the first page.")
    return position


def _fits(position: Position, fixed: int) -> bool:
    numbers = position.fixed
    right = len(numbers) == fixed and all(type(each) is int and 0 <= each <= _MOST_SECONDS for each in numbers)
    return right and all(isinstance(each, str) for each in position.after or ())


def page_of(
    answer: Answer,
    asked: Asked,
    accounts: Collection[str],
    position: Position,
    *,
    key: Sequence[str],
    sort_key: Callable[[Key], Key] = lambda key: key,
    fixed: tuple[int, ...] = (),
    kept_s: int = KEPT_S,
) -> Reply:
    """The requested page of an answer; the whole answer if the request has neither `limit` nor `cursor`.

    Rows are sorted by the columns `key` (as `sort_key` converts them), and no two rows have the same key. The cursor
    passes the numbers `fixed` on to later pages.
    """
    limit = asked.given.number("limit") or (asked.parts.limits.page_rows if asked.given.text("cursor") else None)
    if limit is None:
        return Reply(answer=answer, kept_s=kept_s)
    rows = _after(answer.rows, position.after, key, sort_key)
    page = rows[:limit]
    following: str | None = None
    if len(rows) > limit:
        following = _written(_question(asked, accounts), _names(page[-1], key), fixed)
    meta = {**answer.meta, "next": following}
    return Reply(answer=replace(answer, rows=page, meta=meta), next=following, paged=True, kept_s=kept_s)


def range_of(position: Position, *, whole_hours: bool) -> tuple[int, int]:
    """The range of the first page (from, to), if `fixed` holds a range.

    Raises:
        ProblemError: 422, no page can have had this range.
    """
    from_s, to_s = position.fixed
    if from_s >= to_s or (whole_hours and (from_s % HOUR_S or to_s % HOUR_S)):
        raise unusable("It is damaged.")
    return from_s, to_s


def refuse_pages_of_ranked(asked: Asked) -> None:
    """Refuse pages of rows that are sorted by figures, because a changed figure can move its row to another page.

    Raises:
        InvalidParametersError: A page is requested together with `sort` or `top`.
    """
    given = asked.given
    ranked = [name for name in ("sort", "top") if given.text(name) is not None]
    pages = [name for name in ("limit", "cursor") if given.text(name) is not None]
    if ranked and pages:
        problem = f"cannot stand beside {' and '.join(ranked)}: figures move between pages, and a row with them."
        advice = "Leave one of them out: top gives the first rows at once."
        raise InvalidParametersError(
            [
                ParameterProblem(parameter=name, value=f"{name}={given.text(name)}", problem=problem, advice=advice)
                for name in pages
            ]
        )


def kept_s(asked: Asked, meta: Mapping[str, Json]) -> int:
    """Cache time of an answer; long if all its months are closed and its URL always refers to the same months."""
    periods, given = meta.get("periods"), asked.given
    if given.flag("now"):
        return 0
    closed = isinstance(periods, dict) and bool(periods) and set(periods.values()) == {"closed"}
    moving = given.text("last") or {given.text("from"), given.text("to")} & set(WORDS) or not given.text("from")
    return FINAL_S if closed and not moving and not given.flag("with_corrections") else KEPT_S


def cursor_after(asked: Asked, accounts: Collection[str], after: Key, fixed: tuple[int, ...] = ()) -> str:
    """Cursor of the page that begins after a row, for callers that compute each page anew."""
    return _written(_question(asked, accounts), after, fixed)


def _after(
    rows: Sequence[Mapping[str, Cell]], after: Key | None, key: Sequence[str], sort_key: Callable[[Key], Key]
) -> Sequence[Mapping[str, Cell]]:
    if after is None:
        return rows
    if len(after) != len(key):
        raise unusable("It is damaged.")
    try:
        last = sort_key(after)
    except ValueError:
        raise unusable("It is damaged.") from None
    return rows[bisect_right(rows, last, key=lambda row: sort_key(_names(row, key))) :]


def _names(row: Mapping[str, Cell], key: Sequence[str]) -> Key:
    return tuple(str(row[name]) for name in key)


def _question(asked: Asked, accounts: Collection[str]) -> str:
    given = sorted((name, text) for name, text in asked.given.values.items() if name not in _UNCOUNTED)
    return hashlib.sha256(json.dumps([asked.path, given, sorted(accounts)]).encode()).hexdigest()[:16]


def _written(question: str, after: Key, fixed: tuple[int, ...]) -> str:
    text = json.dumps([question, after, fixed], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unusable(why: str) -> ProblemError:
    """The problem for a cursor that cannot be used."""
    detail = f"The cursor cannot be used. {why}"
    return problem("invalid-cursor", detail, faults=[ParameterFault(parameter="cursor", detail=detail)])
