"""Usage queries: the parameters of a report, checked before anything is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, TypedDict, cast, get_args

from metering.hours import hour_of, month_bounds_s, month_of, rfc3339
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.usage.reading import Grain
from metering.reports.time_range import (
    InvalidParametersError,
    ParameterProblem,
    month_start_s,
    refused,
    splits_an_hour,
    time_range,
    zone_of,
)
from metering.units import DAY_S, HOUR_S
from metering.usage.usage_types import EXPLICIT_USAGE_TYPE, LOCATION, SERVICE, is_processing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from metering.usage import totals


GroupColumn = Literal[
    "account_id", "usage_type", "service", "from", "to", "month", "day", "hour", "corrects", "region", "tier", "payer"
]
COST_COLUMNS: tuple[GroupColumn, ...] = get_args(GroupColumn)
GROUP_COLUMNS: tuple[GroupColumn, ...] = tuple(name for name in COST_COLUMNS if name not in {"tier", "payer"})
# A frozen month belongs to one region.
MONTH_COLUMNS: tuple[GroupColumn, ...] = tuple(name for name in GROUP_COLUMNS if name != "region")

# Columns that the lake has and the usage table lacks.
DetailColumn = Literal["resource_id", "direction", "batch_id"]
DETAIL_COLUMNS: tuple[DetailColumn, ...] = get_args(DetailColumn)

Names: TypeAlias = "str | Iterable[str] | None"
"""One name, several with commas between them, or any number of them."""
PLACES = ("from_location", "to_location")
"""Columns of the two sides of a transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A filter of usage queries. Options, API parameters, client keywords and the page's form derive from it.

    Attributes:
        name: Parameter of the API and keyword of the client; with dashes, the option of a command.
        field: Attribute of `UsageQuery`, and member of `query` in the answer's JSON.
        column: Field of a usage key, and column of the lake, whose value the filter compares.
        read: Converts a value of `column` to a value of the filter.
        rule: Pattern of a whole value. Usage has no other values.
        words: The end of an error sentence that begins with the wrong value.
        url_pattern: Pattern of a value in the API's document; empty: `rule`.
        most_chars, most_values: Maximum length of a value, and number of values in a URL.
        about, about_one: Descriptions in the API's document, for several values and for one.
        example: Example value in the API's document.
        metavar, help: Texts of the option; `help` has no final full stop.
        group: The group column that has these values; None if no group column has them.
        noun: The noun that a message uses for a value that was not found.
        label, hint, all: Label of the page's field, its example, and the meaning of an empty field.
    """

    name: str
    field: str
    column: str
    read: Callable[[str], str] = str
    rule: re.Pattern[str]
    words: str
    url_pattern: str = ""
    most_chars: int
    most_values: int = 20
    about: str
    about_one: str = ""
    example: str
    metavar: str
    help: str
    group: GroupColumn | None
    noun: str
    label: str
    hint: str
    all: str = ""

    def value(self, named: object) -> str:
        """The filter value that a usage key, or another object with the field `column`, has."""
        return self.read(getattr(named, self.column))


_ACCOUNT_ID = re.compile(r"[0-9]{12}")
_PLACE = "[a-z0-9-]{1,64}(?:/[a-z0-9-]{1,32})?"
_NO_PLACE = (
    "is not a location: a location is a region, a region with a zone id (us-east-1/use1-az2), internet, cloudfront or "
    "unknown."
)
ACCOUNT = Filter(
    name="account", field="accounts", column="account_id", group="account_id", noun="account",
    rule=_ACCOUNT_ID, words="is not an account: an account has 12 digits.", most_chars=12, most_values=100,
    about="Only these accounts, with commas between them.", about_one="The account of the line: exactly one.",
    example="123456789012", metavar="ID", help="Only this account", label="Account", hint="12 digits",
)  # fmt: skip
SERVICES = Filter(
    name="service", field="services", column="service", group="service", noun="service",
    rule=SERVICE, most_chars=64,
    words="is not a service: a service is a product code of 1 to 64 letters and digits, as AmazonEC2.",
    about="Only these services, by product code, with commas between them.",
    about_one="Only this service, by product code.",
    example="AmazonEC2", metavar="CODE", help="Only this service",
    label="Service", hint="AmazonEC2", all="all services",
)  # fmt: skip
USAGE_TYPE = Filter(
    name="usage_type", field="usage_types", column="usage_type", group="usage_type", noun="usage type",
    rule=EXPLICIT_USAGE_TYPE, most_chars=128,
    words="is not a usage type: it has 1 to 128 of A-Za-z0-9:._- and begins with a letter or digit.",
    about="Only these usage types, with commas between them.", about_one="Only this usage type.",
    example="DataTransfer-Out-Bytes", metavar="TYPE", help="Only this usage type",
    label="Usage type", hint="DataTransfer-Out-Bytes",
)  # fmt: skip
FROM_LOCATION = Filter(
    name="from_location", field="from_locations", column="from_location", group="from", noun="beginning",
    rule=LOCATION, words=_NO_PLACE, url_pattern=_PLACE, most_chars=97,
    about="Only transfers from these locations, as the column `from` has them, with commas between them.",
    about_one="Only transfers from this location.",
    example="us-east-1/use1-az2", metavar="PLACE",
    help="Only transfers from this place, written as in the column `from` (us-east-1/use1-az2, internet)",
    label="From place", hint="us-east-1", all="all places",
)  # fmt: skip
TO_LOCATION = Filter(
    name="to_location", field="to_locations", column="to_location", group="to", noun="destination",
    rule=LOCATION, words=_NO_PLACE, url_pattern=_PLACE, most_chars=97,
    about="Only transfers to these locations, as the column `to` has them, with commas between them.",
    about_one="Only transfers to this location.",
    example="internet", metavar="PLACE", help="Only transfers to this place",
    label="To place", hint="internet", all="all places",
)  # fmt: skip
PAYER = replace(
    ACCOUNT, name="payer", field="payers", words="is not a payer: a payer is an account of 12 digits.",
    about="Only what these payers pay, with commas between them.", help="Only what this payer pays",
    label="Payer", group="payer",
)  # fmt: skip
FILTERS: Mapping[str, Filter] = {
    each.name: each for each in (ACCOUNT, SERVICES, USAGE_TYPE, FROM_LOCATION, TO_LOCATION)
}
"""Filters of usage by their names, in the order of help and of the API's document."""
COST_FILTERS: Mapping[str, Filter] = {"account": ACCOUNT, "payer": PAYER, **FILTERS}
"""Filters of costs."""
RESOURCE = Filter(
    name="resource", field="resources", column="resource_id", group=None, noun="resource",
    rule=re.compile(r"[^\x00-\x1f\x7f,]{1,512}"), words="is not a resource: it has 1 to 512 characters.",
    most_chars=512,
    about="Only bytes that these resources are billed for, with commas between them.",
    example="nat-0a1b2c3d4e5f60718", metavar="RESOURCE", help="Only bytes that this resource is billed for",
    label="Resource", hint="nat-0a1b2c3d4e5f60718",
)  # fmt: skip
PATH = replace(
    RESOURCE, name="path", field="paths", column="path", noun="path", rule=re.compile("[a-z_]{1,64}"), most_chars=64,
    words="is not a path: it has lower-case letters, as nat_gateway.",
    about="Only bytes on these paths, with commas between them.", example="nat_gateway", metavar="PATH",
    help="Only bytes on this path, such as nat_gateway", label="Path", hint="nat_gateway",
)  # fmt: skip
OWNER = replace(
    RESOURCE, name="owner", field="owners", column="owner", noun="owner",
    rule=re.compile(r"[^\x00-\x1f\x7f,]{1,64}"), words="is not an owner: it has 1 to 64 characters.", most_chars=64,
    about="Only bytes of these owners, or `unowned`, or `unattributed`, with commas between them.", example="search",
    metavar="OWNER", help="Only bytes of this owner, or `unowned`, or `unattributed`", label="Owner", hint="search",
)  # fmt: skip
WORKLOAD = replace(
    RESOURCE, name="workload", field="workloads", column="workload", noun="workload",
    words="is not a workload: it has 1 to 512 characters.",
    about="Only bytes of these workloads, with commas between them.", example="asg:ci-runners", metavar="NAME",
    help="Only bytes of this workload, such as asg:ci-runners", label="Workload", hint="asg:ci-runners",
)  # fmt: skip
DESTINATION = replace(
    RESOURCE, name="destination", field="destinations", column="destination", noun="destination",
    words="is not a destination: it has 1 to 512 characters.",
    about="Only bytes to or from these destinations, with commas between them.", example="S3.us-west-2",
    metavar="NAME", help="Only bytes to or from this destination, such as S3.us-west-2",
    label="Destination", hint="S3.us-west-2",
)  # fmt: skip
WHO_FILTERS: Mapping[str, Filter] = {
    each.name: each for each in (RESOURCE, USAGE_TYPE, PATH, OWNER, WORKLOAD, ACCOUNT, DESTINATION)
}
"""Filters of causes."""
WHO_COLUMNS = (
    "owner", "workload", "cause", "destination", "path", "direction", "resource", "account", "usage_type", "basis",
    "reason", "region", "hour", "day", "month",
)  # fmt: skip
"""Columns that bytes are grouped by, by their causes."""
LINE_FILTERS: Mapping[str, Filter] = {
    "usage_type": USAGE_TYPE, **{name: each for name, each in FILTERS.items() if each is not ACCOUNT},
}  # fmt: skip
"""Filters of one line of an account; each has one value."""


