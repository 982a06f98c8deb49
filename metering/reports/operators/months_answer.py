"""Answers about billing months: their list, the frozen totals of one, and the checklist of a close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import month_bounds_s, rfc3339
from metering.lake.ports import rows_of_days
from metering.reports.answer import KEEP, ROOMY, Answer, Column
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.reports.usage_rows import summed, values_of
from metering.units import counted, exact_and_size
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.closing.checklist import Checklist
    from metering.billing.closing.closer import MonthState
    from metering.lake.ports import FrozenReader
    from metering.ledger.frozen_months import FrozenMonth
    from metering.reports.query import GroupColumn
    from metering.reports.source import ReportSource
    from metering.reports.usage_rows import Values
    from metering.usage.totals import UsageKey

_CHECK_COLUMNS = (
    Column(name="check", text="copied", priority=KEEP),
    Column(name="state", text="copied", priority=KEEP),
    Column(name="value", text="prose", priority=KEEP),
    Column(name="todo", title="to do", text="copied", priority=KEEP),
)


def frozen_answer(
    frozen: FrozenMonth | None, reader: FrozenReader, *, month: str, state: str, group_by: Sequence[GroupColumn]
) -> Answer:
    """The frozen totals of a month by some columns; no rows while it is not closed."""
    corrections = ZERO

    def entries(closed: FrozenMonth) -> Iterator[tuple[Values, Total]]:
        nonlocal corrections
        for key, entry in _usage(closed, reader, by_hour="hour" in group_by):
            if key.corrects_s is not None:
                corrections = corrections.plus(entry)
            yield values_of(key, group_by), entry

    rows = [] if frozen is None else summed(entries(frozen))
    total = ZERO if frozen is None else frozen.total
    return Answer(
        columns=(
            *(Column(name=name, text="copied", priority=KEEP) for name in group_by),
            Column(name="bytes", kind="bytes", priority=KEEP),
        ),
        rows=[{**dict(zip(group_by, row.values, strict=True)), "bytes": row.total.bytes} for row in rows],
        meta={
            "month": month,
            "state": state,
            "records": total.records,
            "bytes": str(total.bytes),
            "hours": 0 if frozen is None else len(frozen.hours),
            "files": 0 if frozen is None else sum(len(hour.files) for hour in frozen.hours),
            "corrections": {"records": corrections.records, "bytes": str(corrections.bytes)},
        },
        title=f"{month} is {state}",
        empty="No frozen totals.",
        footer=(
            f"{exact_and_size(total.bytes)} in {counted(total.records, 'record')}.",
            *([f"{corrections.records:,} of them correct earlier months."] if corrections.records else []),
        ),
    )


def months_answer(
    months: Sequence[MonthState],
    *,
    closed_by: Mapping[str, str],
    corrections: Mapping[str, Total] | None = None,
) -> Answer:
    """The list of months, the newest first.

    Args:
        months: The months.
        closed_by: Who closed a month, where the audit trail says it.
        corrections: Rows that were booked later for each closed month; None if nobody asked.
    """
    columns = [
        Column(name="month", text="copied", priority=KEEP),
        Column(name="state", text="copied", priority=KEEP),
        Column(name="bytes", kind="bytes"),
        Column(name="records", kind="integer"),
        Column(name="closed", kind="time"),
        Column(name="closed_by", title="by", text="copied", priority=ROOMY),
    ]
    if corrections is not None:
        columns += [
            Column(name="corrections_bytes", kind="bytes", title="corrections since"),
            Column(name="corrections_records", kind="integer", title="records"),
        ]
    later = corrections or {}
    return Answer(
        columns=tuple(columns),
        rows=[
            {
                "month": each.month,
                "state": each.state,
                "bytes": None if each.total is None else each.total.bytes,
                "records": None if each.total is None else each.total.records,
                "closed": None if each.closed_s is None else rfc3339(each.closed_s),
                "closed_by": closed_by.get(each.month),
                "corrections_bytes": None if each.total is None else later.get(each.month, ZERO).bytes,
                "corrections_records": None if each.total is None else later.get(each.month, ZERO).records,
            }
            for each in months
        ],
        title="Billing months",
        empty="No month has usage yet.",
        footer=("Totals of a month that is not closed: metering report usage --from MONTH",),
    )


def corrections_since(sources: Sequence[ReportSource], months: Sequence[str], *, now_s: int) -> dict[str, Total]:
    """Rows that were booked after each of these months for hours in it.

    Raises:
        UnavailableError: An hour could not be read.
    """
    if not months:
        return {}
    first_s, after_s = month_bounds_s(min(months))[0], month_bounds_s(max(months))[1]
    query = UsageQuery(from_s=first_s, to_s=after_s, group_by=("corrects",), with_corrections=True)
    found: dict[str, Total] = {}
    for row in report_rows(sources, query, now_s=now_s):
        month = row.values[0][:7]
        if month in months:
            found[month] = found.get(month, ZERO).plus(row.total)
    return found


def checklist_answer(checklist: Checklist, *, accepted: frozenset[str] = frozenset()) -> Answer:
    """The checklist of a close: what blocks it, what asks for attention, and what to do."""
    closable = not checklist.blocking(accepted)
    return Answer(
        columns=_CHECK_COLUMNS,
        rows=[
            {
                "check": check.name,
                "state": "accepted" if check.state == "blocks" and check.name in accepted else check.state.value,
                "value": check.value,
                "todo": check.todo,
            }
            for check in checklist.checks
        ],
        meta={"month": checklist.month, "closable": closable},
        title=f"{checklist.month} can be closed" if closable else f"{checklist.month} cannot be closed now",
    )


def _usage(closed: FrozenMonth, reader: FrozenReader, *, by_hour: bool) -> Iterator[tuple[UsageKey, Total]]:
    if not by_hour:
        yield from rows_of_days(reader.days(closed))
        return
    for hour in closed.hours:
        yield from reader.hour(closed, hour.hour_s)
