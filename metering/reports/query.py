"""Usage queries: what a report is asked, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, cast, get_args

from metering.hours import hour_of, month_bounds_s, month_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.ledger.usage.folding import Grain
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.time_range import month_start_s, splits_an_hour, time_range, zone_of
from metering.units import DAY_S, HOUR_S
from metering.usage.locations import LOCATION
from metering.usage.usage_types import EXPLICIT_USAGE_TYPE, SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.usage.totals import UsageKey

GroupColumn = Literal[
    "account_id", "usage_type", "service", "from", "to", "month", "day", "hour", "corrects", "region", "tier", "payer"
]
COST_COLUMNS: tuple[GroupColumn, ...] = get_args(GroupColumn)
GROUP_COLUMNS: tuple[GroupColumn, ...] = tuple(name for name in COST_COLUMNS if name not in {"tier", "payer"})
# A frozen month is of one region.
MONTH_COLUMNS: tuple[GroupColumn, ...] = tuple(name for name in GROUP_COLUMNS if name != "region")

# Columns of the lake that the usage table does not have.
DetailColumn = Literal["resource_id", "direction", "batch_id"]
DETAIL_COLUMNS: tuple[DetailColumn, ...] = get_args(DetailColumn)

_ACCOUNT_ID = re.compile(r"[0-9]{12}")
# Parameter of a filter -> what its values look like, and that in words. An account of other digits cannot have usage.
_RULES = {
    "account": (_ACCOUNT_ID, "is not an account: an account has 12 digits."),
    "service": (SERVICE, "is not a service: a service is a product code of 1 to 64 letters and digits, as AmazonEC2."),
    "usage_type": (
        EXPLICIT_USAGE_TYPE,
        "is not a usage type: it has 1 to 128 of A-Za-z0-9:._- and begins with a letter or digit.",
    ),
}
_RULES["from_location"] = _RULES["to_location"] = (
    LOCATION,
    "is not a location: a location is a region, a region with a zone id (us-east-1/use1-az2), internet, cloudfront or "
    "unknown.",
)
_RULES["payer"] = (_ACCOUNT_ID, "is not a payer: a payer is an account of 12 digits.")
_BUCKETS = frozenset({"day", "month"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Order of a report's rows: by one of its columns, then by the columns that name the rows."""

    column: str
    descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A question about usage.

    Attributes:
        from_s, to_s: Hours that begin in this half-open range count, by the hour that they are booked in. With
            `details`, rows that start in it count.
        group_by: Columns of the answer, in order; the empty tuple gives one total.
        details: Further columns, which only the lake has.
        accounts, services, usage_types, from_locations, to_locations: Filters; an empty one lets everything through.
            Without `accounts`, the canary's account is left out.
        with_corrections: Also count rows booked later that correct hours of the range; `corrects` names their hour.
        zone: Zone of the hours, days and months that name rows. A day of a zone is the sum of its UTC hours.
        order: Order of the rows; by the columns that name them if None.
        top: Most rows of the answer; the rest is summed as `others`. None: all rows.
        now: Count what was committed by now, also what is not rolled up yet (P28). Rows of the lake always do.
    """

    from_s: int
    to_s: int
    group_by: tuple[GroupColumn, ...] = ("usage_type",)
    details: tuple[DetailColumn, ...] = ()
    accounts: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    usage_types: frozenset[str] = frozenset()
    from_locations: frozenset[str] = frozenset()
    to_locations: frozenset[str] = frozenset()
    with_corrections: bool = False
    zone: tzinfo = UTC
    order: Order | None = None
    top: int | None = None
    now: bool = False

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
        return self.takes_places(key.from_location, key.to_location) and self.covers(key)

    def takes_places(self, from_location: str, to_location: str) -> bool:
        """Whether both sides of a transfer pass the filters."""
        if self.from_locations and from_location not in self.from_locations:
            return False
        return not self.to_locations or to_location in self.to_locations

    def covers(self, key: UsageKey) -> bool:
        """Whether a total is booked in the range, or corrects the range and the report includes corrections."""
        return self.takes_hour(key.hour_s, key.corrects_s)

    def takes_hour(self, hour_s: int, corrects_s: int | None) -> bool:
        """The same of a booked hour and the hour that is corrected."""
        if self.from_s <= hour_s < self.to_s:
            return True
        return self.with_corrections and corrects_s is not None and self.from_s <= corrects_s < self.to_s

    @property
    def grain(self) -> Grain:
        """How finely the rows tell booked hours apart. Days and months of other zones than UTC are made of hours."""
        if "hour" in self.group_by or (self.zone is not UTC and not _BUCKETS.isdisjoint(self.group_by)):
            return Grain.HOUR
        return Grain.DAY if "day" in self.group_by else Grain.MONTH

    def splits_day(self, first_s: int) -> bool:
        """Whether the report needs this day split by hour: by its groups, or because its range cuts the day."""
        return self.grain is Grain.HOUR or any(0 < end_s - first_s < DAY_S for end_s in (self.from_s, self.to_s))

    def filters(self) -> dict[str, frozenset[str]]:
        """Values that were asked for, by the name of their parameter; only filters that let not everything through."""
        values = {
            "account": self.accounts,
            "service": self.services,
            "usage_type": self.usage_types,
            "from_location": self.from_locations,
            "to_location": self.to_locations,
        }
        return {parameter: names for parameter, names in values.items() if names}

    def booked_before_s(self, *, now_s: int) -> int:
        """Exclusive upper bound of booking time; corrections can be booked until now."""
        return max(self.to_s, now_s + 1) if self.with_corrections else self.to_s

    def months(self, *, now_s: int) -> Iterator[str]:
        """Months in which a total of the report can be booked, in order."""
        return months_between(self.from_s, self.booked_before_s(now_s=now_s))


class Budget(Protocol):
    """What the answer to one question may cost; see `metering.reports.read_budget`."""

    def of_range(self, from_s: int, to_s: int, *, now_s: int) -> list[ParameterProblem]: ...

    def of_query(self, query: UsageQuery, *, now_s: int) -> list[ParameterProblem]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageParameters:
    """The texts of a question about usage, as they stand on a command line or in a URL.

    Attributes:
        start, end: Parameters `from` and `to`; see `time_range`. Default: this month, up to the end of this hour.
        group_by: Names of group columns with commas between them; the usage type by default.
        detail: Names of columns that only the lake has, with commas between them.
        accounts, services, usage_types: Parameters `account`, `service` and `usage_type`; each text may be a list.
        from_locations, to_locations: Likewise `from_location` and `to_location`, as the columns `from` and `to` have
            them.
        with_corrections: Also count later corrections, and tell them apart by the column `corrects`.
        last: A span that ends with the hour that runs now, such as `7d`, in place of `from` and `to`.
        zone: Parameter `tz`: the zone of times that name none, and of the times that the answer shows.
        sort: A column of the answer, `bytes` or `records` among them; with `:desc` the largest comes first.
        top: Only so many rows, by bytes unless `sort` says otherwise; the rest becomes one sum.
        now: Exact as of now, also of what is not rolled up yet.
        budget: What the answer may cost; None: whatever it costs.
        KNOWN: Columns that can be grouped by.
        SUMS: Columns of figures, the first of which ranks the rows.
    """

    KNOWN: ClassVar[tuple[GroupColumn, ...]] = GROUP_COLUMNS
    SUMS: ClassVar[tuple[str, ...]] = ("bytes", "records")

    start: str | None = None
    end: str | None = None
    group_by: str | None = None
    detail: str | None = None
    accounts: Sequence[str] = ()
    services: Sequence[str] = ()
    usage_types: Sequence[str] = ()
    from_locations: Sequence[str] = ()
    to_locations: Sequence[str] = ()
    with_corrections: bool = False
    last: str | None = None
    zone: str | None = None
    sort: str | None = None
    top: int | None = None
    now: bool = False
    budget: Budget | None = None

    def query(self, *, now_s: int) -> UsageQuery:
        """The query that the texts ask for at `now_s`.

        Raises:
            InvalidParametersError: A column, time or zone does not exist, a filter has a value that nothing can have,
                the range cuts an hour of which only totals are kept, or the answer would cost too much. Carries every
                problem found.
        """
        columns, details = _names(self.group_by or "usage_type"), _names(self.detail or "")
        if self.with_corrections and "corrects" not in columns:
            columns = (*columns, "corrects")
        problems = self._problems(columns, details)
        try:
            zone, (from_s, to_s) = self._times(columns, details, now_s)
        except InvalidParametersError as error:
            raise InvalidParametersError([*problems, *error.problems]) from error
        if problems:
            raise InvalidParametersError(problems)
        return self._affordable(
            now_s,
            UsageQuery(
                from_s=from_s,
                to_s=to_s,
                group_by=cast("tuple[GroupColumn, ...]", columns),
                details=cast("tuple[DetailColumn, ...]", details),
                accounts=given_names(self.accounts),
                services=given_names(self.services),
                usage_types=given_names(self.usage_types),
                from_locations=given_names(self.from_locations),
                to_locations=given_names(self.to_locations),
                with_corrections=self.with_corrections,
                zone=zone,
                order=self._order(),
                top=self.top,
                now=self.now,
            ),
        )

    def _affordable(self, now_s: int, query: UsageQuery) -> UsageQuery:
        problems = [] if self.budget is None else self.budget.of_query(query, now_s=now_s)
        if problems:
            raise InvalidParametersError(problems)
        return query

    def _times(self, columns: Sequence[str], details: Sequence[str], now_s: int) -> tuple[tzinfo, tuple[int, int]]:
        zone = zone_of(self.zone)
        from_s, to_s = time_range(
            self.start,
            self.end,
            default_s=(month_start_s(now_s, zone), hour_of(now_s) + HOUR_S),
            now_s=now_s,
            # Rows know when they start; a correction only knows the hour that it corrects.
            whole_hours=not details or self.with_corrections,
            last=self.last,
            zone=zone,
        )
        problems = [] if self.budget is None else self.budget.of_range(from_s, to_s, now_s=now_s)
        if problems:
            raise InvalidParametersError(problems)
        if zone is not UTC and not _BUCKETS.isdisjoint(columns) and splits_an_hour(from_s, to_s, zone):
            problem = "has days that begin within a UTC hour, and totals are kept by the UTC hour."
            advice = "Group by hour, or leave --tz out: days are then UTC days."
            raise InvalidParametersError(
                [ParameterProblem(parameter="tz", value=str(zone), problem=problem, advice=advice)]
            )
        return zone, (from_s, to_s)

    def _order(self) -> Order | None:
        if not self.sort:
            return None if self.top is None else Order(column=self.SUMS[0], descending=True)
        column, _, direction = self.sort.partition(":")
        return Order(column=column.strip(), descending=direction.strip() == "desc")

    def _problems(self, columns: Sequence[str], details: Sequence[str]) -> list[ParameterProblem]:
        return [
            *_column_problems("group_by", columns, self.KNOWN),
            *_column_problems("detail", details, DETAIL_COLUMNS),
            *_filter_problems(self._filters()),
            *self._ranking_problems((*columns, *details, *self.SUMS)),
            *_no_column(self.group_by or "", columns, self.KNOWN),
        ]

    def _filters(self) -> dict[str, Sequence[str]]:
        return {
            "account": self.accounts,
            "service": self.services,
            "usage_type": self.usage_types,
            "from_location": self.from_locations,
            "to_location": self.to_locations,
        }

    def _ranking_problems(self, columns: Sequence[str]) -> Iterator[ParameterProblem]:
        if self.top is not None and self.top < 1:
            yield ParameterProblem(parameter="top", value=str(self.top), problem="is not a number of rows: 1 or more.")
        if self.sort is None:
            return
        column, colon, direction = self.sort.partition(":")
        if column.strip() not in columns:
            advice = f"Sort by one of: {', '.join(columns)}."
            yield ParameterProblem(
                parameter="sort", value=self.sort, problem="is not a column of this report.", advice=advice
            )
        elif colon and direction.strip() not in {"asc", "desc"}:
            advice = f"Write {column}:desc for the largest first, or {column}:asc."
            yield ParameterProblem(parameter="sort", value=self.sort, problem="has no such direction.", advice=advice)


def month_columns(text: str) -> tuple[GroupColumn, ...]:
    """Columns to group a frozen month by, from a text with commas between their names.

    Raises:
        InvalidParametersError: One of them does not exist, or there is none.
    """
    names = _names(text)
    problems = [*_column_problems("group_by", names, MONTH_COLUMNS), *_no_column(text, names, GROUP_COLUMNS)]
    if problems:
        raise InvalidParametersError(problems)
    return cast("tuple[GroupColumn, ...]", names)


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


def given_names(texts: Sequence[str]) -> frozenset[str]:
    """Names of an option that may be given again, and be a list each time."""
    return frozenset(name for text in texts for name in _names(text))


def _column_problems(parameter: str, names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterProblem]:
    for name in names:
        if name not in known:
            yield ParameterProblem(
                parameter=parameter, value=name, problem="is not one of the columns.", advice=_listed(known)
            )


def _filter_problems(given: Mapping[str, Sequence[str]]) -> Iterator[ParameterProblem]:
    """Values that nothing in the service can have: a report on them would be a quiet 0."""
    for parameter, texts in given.items():
        rule, problem = _RULES[parameter]
        for value in sorted(given_names(texts)):
            if not rule.fullmatch(value):
                yield ParameterProblem(parameter=parameter, value=value, problem=problem)


def _no_column(given: str, names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterProblem]:
    if not names:
        yield ParameterProblem(parameter="group_by", value=given, problem="names no column.", advice=_listed(known))


def _listed(columns: Sequence[str]) -> str:
    return f"The columns are: {', '.join(columns)}."
