"""The exports of AWS in which a bill can come, by the names of their columns.

Sources: the column lists of CUR 2.0 and of the older CUR in AWS's "Data Exports" and "Cost and Usage Reports" guides,
and FOCUS 1.0 to 1.2 with the `x_` columns that AWS adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The columns of a kind of export. Where there are several, the first that the file has counts.

    Attributes:
        name: What people call it.
        account: The account that used it.
        usage_type: AWS's usage type.
        start: Start of the time that a line is about.
        end: Its end; a file may lack it.
        category: What kind of charge a line is.
        usage: The kinds that are usage, in lower case. All others are money about usage that stands in another line.
        cost: What the line costs, in USD; a file may lack it.
        amounts: Pairs of a quantity and its unit, the better one first. A file may lack the unit.
    """

    name: str
    account: tuple[str, ...]
    usage_type: tuple[str, ...]
    start: tuple[str, ...]
    end: tuple[str, ...]
    category: tuple[str, ...]
    usage: frozenset[str]
    cost: tuple[str, ...]
    amounts: tuple[tuple[str, str], ...]

    @property
    def needed(self) -> tuple[tuple[str, ...], ...]:
        """Columns without which nothing can be compared, each with those that may stand for it."""
        return (self.account, self.usage_type, self.start, self.category, tuple(amount for amount, _ in self.amounts))


_CUR_USAGE = frozenset({"usage", "discountedusage", "savingsplancoveredusage"})
DIALECTS = (
    Dialect(
        name="CUR 2.0",
        account=("line_item_usage_account_id",),
        usage_type=("line_item_usage_type",),
        start=("line_item_usage_start_date",),
        end=("line_item_usage_end_date",),
        category=("line_item_line_item_type",),
        usage=_CUR_USAGE,
        cost=("line_item_unblended_cost",),
        amounts=(("line_item_usage_amount", "pricing_unit"),),
    ),
    Dialect(
        name="FOCUS",
        account=("SubAccountId",),
        usage_type=("x_UsageType", "SkuMeter"),
        start=("ChargePeriodStart",),
        end=("ChargePeriodEnd",),
        category=("ChargeCategory",),
        usage=frozenset({"usage"}),
        cost=("BilledCost",),
        amounts=(("ConsumedQuantity", "ConsumedUnit"), ("PricingQuantity", "PricingUnit")),
    ),
    Dialect(
        name="CUR (legacy)",
        account=("lineItem/UsageAccountId",),
        usage_type=("lineItem/UsageType",),
        start=("lineItem/UsageStartDate",),
        end=("lineItem/UsageEndDate",),
        category=("lineItem/LineItemType",),
        usage=_CUR_USAGE,
        cost=("lineItem/UnblendedCost",),
        amounts=(("lineItem/UsageAmount", "pricing/unit"),),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The columns of one file.

    Attributes:
        dialect: Its kind.
        columns: Their names in the file, in the order account, usage type, start, end, category, cost, and the
            pairs of amounts. Empty where the file has none.
    """

    dialect: Dialect
    columns: tuple[str, ...]


def chosen(columns: Sequence[str], where: str) -> Chosen:
    """Recognise a file by its columns. Athena writes their names in lower case, so case says nothing.

    Raises:
        OperationFailedError: It is no export that is known, or lacks a column; says which, with the nearest.
    """
    there = {name.strip().lower(): name for name in columns}
    dialect = max(DIALECTS, key=lambda each: sum(_first(names, there) != "" for names in each.needed))
    missing = [" or ".join(names) for names in dialect.needed if not _first(names, there)]
    if len(missing) == len(dialect.needed):
        raise OperationFailedError(
            f"{where} is no bill that is known: its columns are neither those of CUR 2.0, of the older CUR, nor of "
            f"FOCUS. It begins with {', '.join(columns[:4]) or 'nothing'}.",
            "Name an export of AWS Data Exports, as CSV or Parquet.",
        )
    if missing:
        raise OperationFailedError(
            f"{where} looks like {dialect.name}, but has no column {', '.join(missing)}{_near(missing, columns)}.",
            "Export it with these columns: without them no line can be compared.",
        )
    pairs = [name for amount, unit in dialect.amounts for name in (there.get(amount.lower(), ""), _unit(unit, there))]
    single = (dialect.account, dialect.usage_type, dialect.start, dialect.end, dialect.category, dialect.cost)
    found = (*(_first(names, there) for names in single), *pairs)
    if twice := sorted({name for name in columns if columns.count(name) > 1}.intersection(found)):
        raise OperationFailedError(
            f"{where} has the column {', '.join(twice)} twice.",
            "Export it again: nobody can say which of them is right.",
        )
    return Chosen(dialect=dialect, columns=found)


def _unit(name: str, there: Mapping[str, str]) -> str:
    return there.get(name.lower(), "")


def _first(names: Sequence[str], there: Mapping[str, str]) -> str:
    return next((there[name.lower()] for name in names if name.lower() in there), "")


def _near(missing: Sequence[str], columns: Sequence[str]) -> str:
    near = [match for name in missing for match in get_close_matches(name, columns, n=1, cutoff=0.8)]
    return f" (nearest: {', '.join(near)})" if near else ""
