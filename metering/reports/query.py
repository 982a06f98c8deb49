"""Usage queries: what a report is asked, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.time_range import time_range
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.usage.totals import UsageKey

GroupColumn = Literal["account_id", "usage_type", "service", "from", "to", "month", "day", "hour", "corrects"]
GROUP_COLUMNS: tuple[GroupColumn, ...] = get_args(GroupColumn)

# Columns of the lake that the usage table does not have.
DetailColumn = Literal["resource_id", "direction", "batch_id"]
DETAIL_COLUMNS: tuple[DetailColumn, ...] = get_args(DetailColumn)

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A question about usage.

    Attributes:
        from_s, to_s: Hours that begin in this half-open range count, by the hour that they are booked in. With
            `details`, rows that start in it count.
        group_by: Columns of the answer, in order; the empty tuple gives one total.
        details: Further columns, which only the lake has.
        accounts, services, usage_types: Filters; an empty one lets everything through. Without `accounts`, the
            canary's account is left out.
        with_corrections: Also count rows booked later that correct hours of the range; `corrects` names their hour.
    """

    from_s: int
    to_s: int
    group_by: tuple[GroupColumn, ...] = ("usage_type",)
    details: tuple[DetailColumn, ...] = ()
    accounts: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    usage_types: frozenset[str] = frozenset()
    with_corrections: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that name the rows of the answer, in order."""
        return (*self.group_by, *self.details)

    def matches(self, key: UsageKey) -> bool:
        """Whether a total counts in this report."""
        if self.accounts:
            if key.account_id not in self.accounts:
                return False
        elif key.account_id == CANARY_ACCOUNT_ID:
            return False
        if self.services and key.service not in self.services:
            return False
        if self.usage_types and key.usage_type not in self.usage_types:
            return False
        return self.covers(key)

    def covers(self, key: UsageKey) -> bool:
        """Whether a total is booked in the range, or corrects the range and the report includes corrections."""
        if self.from_s <= key.hour_s < self.to_s:
            return True
        return self.with_corrections and key.corrects_s is not None and self.from_s <= key.corrects_s < self.to_s

    def splits_day(self, first_s: int) -> bool:
        """Whether the report needs this day split by hour: it groups by hour, or its range cuts the day."""
        return "hour" in self.group_by or any(0 < end_s - first_s < DAY_S for end_s in (self.from_s, self.to_s))

    def booked_before_s(self, *, now_s: int) -> int:
        """Exclusive upper bound of booking time; corrections can be booked until now."""
        return max(self.to_s, now_s + 1) if self.with_corrections else self.to_s

    def months(self, *, now_s: int) -> Iterator[str]:
        """Months in which a total of the report can be booked, in order."""
        return months_between(self.from_s, self.booked_before_s(now_s=now_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageParameters:
    """The texts of a question about usage, as they stand on a command line or in a URL.

    Attributes:
        start, end: Parameters `from` and `to`; see `time_range`. Default: this month, up to the end of this hour.
        group_by: Names of group columns with commas between them; the usage type by default.
        detail: Names of columns that only the lake has, with commas between them.
        accounts, services, usage_types: Parameters `account`, `service` and `usage_type`; each text may be a list.
        with_corrections: Also count later corrections, and tell them apart by the column `corrects`.
    """

    start: str | None = None
    end: str | None = None
    group_by: str | None = None
    detail: str | None = None
    accounts: Sequence[str] = ()
    services: Sequence[str] = ()
    usage_types: Sequence[str] = ()
    with_corrections: bool = False

    def query(self, *, now_s: int) -> UsageQuery:
        """The query that the texts ask for at `now_s`.

        Raises:
            InvalidParametersError: A column, time or account does not exist, or the range cuts an hour of which only
                totals are kept. Carries every problem found.
        """
        columns, details = _names(self.group_by or "usage_type"), _names(self.detail or "")
        problems = self._problems(columns, details)
        try:
            from_s, to_s = time_range(
                self.start,
                self.end,
                default_s=(month_bounds_s(month_of(now_s))[0], hour_of(now_s) + HOUR_S),
                now_s=now_s,
                # Rows know when they start; a correction only knows the hour that it corrects.
                whole_hours=not details or self.with_corrections,
            )
        except InvalidParametersError as error:
            raise InvalidParametersError([*problems, *error.problems]) from error
        if problems:
            raise InvalidParametersError(problems)
        if self.with_corrections and "corrects" not in columns:
            columns = (*columns, "corrects")
        return UsageQuery(
            from_s=from_s,
            to_s=to_s,
            group_by=cast("tuple[GroupColumn, ...]", columns),
            details=cast("tuple[DetailColumn, ...]", details),
            accounts=_values(self.accounts),
            services=_values(self.services),
            usage_types=_values(self.usage_types),
            with_corrections=self.with_corrections,
        )

    def _problems(self, columns: Sequence[str], details: Sequence[str]) -> list[ParameterProblem]:
        problems = [
            *_column_problems("group_by", columns, GROUP_COLUMNS),
            *_column_problems("detail", details, DETAIL_COLUMNS),
            *_account_problems(_values(self.accounts)),
        ]
        if not columns:
            given = self.group_by or ""
            advice = _listed(GROUP_COLUMNS)
            problems.append(
                ParameterProblem(parameter="group_by", value=given, problem="names no column.", advice=advice)
            )
        return problems


def months_between(from_s: int, to_s: int) -> Iterator[str]:
    """Months that any second of `[from_s, to_s)` lies in, in order."""
    moment_s = from_s
    while moment_s < to_s:
        month = month_of(moment_s)
        yield month
        moment_s = month_bounds_s(month)[1]


def _names(text: str) -> tuple[str, ...]:
    """Names between commas, each once, in order."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _values(texts: Sequence[str]) -> frozenset[str]:
    return frozenset(name for text in texts for name in _names(text))


def _column_problems(parameter: str, names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterProblem]:
    for name in names:
        if name not in known:
            yield ParameterProblem(
                parameter=parameter, value=name, problem="is not one of the columns.", advice=_listed(known)
            )


def _account_problems(accounts: frozenset[str]) -> Iterator[ParameterProblem]:
    for account in sorted(accounts):
        if not _ACCOUNT_ID.fullmatch(account):
            yield ParameterProblem(
                parameter="account", value=account, problem="is not an account: an account has 12 digits."
            )


def _listed(columns: Sequence[str]) -> str:
    return f"The columns are: {', '.join(columns)}."
