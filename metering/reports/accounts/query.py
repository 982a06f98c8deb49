"""Questions about the accounts of a month, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.query import Order, given_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COLUMNS = ("account_id", "bytes", "records", "first_hour", "last_hour")
BY_ID = Order(column="account_id")
_FIRST_MONTH = "2020-01"
_PREFIX = re.compile(r"[0-9]{1,12}")
_ACCOUNT = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsQuery:
    """Which accounts of which month are listed, and in which order.

    Attributes:
        month: A billing month, such as `2026-11`.
        accounts: Only these; empty: all but the canary's.
        prefix: Only those whose ids begin so.
        order: By one of `COLUMNS`; accounts that are equal in it are sorted by their ids.
        top: Most rows of the answer; the rest is summed as `others`. None: all rows.
    """

    month: str
    accounts: frozenset[str] = frozenset()
    prefix: str = ""
    order: Order = BY_ID
    top: int | None = None

    def matches(self, account_id: str) -> bool:
        """Whether an account is listed."""
        if self.accounts:
            return account_id in self.accounts and account_id.startswith(self.prefix)
        return account_id != CANARY_ACCOUNT_ID and account_id.startswith(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsParameters:
    """The texts of a question about accounts, as they stand on a command line or in a URL.

    Attributes:
        month: `YYYY-MM`; by default the month that runs.
        accounts: Parameter `account`; each text may be a list.
        prefix: First digits of account ids.
        sort: One of `COLUMNS`; with `:desc` the largest comes first. Default: `account_id`.
        top: Only so many rows, by bytes unless `sort` says otherwise; the rest becomes one sum.
    """

    month: str | None = None
    accounts: Sequence[str] = ()
    prefix: str | None = None
    sort: str | None = None
    top: int | None = None

    def query(self, *, now_s: int) -> AccountsQuery:
        """The query that the texts ask for at `now_s`.

        Raises:
            InvalidParametersError: There is no such month, column or account, or the month has not begun. Carries
                every problem found.
        """
        month = self.month or month_of(hour_of(now_s))
        problems = [*self._month_problems(month, now_s), *self._name_problems(), *self._ranking_problems()]
        if problems:
            raise InvalidParametersError(problems)
        return AccountsQuery(
            month=month,
            accounts=given_names(self.accounts),
            prefix=self.prefix or "",
            order=self._order(),
            top=self.top,
        )

    def _order(self) -> Order:
        if not self.sort:
            return BY_ID if self.top is None else Order(column="bytes", descending=True)
        column, _, direction = self.sort.partition(":")
        return Order(column=column.strip(), descending=direction.strip() == "desc")

    def _month_problems(self, month: str, now_s: int) -> Iterator[ParameterProblem]:
        try:
            month_bounds_s(month)
        except ValueError:
            yield _problem("month", month, "is not a month.", "Write it as 2026-11.")
            return
        if month > month_of(hour_of(now_s)):
            yield _problem("month", month, "has not begun.")
        elif month < _FIRST_MONTH:
            yield _problem("month", month, f"is before {_FIRST_MONTH}, when no usage was metered.")

    def _name_problems(self) -> Iterator[ParameterProblem]:
        for value in sorted(given_names(self.accounts)):
            if not _ACCOUNT.fullmatch(value):
                yield _problem("account", value, "is not an account: an account has 12 digits.")
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            yield _problem("prefix", self.prefix, "is not the beginning of an account: it has 1 to 12 digits.")

    def _ranking_problems(self) -> Iterator[ParameterProblem]:
        if self.top is not None and self.top < 1:
            yield _problem("top", str(self.top), "is not a number of rows: 1 or more.")
        if not self.sort:
            return
        column, colon, direction = self.sort.partition(":")
        if column.strip() not in COLUMNS:
            yield _problem("sort", self.sort, "is not a column of this list.", f"Sort by one of: {', '.join(COLUMNS)}.")
        elif colon and direction.strip() not in {"asc", "desc"}:
            advice = f"Write {column}:desc for the largest first, or {column}:asc."
            yield _problem("sort", self.sort, "has no such direction.", advice)


def _problem(parameter: str, value: str, problem: str, advice: str = "") -> ParameterProblem:
    return ParameterProblem(parameter=parameter, value=value, problem=problem, advice=advice)
