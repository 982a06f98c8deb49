"""The lines of a bill: which of them are compared, and why the others are not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import date_of
from metering.onramps.compare.usage_types import is_transfer
from metering.onramps.compare.values import (
    account_of,
    bytes_of,
    seconds_of,
    text_of,
    unit_bytes,
    usd_of,
    whole_bytes,
)
from metering.units import DAY_S
from metering.usage.network_charges import contract_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from metering.onramps.compare.dialects import Dialect

_MONTH_CHARS = 7


class LeftOut(StrEnum):
    """Why a line that is right is not compared, in words that go on after its number."""

    NO_TRANSFER = "that are no data transfer, by their usage type"
    NO_USAGE = "of credits, refunds, taxes, fees and other money"
    OTHER_ACCOUNT = "of accounts that were not asked for"
    OTHER_TIME = "outside the time that was asked for"
    LONG = "about more than a day: `--by month` compares them"


class Broken(StrEnum):
    """What is wrong with a line that cannot be compared."""

    FIELDS = "another number of fields than the header"
    ACCOUNT = "no account"
    TIME = "no time"
    UNIT = "an unknown unit"
    AMOUNT = "no amount"


class LineKey(NamedTuple):
    """What is compared: an account's bytes of a usage type in a day (`2026-11-24`) or month (`2026-11`), UTC."""

    account_id: str
    usage_type: str
    period: str


class BilledLine(NamedTuple):
    """A line that is compared.

    Attributes:
        key: What it is about.
        start_s: Start of its time.
        bytes: Its amount in whole bytes.
        exact: Its amount before it was rounded to them.
        usd: What it costs; None if the bill does not say so.
    """

    key: LineKey
    start_s: int
    bytes: int
    exact: Decimal
    usd: Decimal | None


class LeftOutLine(NamedTuple):
    """A line that is right and not compared."""

    why: LeftOut
    usage_type: str
    usd: Decimal | None


class BrokenLine(NamedTuple):
    """A line of data transfer that cannot be read, and the sentence why."""

    what: Broken
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines are asked for.

    Attributes:
        by: `day` or `month`.
        accounts: Only these; empty for all.
        from_s, to_s: Only lines that start in this half-open range.
    """

    by: str = "day"
    accounts: frozenset[str] = frozenset()
    from_s: int = 0
    to_s: int = 2**40

    def period_of(self, epoch_s: int) -> str:
        """The day or month that a moment lies in."""
        day = date_of(epoch_s)
        return day[:_MONTH_CHARS] if self.by == "month" else day


def judged(fields: Sequence[object] | None, dialect: Dialect, wanted: Wanted) -> BilledLine | LeftOutLine | BrokenLine:
    """What becomes of a line. What is no data transfer may be as broken as it likes.

    Args:
        fields: In the order of `Chosen.columns`; None if the line has another number of fields than the header.
        dialect: Its kind of export.
        wanted: Which lines are asked for.
    """
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
    """The first pair that has a quantity."""
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))
    return next((pair for pair in pairs if text_of(pair[0])), pairs[0])
