"""A book of owners on trial: bytes that each rule takes, rules that take nothing, and what moves against a version."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.billing.owners import UNOWNED
from metering.hours import rfc3339
from metering.onramps.rules.causes import FREE
from metering.reports import answer, usage_answer
from metering.reports.operators.ingest_answer import percent
from metering.reports.who import UNATTRIBUTED
from metering.units import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.owners import Owners
    from metering.reports.who import Entry, WhoQuery

_SHAPE = answer.ListedRows(
    answer.copied("usage_type", priority=answer.KEEP),
    answer.integer("rule", priority=answer.KEEP),
    answer.copied("owner", priority=answer.KEEP),
    answer.sized("bytes", priority=answer.KEEP),
    answer.number("share", about="of the usage type"),
)
_Sums = Counter[tuple[str, str]]
_NOBODY = (UNOWNED, UNATTRIBUTED)


def by_rule(book: Owners) -> Owners:
    """The book, with rules that name their own numbers, from 1 on, as owners."""
    return replace(book, rules=tuple(rule._replace(owner=str(number)) for number, rule in enumerate(book.rules, 1)))


def trial_answer(
    query: WhoQuery,
    tried: Owners,
    in_force: Owners,
    ruled: Iterable[Entry],
    owned: Iterable[Entry],
    *,
    as_of_s: int,
    counted_s: int,
) -> answer.Answer:
    """Bytes of each rule by usage type, `unowned` first, and the bytes by which owners gain or lose.

    Args:
        query: The question, by owner.
        tried: The book on trial.
        in_force: The book that it is compared with.
        ruled: Causes by the number of their rule (`by_rule`).
        owned: The same causes by their owner in force.
        as_of_s: Current time, epoch seconds.
        counted_s: Usage before this time is counted in causes.
    """
    rules = {str(number): rule.owner for number, rule in enumerate(tried.rules, 1)}
    took, before = _sums(ruled), _sums(owned)
    moved: _Sums = Counter()
    types: Counter[str] = Counter()
    for (usage_type, rule), size in took.items():
        moved[usage_type, rules.get(rule, rule)] += size
        types[usage_type] += size
    moved.subtract(before)
    ordered = sorted(types, key=lambda name: (FREE in name, -types[name], name))
    rows = [
        (name, int(rule) if rule in rules else None, rules.get(rule, rule), took[name, rule],
         percent(took[name, rule], types[name]))
        for name in ordered
        for rule in (*_NOBODY, *rules)
        if took[name, rule]
    ]  # fmt: skip
    changed = [(name, owner, moved[name, owner]) for name in ordered for owner in _owners(name, moved)]
    idle = [number for number in rules if not any(took[name, number] for name in types)]
    meta: dict[str, answer.Json] = {
        "query": query.document(),
        "as_of": rfc3339(as_of_s),
        "counted_through": rfc3339(counted_s) if counted_s else None,
        "against": {"version": in_force.version},
        "moved": [{"usage_type": name, "owner": owner, "bytes": str(size)} for name, owner, size in changed],
        "idle": [{"rule": int(number), "owner": rules[number]} for number in idle],
    }
    return _SHAPE.answer(
        rows,
        meta=meta,
        title=usage_answer.title_of("Owners on trial", query.usage, as_of_s),
        empty="No causes are kept of this time.",
        footer=tuple(_lines(ordered, changed, [f"{number} ({rules[number]})" for number in idle], in_force)),
    )


def _sums(entries: Iterable[Entry]) -> _Sums:
    found: _Sums = Counter()
    for values, size, _ in entries:
        found[values["usage_type"], values["owner"]] += size
    return found


def _owners(usage_type: str, moved: Mapping[tuple[str, str], int]) -> list[str]:
    """Owners of a usage type that gain or lose bytes, who gains most first."""
    found = [(-size, owner) for (name, owner), size in moved.items() if name == usage_type and size]
    return [owner for _, owner in sorted(found)]


def _lines(
    types: Iterable[str], changed: Iterable[tuple[str, str, int]], idle: list[str], in_force: Owners
) -> Iterator[str]:
    if idle:
        yield f"Rules that own nothing here: {', '.join(idle)}."
    against = f"version {in_force.version}" if in_force.version else "no book"
    told = {name: [(owner, size) for of, owner, size in changed if of == name] for name in types}
    for name, moves in told.items():
        if moves:
            texts = (f"{owner} {'+' if size > 0 else '-'}{size_text(abs(size))}" for owner, size in moves)
            yield f"Against {against}, of {name}: {'; '.join(texts)}."
    if told and not any(told.values()):
        yield f"Nothing moves against {against}."
