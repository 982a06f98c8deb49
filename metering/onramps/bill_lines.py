"""Lines of a bill: decides which lines are compared, and why the others are left out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from difflib import get_close_matches
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from metering.errors import OperationFailedError
from metering.hours import date_of
from metering.units import DAY_S, GIB
from metering.usage.usage_types import contract_name

# AWS's export formats of a bill, recognised by their column names. Sources: the column lists of CUR 2.0 and the older
# CUR in AWS's "Data Exports" and "Cost and Usage Reports" guides, and FOCUS 1.0 to 1.2 with AWS's additional `x_`
# columns.


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Column names of one kind of bill export. Of alternative names, the first that the file has is used.

    `usage` lists usage categories in lower case: other categories are charges for usage on another line. `amounts`
    lists column pairs of a quantity and its unit, the preferred pair first. A file may lack `end`, `cost` and units.
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
        """Required columns, each with alternative names."""
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
    """Columns of one file in the order account, usage type, start, end, category, cost, and pairs of amounts.

    A column that the file lacks is empty.
    """

    dialect: Dialect
    columns: tuple[str, ...]


def chosen(columns: Sequence[str], where: str) -> Chosen:
    """Recognise a file by its columns. Athena writes column names in lower case, so case is ignored.

    Raises:
        OperationFailedError: The export is unknown, or lacks a column; the message also names the nearest column.
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
    pairs = [there.get(name.lower(), "") for pair in dialect.amounts for name in pair]
    single = (dialect.account, dialect.usage_type, dialect.start, dialect.end, dialect.category, dialect.cost)
    found = (*(_first(names, there) for names in single), *pairs)
    if twice := sorted({name for name in columns if columns.count(name) > 1}.intersection(found)):
        raise OperationFailedError(
            f"{where} has the column {', '.join(twice)} twice.",
            "Export it again: nobody can say which of them is right.",
        )
    return Chosen(dialect=dialect, columns=found)


def _first(names: Sequence[str], there: Mapping[str, str]) -> str:
    return next((there[name.lower()] for name in names if name.lower() in there), "")


def _near(missing: Sequence[str], columns: Sequence[str]) -> str:
    near = [match for name in missing for match in get_close_matches(name, columns, n=1, cutoff=0.8)]
    return f" (nearest: {', '.join(near)})" if near else ""


_PREFIX = r"(?:[A-Za-z0-9-]{1,130}-)?"
_WAYS = r"(?:In|Out)"
_ZONES = rf"DataTransfer-x?AZ-{_WAYS}"
_PROCESSING = r"(?:NatGateway|RegionalNatGateway|VpcEndpoint|VpcEndpoint-GWLBE)"
_TRAFFIC = (
    rf"(?:DataTransfer-(?:Out|In|Regional)|{_ZONES}|C3DataTransfer-{_WAYS}|AWS-{_WAYS}|CloudFront-{_WAYS}"
    rf"|Unclassified-(?:Out|In|Regional)|VpcPeering-{_WAYS}|TransitGateway|{_PROCESSING})-Bytes"
)
# Uploads that CloudFront forwards to origins have a separate usage type.
_TRANSFER = re.compile(rf"{_PREFIX}(?:{_TRAFFIC}|DataTransfer-Out-OBytes)")
_METERED_ONLY = re.compile(rf"{_PREFIX}(?:C3DataTransfer|Unclassified)-[A-Za-z]{{2,8}}-Bytes")
_BILLED_ONLY = (
    (
        re.compile(rf"{_PREFIX}{_PROCESSING}-Bytes"),
        "not metered here: no flow log of these gateways and endpoints was ingested, or it does not tell processing",
    ),
    (
        re.compile(rf"{_PREFIX}{_ZONES}-Bytes"),
        "contested: bills have it for databases, often at 0.00, where a database's side between zones is "
        "DataTransfer-Regional-Bytes here",
    ),
)


