"""The answer of `metering compare`: rows, separate totals, and everything that was left out of them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import parse_hour, rfc3339
from metering.onramps.bill_lines import LineKey, Wanted
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Json, RowType, copied, exact, integer, money, prose
from metering.reports.query import UsageQuery
from metering.reports.source import ReportSource, report_rows
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.ledger.notes.money import BillCheckState, ComparedMonth
    from metering.onramps.bill import Bill, ComparedRow, Comparison, Named, Tolerance


_HOUR_LABEL_CHARS = len("2026-11-24T13")


def metered_bytes(
    sources: Iterable[ReportSource], wanted: Wanted, *, accounts: frozenset[str], range_s: tuple[int, int], now_s: int
) -> dict[LineKey, int]:
    """Bytes by account, usage type and day or month, over the hours that begin in a half-open range.

    Late usage counts in the hour of use, as in AWS's bills.

    Raises:
        UnavailableError: An hour could not be read.
    """
    from_s, to_s = range_s
    query = UsageQuery(
        from_s=from_s,
        to_s=to_s,
        group_by=("account_id", "usage_type", "day", "corrects"),
        accounts=accounts,
        with_corrections=True,
    )
    found: dict[LineKey, int] = {}
    for row in report_rows(sources, query, now_s=now_s):
        account_id, usage_type, day, corrects = row.values
        moment_s = parse_hour(corrects[:_HOUR_LABEL_CHARS]) if corrects else parse_hour(f"{day}T00")
        # A correction booked in the range may correct an hour before the range.
        if not corrects or from_s <= moment_s < to_s:
            key = LineKey(account_id, usage_type, wanted.period_of(moment_s))
            found[key] = found.get(key, 0) + row.total.bytes
    return found


_DIFFERENCE = "a difference: the account has it on one side only"
_TOLD = 8


def named_values(found: Comparison, bill: Bill) -> dict[str, Json]:
    """Fields of the JSON answer, with each list sorted by usage type."""
    billed_only, metered_only = found.one_sided
    apart = {name: each.bytes for name, each in found.billed_apart.items()}
    return {
        "billed_only": [
            {
                "usage_type": name,
                "bytes": str(size),
                "usd": _usd(bill, name),
                "why": found.billed_apart[name].why if name in apart else _DIFFERENCE,
            }
            for name, size in sorted({**billed_only, **apart}.items())
        ],
        "metered_here_only": [
            {"usage_type": name, "bytes": str(size), "usd": None} for name, size in sorted(metered_only.items())
        ],
        "left_out_usage_types": [
            {"usage_type": name, "lines": each.lines, "usd": _text(each.usd)}
            for name, each in sorted(bill.no_transfer.items())
        ],
    }


def named_sentences(found: Comparison, bill: Bill) -> Iterator[str]:
    """The same for people."""
    by_why: dict[str, list[str]] = {}
    for name, each in sorted(found.billed_apart.items()):
        by_why.setdefault(each.why, []).append(_billed(name, each.bytes, bill))
    for why, names in by_why.items():
        yield f"Billed there only, and no difference: {', '.join(names)}. That is {why}."
    billed_only, metered_only = found.one_sided
    if billed_only:
        names = [_billed(name, size, bill) for name, size in sorted(billed_only.items())]
        yield f"Billed there only, a difference: {', '.join(names)}."
    if metered_only:
        names = [f"{name} {exact_and_size(size)}" for name, size in sorted(metered_only.items())]
        yield f"Metered here only, a difference: {', '.join(names)}. No line of the bill says what it would cost."
    if left_out := bill.no_transfer:
        yield f"No data transfer, by usage type: {_left_out(left_out)}."


def _left_out(sums: Mapping[str, Named]) -> str:
    dearest = sorted(sums.items(), key=lambda each: (-abs(each[1].usd or Decimal(0)), each[0]))
    told = [
        f"{name} ({each.lines:,} line{'s' if each.lines > 1 else ''}{_money(each.usd)})"
        for name, each in dearest[:_TOLD]
    ]
    more = len(dearest) - _TOLD
    return ", ".join(told) + (f", and {more:,} more (--format json has all)" if more > 0 else "")


def _billed(name: str, size: int, bill: Bill) -> str:
    named = bill.compared.get(name)
    return f"{name} {exact_and_size(size)}{_money(None if named is None else named.usd)}"


def _money(usd: Decimal | None) -> str:
    return "" if usd is None else f", {usd:f} USD"


def _usd(bill: Bill, name: str) -> str | None:
    named = bill.compared.get(name)
    return None if named is None else _text(named.usd)


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A comparison query: `top`, the number of largest differences to list, and `ignored`, files that are not bills."""

    wanted: Wanted
    range_s: tuple[int, int]
    as_of_s: int
    regions: Sequence[str]
    top: int | None = None
    ignored: int = 0


