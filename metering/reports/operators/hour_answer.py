"""The answer about one hour: three figures, and where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Column
from metering.units import HOUR_S

if TYPE_CHECKING:
    from metering.audit.reconcile.hour_check import HourCheck
    from metering.audit.reconcile.one_hour import HourFigures
    from metering.audit.verify.verification import Difference
    from metering.reports.answer import Cell, Json
    from metering.usage.totals import Total

# Differences that an answer lists; all are counted.
LISTED = 100
_FIGURES = ("rows", "usage", "markers")
_COLUMNS = (
    Column(name="hour", kind="time", priority=KEEP),
    Column(name="period", text="copied", about="state of its month"),
    Column(name="published", kind="flag", about="all of its rows are in lake files"),
    *(Column(name=f"{name}_bytes", kind="bytes", priority=KEEP, sized=False) for name in _FIGURES),
    *(Column(name=f"{name}_records", kind="integer") for name in _FIGURES),
    Column(name="agrees", kind="flag", priority=KEEP, about="all figures were compared and are equal"),
)


def hour_answer(figures: HourFigures, *, period: str, as_of_s: int) -> Answer:
    """Put the figures of an hour into one row; in JSON the differences stand beside them.

    Args:
        figures: Of the hour.
        period: State of its month: `open`, `closing` or `closed`.
        as_of_s: When it was asked.
    """
    check, state = figures.check, figures.state
    totals = {
        "rows": state.total if check is None else check.rows,
        "usage": None if check is None else check.usage,
        "markers": None if check is None else check.markers,
    }
    agrees = None if check is None else check.agrees
    row: dict[str, Cell] = {"hour": rfc3339(state.hour_s), "period": period, "published": state.published}
    row |= {f"{name}_bytes": None if total is None else total.bytes for name, total in totals.items()}
    row |= {f"{name}_records": None if total is None else total.records for name, total in totals.items()}
    row["agrees"] = agrees
    document: dict[str, Json] = {
        "hour": rfc3339(state.hour_s),
        "as_of": rfc3339(as_of_s),
        "period": period,
        "published": state.published,
        "compared": check is not None,
        "stable": None if check is None else check.stable,
        **{name: _total(total) for name, total in totals.items()},
        "agrees": agrees,
        "differences_total": 0 if check is None else len(check.differences),
        "differences": [] if check is None else [_difference(each) for each in check.differences[:LISTED]],
    }
    return Answer(
        columns=_COLUMNS,
        rows=[row],
        document=document,
        meta={"as_of": rfc3339(as_of_s)},
        footer=_lines(check),
        commands=(f"metering reconcile --deep --from {rfc3339(state.hour_s)} --to {rfc3339(state.hour_s + HOUR_S)}",),
    )


def _total(total: Total | None) -> dict[str, Json] | None:
    return None if total is None else {"bytes": str(total.bytes), "records": total.records}


def _difference(each: Difference) -> dict[str, Json]:
    key = each.key
    named: dict[str, Json] = {"batch_id": each.batch_id or None}
    named["account_id"] = each.account_id or None if key is None else key.account_id
    named["usage_type"] = None if key is None else key.usage_type
    named["service"] = None if key is None else key.service
    named["from"] = None if key is None else key.from_location
    named["to"] = None if key is None else key.to_location
    named["corrects"] = None if key is None or key.corrects_s is None else rfc3339(key.corrects_s)
    return {
        "between": each.between,
        "odd": each.odd or None,
        **named,
        "expected_bytes": str(each.expected.bytes),
        "expected_records": each.expected.records,
        "found_bytes": str(each.found.bytes),
        "found_records": each.found.records,
    }


def _lines(check: HourCheck | None) -> tuple[str, ...]:
    if check is None:
        return ("The hour is too large to be compared at once; its rows are those that the ledger counts.",)
    if not check.stable:
        return ("The hour kept changing while it was read: a run of the roll-up was booking in it.",)
    return ()