def is_transfer(usage_type: str) -> bool:
    """Whether a usage type is data transfer or its processing, as named in `docs/contract.md` or in AWS's bills."""
    return _TRANSFER.fullmatch(usage_type) is not None


def is_metered_only(usage_type: str) -> bool:
    """Whether no bill has this type: traffic within a zone is free, and AWS leaves nothing unclassified."""
    return _METERED_ONLY.fullmatch(usage_type) is not None


def why_billed_only(usage_type: str) -> str:
    """Reason why a usage type may be billed but not metered; empty if the bytes count as a difference."""
    return next((why for pattern, why in _BILLED_ONLY if pattern.fullmatch(usage_type)), "")


# AWS's GB of data transfer is 2^30 bytes: all 536 lines of metering/replay/samples/aws-bill-lines agree with this.
_UNIT_BYTES = {
    "gb": GIB, "gib": GIB, "gigabyte": GIB, "gigabytes": GIB, "byte": 1, "bytes": 1, "": GIB,
}  # fmt: skip
_AMOUNT = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.[0-9]{1,9})?)?(?:Z|[+-]00:?00| UTC)?"
)
_ACCOUNT = re.compile(r"[0-9]{12}")
_EXACT = Context(prec=100)
# A zettabyte, which no line of a bill exceeds.
_MOST_BYTES = 2**70
_YEARS = range(2006, 2100)


def text_of(value: object) -> str:
    """Convert to stripped text; empty for None. Parquet may store text as bytes."""
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    return "" if value is None else str(value).strip()


def account_of(value: object) -> str:
    """Convert to an account id of 12 digits. Leading zeros are restored for a number, not for a text.

    Raises:
        ValueError: It is none.
    """
    text = str(value).zfill(12) if isinstance(value, int) else text_of(value)
    if not _ACCOUNT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no account of 12 digits")
    return text


def unit_bytes(value: object) -> int:
    """Number of bytes in a unit; an empty unit means GB.

    Raises:
        ValueError: Nobody knows it.
    """
    text = text_of(value)
    found = _UNIT_BYTES.get(text.lower())
    if found is None:
        raise ValueError(f"the unit is {text[:40]!r}, and not GB")
    return found


def bytes_of(value: object, unit: int) -> Decimal:
    """Exact bytes of an amount, possibly with a fraction: the 10th decimal of a GB is a tenth of a byte.

    A Parquet float is read as its shortest decimal text, which is the value that AWS counted.

    Raises:
        ValueError: The value is not a number, or is larger than any bill.
    """
    text = _number_text(value)
    if not _AMOUNT.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no amount")
    exact = _EXACT.multiply(Decimal(text), Decimal(unit))
    if abs(exact) > _MOST_BYTES:
        raise ValueError(f"{text[:40]} is more than any bill has")
    return exact


def usd_of(value: object) -> Decimal | None:
    """Cost of a line; None if the value is not a number."""
    text = _number_text(value)
    return Decimal(text) if _AMOUNT.fullmatch(text) else None


def _number_text(value: object) -> str:
    if isinstance(value, int | Decimal):
        return str(value)
    return repr(value) if isinstance(value, float) else text_of(value)


def whole_bytes(exact: Decimal) -> int:
    """Round to whole bytes, half away from zero."""
    return int(exact.to_integral_value(ROUND_HALF_UP))


