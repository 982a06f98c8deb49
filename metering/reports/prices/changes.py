"""Answers about what changes: between versions of a price book, and what is wrong with one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.billing.documents.written import hour_text
from metering.billing.prices.difference import Kind
from metering.reports.answer import KEEP, ROOMY, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.billing.prices.difference import Change
    from metering.reports.answer import Json

_CHANGES = (
    Column(name="change", text="copied", priority=KEEP),
    Column(name="subject", text="copied", priority=KEEP),
    Column(name="usage_type", text="copied"),
    Column(name="tier_gb", title="tier in GB", text="copied"),
    Column(name="old", text="prose", priority=KEEP),
    Column(name="new", text="prose", priority=KEEP),
    Column(name="effective", kind="time", priority=ROOMY),
)
_PROBLEMS = (Column(name="problem", text="prose", priority=KEEP),)


def changes_answer(changes: Sequence[Change], *, title: str, meta: Mapping[str, Json]) -> Answer:
    """Every change, a row each."""
    return Answer(
        columns=_CHANGES,
        rows=[
            {
                "change": each.kind.value,
                "subject": each.subject,
                "usage_type": each.usage_type or None,
                "tier_gb": each.tier_gb or None,
                "old": each.old or None,
                "new": each.new or None,
                "effective": None if each.from_s is None else hour_text(each.from_s),
            }
            for each in changes
        ],
        meta=meta,
        title=title,
        empty="Nothing differs.",
        footer=(f"{counted(changes)}.",) if changes else (),
    )


def counted(changes: Sequence[Change]) -> str:
    """Changes in a few words: `3 added, 1 changed`."""
    counts = Counter(each.kind for each in changes)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind if counts[kind]) or "nothing changed"


def problems_answer(problems: Sequence[str], *, title: str, meta: Mapping[str, Json]) -> Answer:
    """Everything that is wrong with documents; no row if nothing is."""
    return Answer(
        columns=_PROBLEMS,
        rows=[{"problem": each} for each in problems],
        meta=meta,
        title=title,
        empty="No problem was found.",
    )