def comparison_answer(found: Comparison, bill: Bill, asked: Asked) -> Answer:
    """Convert a comparison to an `Answer`."""
    rows, others = _cut(found.rows, asked.top)
    return _columns(asked).answer(
        rows,
        meta=_meta(found, bill, asked, rows_total=len(found.rows)),
        title="Billed and metered",
        footer=tuple(_footer(found, bill)),
        others=_sum(others, asked) if others else None,
        empty="No line of the bill and nothing metered is left to compare.",
    )


_SHOWN = 5


class _LastRow(NamedTuple):
    """A month of an export, with the last comparison."""

    export: str
    month: str
    found: ComparedMonth


def bill_checks_answer(checks: Sequence[BillCheckState]) -> Answer:
    """The last comparison of each month of each export, with the largest differences."""
    rows = [_LastRow(check.export, month, found) for check in checks for month, found in sorted(check.months.items())]
    columns: RowType[_LastRow] = RowType(
        copied("export", priority=ROOMY),
        copied("month", priority=KEEP),
        copied("state", of=lambda it: it.found.state.value, priority=KEEP),
        copied("from", of=lambda it: it.found.from_day),
        copied("to", of=lambda it: it.found.to_day),
        exact("billed_bytes", of=lambda it: it.found.billed, title="billed", priority=ROOMY),
        exact("metered_bytes", of=lambda it: it.found.metered, title="metered", priority=ROOMY),
        integer("rows", of=lambda it: it.found.rows),
        integer("beyond", of=lambda it: it.found.beyond, priority=KEEP),
        prose("why", of=lambda it: it.found.why),
    )
    return columns.answer(
        rows,
        meta={"exports": [_look(check) for check in checks]},
        title="The last comparison with AWS's own bill",
        footer=tuple(line for check in checks for line in _last_lines(check)),
        empty="No export of a bill was compared yet. The setting bill_exports names one.",
    )


def _look(check: BillCheckState) -> Json:
    return {
        "export": check.export,
        "state": check.state.value,
        "why": check.why,
        "looked_at": rfc3339(check.looked_s),
        "compared_at": rfc3339(check.compared_s) if check.compared_s else None,
        "differences": [
            {**each._asdict(), "billed": str(each.billed), "metered": str(each.metered)}
            for found in check.months.values()
            for each in found.differences
        ],
    }


def _last_lines(check: BillCheckState) -> Iterator[str]:
    yield f"{check.export}, looked at {rfc3339(check.looked_s)}: {check.state.value}. {check.why}".rstrip()
    for found in check.months.values():
        for each in found.differences[:_SHOWN]:
            yield (
                f"{each.day} {each.account_id} {each.usage_type}: billed {exact_and_size(each.billed)}, metered "
                f"{exact_and_size(each.metered)}."
            )