class UsageNames(TypedDict, total=False):
    """Keywords of the client that are filters of usage."""

    account: Names
    service: Names
    usage_type: Names
    from_location: Names
    to_location: Names


class CostNames(UsageNames, total=False):
    """Keywords of the client that are filters of costs."""

    payer: Names


class WhoNames(TypedDict, total=False):
    """Keywords of the client that are filters of causes."""

    resource: Names
    usage_type: Names
    path: Names
    owner: Names
    workload: Names
    account: Names
    destination: Names


class LineNames(TypedDict, total=False):
    """Keywords of the client that are filters of one line."""

    usage_type: str | None
    service: str | None
    from_location: str | None
    to_location: str | None


_BUCKETS = frozenset({"day", "month"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Order of a report's rows: by one of the report's columns, then by the columns that identify the rows."""

    column: str
    descending: bool = False

    @classmethod
    def of(cls, sort: str) -> Order:
        """Parse an order such as `bytes:desc`."""
        column, _, direction = sort.partition(":")
        return cls(column=column.strip(), descending=direction.strip() == "desc")

    def __str__(self) -> str:
        return f"{self.column}:{'desc' if self.descending else 'asc'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """A question about usage.

    Attributes:
        from_s, to_s: Half-open range of hours, which selects usage by booked hour. With `details`, the range selects
            rows by their start.
        group_by: Columns of the answer, in order; an empty tuple means a single total.
        accounts, services, usage_types, from_locations, to_locations: Filters; an empty filter matches everything.
            Without `accounts`, the canary's account is excluded.
        with_corrections: Also count later rows that correct hours of the range; `corrects` has the corrected hour.
        zone: Time zone of the columns hour, day and month. A day of a time zone is the sum of the UTC hours in it.
        order: Order of the rows; None to sort by the columns that identify rows.
        top: Maximum number of rows; the other rows are summed as `others`. None: all rows.
        now: Include all usage committed by now, even if not rolled up yet (P28). Lake rows always include such usage.
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
    given: tuple[tuple[Filter, frozenset[str]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = ((each, getattr(self, each.field)) for each in FILTERS.values())
        object.__setattr__(self, "given", tuple((each, values) for each, values in given if values))

    @property
    def processing_apart(self) -> bool:
        """Whether sums over usage types leave processing out; they count it only if nothing else is asked for."""
        return not self.usage_types or not all(map(is_processing, self.usage_types))

    @property
    def sums_usage_types(self) -> bool:
        """Whether a row may be a sum over usage types that leaves processing out."""
        return self.processing_apart and "usage_type" not in self.group_by

    @property
    def of_usage_types(self) -> UsageQuery:
        """The query whose totals tell processing from other usage; the column `usage_type` may come last."""
        return replace(self, group_by=(*self.group_by, "usage_type")) if self.sums_usage_types else self

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that identify the rows of the answer, in order."""
        return (*self.group_by, *self.details)

    def matches(self, key: totals.UsageKey) -> bool:
        """Whether the report includes this total."""
        if not self.accounts and key.account_id == CANARY_ACCOUNT_ID:
            return False
        return self.takes(key) and self.covers(key)

    def takes(self, named: object) -> bool:
        """Whether a usage key, or an object with its fields, passes the filters."""
        return all(each.read(getattr(named, each.column)) in values for each, values in self.given)

    def takes_only(self, columns: Collection[str], named: object) -> bool:
        """Whether the values of these columns pass their filters."""
        return all(each.value(named) in values for each, values in self.given if each.column in columns)

    def reads(self, columns: Collection[str]) -> bool:
        """Whether any filter compares one of these columns."""
        return any(each.column in columns for each, _ in self.given)

    def covers(self, key: totals.UsageKey) -> bool:
        """Whether a total is booked in the range or, if corrections are included, corrects an hour of the range."""
        return self.takes_hour(key.hour_s, key.corrects_s)

    def takes_hour(self, hour_s: int, corrects_s: int | None) -> bool:
        """Like `covers`, for a booked hour and a corrected hour."""
        if self.from_s <= hour_s < self.to_s:
            return True
        return self.with_corrections and corrects_s is not None and self.from_s <= corrects_s < self.to_s

    @property
    def grain(self) -> Grain:
        """Time resolution of the rows. Days and months of zones other than UTC are summed from hours."""
        if "hour" in self.group_by or (self.zone is not UTC and not _BUCKETS.isdisjoint(self.group_by)):
            return Grain.HOUR
        return Grain.DAY if "day" in self.group_by else Grain.MONTH

    def splits_day(self, first_s: int) -> bool:
        """Whether the report needs this day's hours, because the rows' grain is the hour or the range cuts the day."""
        return self.grain is Grain.HOUR or any(0 < end_s - first_s < DAY_S for end_s in (self.from_s, self.to_s))

    def filters(self) -> dict[str, frozenset[str]]:
        """Values of the given filters, by parameter name."""
        return {each.name: values for each, values in self.given}

    def booked_before_s(self, *, now_s: int) -> int:
        """Exclusive upper bound of the time of booking; corrections can be booked until now."""
        return max(self.to_s, now_s + 1) if self.with_corrections else self.to_s

    def months(self, *, now_s: int) -> Iterator[str]:
        """Months in which a total of the report can be booked, in order."""
        return months_between(self.from_s, self.booked_before_s(now_s=now_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageParameters:
    """The parameters of a usage query, as text from a command line or URL.

    Attributes:
        start, end: Parameters `from` and `to`; see `time_range`. Default: this month, up to the end of this hour.
        group_by: Group columns, separated by commas; default: the usage type.
        detail: Columns that only the lake has, separated by commas.
        filters: Texts of the given filters, by parameter name; each text may hold several values.
        with_corrections: Whether to count later corrections too, in rows with a column `corrects`.
        last: A span that ends with the current hour, such as `7d`, instead of `from` and `to`.
        zone: Parameter `tz`: the zone of times without a zone, and of times in the answer.
        sort: A column of the answer, including `bytes` or `records`; with the suffix `:desc`, in descending order.
        top: Maximum number of rows, the most bytes first unless `sort` is given; the other rows become one sum.
        now: Whether figures are exact as of now, including usage that is not rolled up yet.
        SUMS: Columns of figures; rows are ranked by the first column by default.
    """

    FILTERS: ClassVar[Mapping[str, Filter]] = FILTERS
    KNOWN: ClassVar[tuple[str, ...]] = GROUP_COLUMNS
    SUMS: ClassVar[tuple[str, ...]] = ("bytes", "records")

    start: str | None = None
    end: str | None = None
    group_by: str | None = None
    detail: str | None = None
    filters: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    with_corrections: bool = False
    last: str | None = None
    zone: str | None = None
    sort: str | None = None
    top: int | None = None
    now: bool = False
    budget: ReadBudget | None = None

    def query(self, *, now_s: int) -> UsageQuery:
        """The query that these parameters mean at `now_s`.

        Raises:
            InvalidParametersError: A column, time or zone does not exist, a filter has an impossible value, the range
                cuts an hour although only its totals are kept, or the answer would cost too much. Carries every problem
                found.
        """
        columns, details = column_names(self.group_by or "usage_type"), column_names(self.detail or "")
        if self.with_corrections and "corrects" not in columns:
            columns = (*columns, "corrects")
        return self.usage_query(columns, columns, details, now_s=now_s)

    def usage_query(
        self, asked: Sequence[str], columns: Sequence[str], details: Sequence[str] = (), *, now_s: int
    ) -> UsageQuery:
        """The query for usage by some `columns`, if the parameters, which ask for the columns `asked`, are valid.

        Raises:
            InvalidParametersError: As `query` does.
        """
        problems = self._problems(asked, details)
        try:
            zone, (from_s, to_s) = self._times(asked, details, now_s)
        except InvalidParametersError as error:
            raise InvalidParametersError([*problems, *error.problems]) from error
        if problems:
            raise InvalidParametersError(problems)
        query = UsageQuery(
            from_s=from_s, to_s=to_s, group_by=cast("tuple[GroupColumn, ...]", tuple(columns)),
            details=cast("tuple[DetailColumn, ...]", details), with_corrections=self.with_corrections, zone=zone,
            order=self._order(), top=self.top, now=self.now,
            **{each.field: given_names(self.filters.get(name)) for name, each in FILTERS.items()},
        )  # fmt: skip
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
            # A row has its exact start, but a correction has only the hour that it corrects.
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
            raise InvalidParametersError([refused("tz", str(zone), problem, advice)])
        return zone, (from_s, to_s)

    def _order(self) -> Order | None:
        if not self.sort:
            return None if self.top is None else Order(column=self.SUMS[0], descending=True)
        return Order.of(self.sort)

    def _problems(self, columns: Sequence[str], details: Sequence[str]) -> list[ParameterProblem]:
        return [
            *_column_problems("group_by", columns, self.KNOWN),
            *_column_problems("detail", details, DETAIL_COLUMNS),
            *self._filter_problems(),
            *ranking_problems(self.top, self.sort, (*columns, *details, *self.SUMS), of="report"),
            *_no_column(self.group_by or "", columns, self.KNOWN),
        ]

    def _filter_problems(self) -> Iterator[ParameterProblem]:
        """Problems of filter values that no usage can have, because a report on such values would silently be 0."""
        for name, each in self.FILTERS.items():
            for value in sorted(given_names(self.filters.get(name))):
                if not each.rule.fullmatch(value):
                    yield refused(name, value, each.words)


def ranking_problems(
    top: int | None, sort: str | None, columns: Sequence[str], *, of: str
) -> Iterator[ParameterProblem]:
    """Problems of parameters that rank the rows of `of`: a report or a list."""
    if top is not None and top < 1:
        yield refused("top", str(top), "is not a number of rows: 1 or more.")
    if sort is None:
        return
    column, colon, direction = sort.partition(":")
    if column.strip() not in columns:
        yield refused("sort", sort, f"is not a column of this {of}.", f"Sort by one of: {', '.join(columns)}.")
    elif colon and direction.strip() not in {"asc", "desc"}:
        advice = f"Write {column}:desc for the largest first, or {column}:asc."
        yield refused("sort", sort, "has no such direction.", advice)


def month_columns(text: str) -> tuple[GroupColumn, ...]:
    """Parse a comma-separated text of columns by which to group a frozen month.

    Raises:
        InvalidParametersError: A column does not exist, or the text contains no column name.
    """
    names = column_names(text)
    problems = [*_column_problems("group_by", names, MONTH_COLUMNS), *_no_column(text, names, GROUP_COLUMNS)]
    if problems:
        raise InvalidParametersError(problems)
    return cast("tuple[GroupColumn, ...]", names)


def months_between(from_s: int, to_s: int) -> Iterator[str]:
    """Months that overlap `[from_s, to_s)`, in order."""
    moment_s = from_s
    while moment_s < to_s:
        month = month_of(moment_s)
        yield month
        moment_s = month_bounds_s(month)[1]


def column_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated text into names, in order, without duplicates."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def given_names(texts: Sequence[str] | None) -> frozenset[str]:
    """Names given by an option that may be repeated, each time with a comma-separated list."""
    return frozenset(name for text in texts or () for name in column_names(text))


def _column_problems(parameter: str, names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterProblem]:
    for name in names:
        if name not in known:
            yield refused(parameter, name, "is not one of the columns.", _listed(known))


def _no_column(given: str, names: Sequence[str], known: Sequence[str]) -> Iterator[ParameterProblem]:
    if not names:
        yield refused("group_by", given, "names no column.", _listed(known))


def _listed(columns: Sequence[str]) -> str:
    return f"The columns are: {', '.join(columns)}."


# Cost of answering a usage query, computed before any figure is read.
#
# If a query is expensive, the command line warns about it, and the HTTP API refuses it.


class Meter(Protocol):
    """Receives the amount of each read for an answer, just before the read. The meter may raise to stop reading."""

    def hours(self, number: int = 1) -> None:
        """Hours of the lake."""

    def partitions(self, number: int = 1) -> None:
        """Partitions of the usage table. A closed month that is read instead counts as the same number."""


class _Uncounted:
    def hours(self, number: int = 1) -> None:
        pass

    def partitions(self, number: int = 1) -> None:
        pass


UNCOUNTED: Meter = _Uncounted()
"""Of who may read as much as it wants."""

# This year is earlier than the data of every region.
FIRST_YEAR = 2020


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBudget:
    """Limits on the reads for one answer. docs/decisions/0035-http-api.md has the measurements.

    Attributes:
        partitions: Partitions of the usage table: each is one account in one month.
        hours: Hours whose rows are read from the lake and staging. A closed month is read from its frozen totals,
            unless the query asks for details.
    """

    partitions: int = 200
    hours: int = 168
    months: int = 13
    first_year: int = FIRST_YEAR

    def of_range(self, from_s: int, to_s: int, *, now_s: int) -> list[ParameterProblem]:
        """Problems of a range that is too large. The range is checked before anything iterates over months or days."""
        problems: list[ParameterProblem] = []
        if from_s < _year_s(self.first_year):
            advice = f"Begin in {self.first_year} or later."
            problem = f"lies before {self.first_year}: no region has data of then."
            problems.append(refused("from", rfc3339(from_s), problem, advice))
        end_s = _after_next_month_s(now_s)
        if to_s > end_s:
            problem = "lies after the next month: nothing is booked there yet."
            problems.append(refused("to", rfc3339(to_s), problem, f"End with {rfc3339(end_s)} at the latest."))
        if not problems and (months := _months(from_s, to_s)) > self.months:
            problem = f"is the beginning of a range of {months} months, and {self.months} are the most at once."
            problems.append(refused("from", rfc3339(from_s), problem, "Ask for it in several parts."))
        return problems

    def of_query(self, query: UsageQuery, *, now_s: int) -> list[ParameterProblem]:
        """Problems of a query that reads too much of the usage table, although the query's range is allowed."""
        partitions = partitions_of(query, now_s=now_s)
        if partitions <= self.partitions:
            return []
        problem = (
            f"accounts in {partitions // len(query.accounts)} months are {partitions:,} partitions of the usage table, "
            f"and {self.partitions} are the most at once."
        )
        return [refused("account", str(len(query.accounts)), problem, "Name fewer accounts, or a shorter range.")]

    def of_hours(self, query: UsageQuery, hours: int) -> list[ParameterProblem]:
        """Problems of a query that would read this number of lake hours."""
        if hours <= self.hours:
            return []
        problem = (
            f"is the beginning of a range with {hours:,} hours that have to be read from the lake, and {self.hours} "
            "are the most at once."
        )
        advice = "Ask for a shorter range" + ("." if query.details else ", or name accounts.")
        return [refused("from", rfc3339(query.from_s), problem, advice)]


def partitions_of(query: UsageQuery, *, now_s: int) -> int:
    """Partitions of the usage table that an answer reads: each is one account in one month."""
    if query.details or not query.accounts:
        return 0
    # Future months are not read.
    last = month_of(now_s + DAY_S)
    return len(query.accounts) * sum(1 for month in query.months(now_s=now_s) if month <= last)


def most_hours(query: UsageQuery, *, now_s: int) -> int:
    """Number of lake hours that an answer reads in the worst case: every hour has rows, and no month is closed."""
    if query.accounts and not query.details:
        return 0
    before_s = min(query.booked_before_s(now_s=now_s), now_s + 2 * HOUR_S)
    return max(-(-(before_s - query.from_s) // HOUR_S), 0)


def warnings_of(query: UsageQuery, *, now_s: int, hours: int) -> Iterator[str]:
    """Warnings, before a query runs, that it reads much of the lake (`hours`) or of the usage table."""
    partitions, budget = partitions_of(query, now_s=now_s), ReadBudget()
    if partitions > budget.partitions:
        yield (
            f"This reads {partitions:,} partitions of the usage table (accounts x months), about 92 read units each. "
            "It may take a while."
        )
    if hours > budget.hours:
        yield f"This reads {hours:,} hours from the lake. It may take a while; a report on named accounts is quick."


def _months(from_s: int, to_s: int) -> int:
    first, last = (datetime.fromtimestamp(moment_s, UTC) for moment_s in (from_s, max(to_s - 1, from_s)))
    return 12 * (last.year - first.year) + last.month - first.month + 1


def _year_s(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp())


def _after_next_month_s(now_s: int) -> int:
    _, after_s = month_bounds_s(month_of(now_s))
    # In another time zone, a day may end later.
    return month_bounds_s(month_of(after_s))[1] + DAY_S


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_AFTER_S = (datetime(9998, 1, 1, tzinfo=UTC) - _EPOCH) // _SECOND
_WRITE = "Write its beginning, as 2026-11-24T13:00:00Z."

# Together with its account, these columns identify a total of the service.
KEY_COLUMNS = ("usage_type", "service", "from", "to", "hour", "corrects")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceParameters:
    """The parameters for tracing one line of usage, as text from a command line or URL.

    Attributes:
        filters: Text of each given filter, by parameter name; see `LINE_FILTERS`.
        start, end: Parameters `from` and `to`; see `time_range`. Default: this month, up to the end of this hour.
    """

    account: str | None = None
    filters: Mapping[str, str | None] = field(default_factory=dict)
    hour: str | None = None
    start: str | None = None
    end: str | None = None
    last: str | None = None

    def query(self, *, now_s: int) -> UsageQuery:
        """The query for the usage that is summed in the line; the query returns each stored total separately.

        Raises:
            InvalidParametersError: There is no account or several, a time is invalid, a filter has an impossible value,
                or the range cuts an hour. Carries every problem found.
        """
        problems = list(self._account_problems())
        hour = None if self.hour is None else self._hour(self.hour)
        start, end = self.start, self.end
        if isinstance(hour, int):
            start, end = rfc3339(hour), rfc3339(hour + HOUR_S)
        elif hour is not None:
            problems.append(hour)
        asked = UsageParameters(
            start=start,
            end=end,
            last=self.last,
            group_by=",".join(KEY_COLUMNS),
            filters={name: _given(text) for name, text in {**self.filters, "account": self.account}.items()},
        )
        try:
            query = asked.query(now_s=now_s)
        except InvalidParametersError as error:
            found = self._of_hour(error.problems) if isinstance(hour, int) else error.problems
            raise InvalidParametersError([*problems, *found]) from error
        if problems:
            raise InvalidParametersError(problems)
        return query

    def _account_problems(self) -> Iterator[ParameterProblem]:
        named = given_names(_given(self.account))
        if len(named) != 1:
            problem = "names several accounts." if named else "names no account."
            yield refused("account", self.account or "", problem, "A line is of one account: name it by its 12 digits.")

    def _hour(self, text: str) -> int | ParameterProblem:
        if self.start or self.end or self.last:
            return refused("hour", text, "cannot stand beside a range.", "Name one hour, or from and to.")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return refused("hour", text, "is not an hour.", _WRITE)
        if moment.tzinfo is None:
            return refused("hour", text, "is not an hour with its time zone.", _WRITE)
        begins_s = (moment - _EPOCH) // _SECOND
        if moment.microsecond or begins_s % HOUR_S:
            return refused("hour", text, "is not on the hour.", _WRITE)
        if not 0 <= begins_s < _AFTER_S:
            return refused("hour", text, "lies outside the years that a report can be about.", _WRITE)
        return begins_s

    def _of_hour(self, problems: Iterable[ParameterProblem]) -> Iterator[ParameterProblem]:
        """The problems; if the range was made from `hour`, problems of the range name `hour`."""
        for each in problems:
            yield (
                refused("hour", self.hour or "", each.problem, each.advice)
                if each.parameter in {"from", "to"}
                else each
            )


def _given(text: str | None) -> tuple[str, ...]:
    return () if text is None else (text,)