def seconds_of(value: object) -> int:
    """Epoch seconds of a time; a time without offset is UTC, like all times in AWS's bills.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, datetime):
        return _known(value if value.tzinfo else value.replace(tzinfo=UTC))
    if isinstance(value, date):
        return _known(datetime(value.year, value.month, value.day, tzinfo=UTC))
    return _seconds(text_of(value))


@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no time in UTC")
    try:
        moment = datetime.fromisoformat(f"{found[1]}T{found[2] or '00:00'}+00:00")
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time") from error
    return _known(moment)


def _known(moment: datetime) -> int:
    if moment.year not in _YEARS:
        raise ValueError(f"{moment.isoformat()} is before AWS, or far ahead")
    return int(moment.timestamp())


_MONTH_CHARS = 7


class LeftOut(StrEnum):
    """Reason why a valid line is not compared, worded to follow the number of lines."""

    NO_TRANSFER = "that are no data transfer, by their usage type"
    NO_USAGE = "of credits, refunds, taxes, fees and other money"
    OTHER_ACCOUNT = "of accounts that were not asked for"
    OTHER_TIME = "outside the time that was asked for"
    LONG = "about more than a day: `--by month` compares them"


class Broken(StrEnum):
    """Reason why a line cannot be compared."""

    FIELDS = "another number of fields than the header"
    ACCOUNT = "no account"
    TIME = "no time"
    UNIT = "an unknown unit"
    AMOUNT = "no amount"


class LineKey(NamedTuple):
    """Key of account, usage type and UTC day (`2026-11-24`) or month (`2026-11`)."""

    account_id: str
    usage_type: str
    period: str


class BilledLine(NamedTuple):
    """Compared line; `exact` holds the bytes before rounding, `usd` the cost (None if the bill has no cost)."""

    key: LineKey
    start_s: int
    bytes: int
    exact: Decimal
    usd: Decimal | None


class LeftOutLine(NamedTuple):
    """A valid line that is not compared."""

    why: LeftOut
    usage_type: str
    usd: Decimal | None


class BrokenLine(NamedTuple):
    """Unreadable line of data transfer, and the reason."""

    what: Broken
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Filter of lines: accounts (all if empty), half-open range of their start, grouping by `day` or `month`."""

    by: str = "day"
    accounts: frozenset[str] = frozenset()
    from_s: int = 0
    to_s: int = 2**40

    def period_of(self, epoch_s: int) -> str:
        day = date_of(epoch_s)
        return day[:_MONTH_CHARS] if self.by == "month" else day


def judged(fields: Sequence[object] | None, dialect: Dialect, wanted: Wanted) -> BilledLine | LeftOutLine | BrokenLine:
    """Judge a line. A line other than data transfer may be malformed."""
    if fields is None:
        return BrokenLine(Broken.FIELDS, "the line has more or fewer fields than the header")
    account, usage_type, start, end, category, cost, *amounts = fields
    name, usd = contract_name(text_of(usage_type)), usd_of(cost)
    if not is_transfer(name):
        return LeftOutLine(LeftOut.NO_TRANSFER, name, usd)
    if text_of(category).lower() not in dialect.usage:
        return LeftOutLine(LeftOut.NO_USAGE, name, usd)
    what = Broken.ACCOUNT
    try:
        account_id = account_of(account)
        what = Broken.TIME
        start_s, end_s = seconds_of(start), seconds_of(end) if text_of(end) else None
        if (other := _not_asked(account_id, start_s, end_s, wanted)) is not None:
            return LeftOutLine(other, name, usd)
        amount, unit = _amount(amounts)
        what = Broken.UNIT
        factor = unit_bytes(unit)
        what = Broken.AMOUNT
        exact = bytes_of(amount, factor)
    except ValueError as error:
        return BrokenLine(what, str(error))
    return BilledLine(LineKey(account_id, name, wanted.period_of(start_s)), start_s, whole_bytes(exact), exact, usd)


def _not_asked(account_id: str, start_s: int, end_s: int | None, wanted: Wanted) -> LeftOut | None:
    if wanted.accounts and account_id not in wanted.accounts:
        return LeftOut.OTHER_ACCOUNT
    if not wanted.from_s <= start_s < wanted.to_s:
        return LeftOut.OTHER_TIME
    if wanted.by == "day" and end_s is not None and end_s - start_s > DAY_S:
        return LeftOut.LONG
    return None


def _amount(amounts: Sequence[object]) -> tuple[object, object]:
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    return next((pair for pair in pairs if text_of(pair[0])), pairs[0])