def _columns(asked: Asked) -> RowType[ComparedRow]:
    return RowType(
        copied("account_id", of=lambda it: it.key.account_id, title="account", priority=KEEP),
        copied("usage_type", of=lambda it: it.key.usage_type, title="usage type", priority=KEEP),
        copied(asked.wanted.by, of=lambda it: it.key.period, priority=KEEP),
        exact("billed_bytes", of=lambda it: it.billed, title="billed", priority=ROOMY),
        exact("metered_bytes", of=lambda it: it.metered, title="metered", priority=ROOMY),
        exact("difference_bytes", of=lambda it: it.difference, title="difference", priority=KEEP),
        money("difference_percent", of=lambda it: it.percent, title="percent", about="of what was billed"),
    )


def _cut(rows: Sequence[ComparedRow], top: int | None) -> tuple[Sequence[ComparedRow], Sequence[ComparedRow]]:
    if top is None or top >= len(rows):
        return rows, ()
    ordered = sorted(rows, key=lambda row: (-abs(row.difference), row.key))
    return ordered[:top], ordered[top:]


def _sum(rows: Sequence[ComparedRow], asked: Asked) -> dict[str, Cell]:
    billed, metered = sum(row.billed for row in rows), sum(row.metered for row in rows)
    return {
        "account_id": f"{len(rows):,} others",
        "usage_type": None,
        asked.wanted.by: None,
        "billed_bytes": billed,
        "metered_bytes": metered,
        "difference_bytes": metered - billed,
        "difference_percent": None,
    }


def _meta(found: Comparison, bill: Bill, asked: Asked, *, rows_total: int) -> dict[str, Json]:
    return {
        "as_of": rfc3339(asked.as_of_s),
        "from": rfc3339(asked.range_s[0]),
        "to": rfc3339(asked.range_s[1]),
        "regions": sorted(asked.regions),
        "exports": sorted(bill.names),
        "lines": bill.read,
        "compared": bill.lines,
        "negative": bill.negative,
        "left_out": {reason.name.lower(): count for reason, count in sorted(bill.left_out.items())},
        "broken": {what.name.lower(): count for what, count in sorted(bill.broken.items())},
        "ignored_files": asked.ignored,
        "rounding_bytes": f"{bill.rounding:f}",
        "billed_bytes": str(found.billed),
        "metered_bytes": str(found.metered),
        "difference_bytes": str(found.metered - found.billed),
        "metered_only": _texts(found.apart),
        "own_usage_types": _texts(found.own),
        **named_values(found, bill),
        "tolerance": None if found.tolerance is None else _tolerance(found.tolerance),
        "rows_total": rows_total,
        "beyond": found.beyond,
    }


def _texts(sizes: Mapping[str, int]) -> dict[str, Json]:
    return {name: str(size) for name, size in sorted(sizes.items())}


def _tolerance(tolerance: Tolerance) -> dict[str, Json]:
    percent = None if tolerance.percent is None else f"{tolerance.percent:f}"
    return {"bytes": None if tolerance.bytes is None else str(tolerance.bytes), "percent": percent}


def _footer(found: Comparison, bill: Bill) -> list[str]:
    told = [
        f"Billed {exact_and_size(found.billed)}, metered {exact_and_size(found.metered)}; metered less billed is "
        f"{exact_and_size(found.metered - found.billed)}.",
        f"Lines of the bill: {bill.read:,}. Compared: {bill.lines:,}"
        + (f", of which {bill.negative:,} take bytes back." if bill.negative else "."),
        *(f"Left out: {count:,} {reason.value}." for reason, count in sorted(bill.left_out.items())),
        "A bill counts GB of 2^30 bytes with 10 decimals, a tenth of a byte: each line is rounded to whole bytes. "
        f"That moves the sum by {bill.rounding:.3f} bytes.",
    ]
    told += named_sentences(found, bill)
    if found.apart:
        told.append(f"No bill shows, and no difference is: {_listed(found.apart)}.")
    if found.own:
        told.append(f"Metered under usage types that are none of AWS's: {_listed(found.own)}.")
    return told


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {exact_and_size(size)}" for name, size in sorted(sizes.items()))
