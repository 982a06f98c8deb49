"""Sums of causes: bytes of the rows that the biller keeps of each day, by any columns.

Rows are summed in Arrow, one row group after the other, first by cause. Names and owners are looked up once for each
distinct cause of a day, and for each stretch of hours in which they are the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.causes.days import CauseDays
from metering.billing.causes.names import CauseNames
from metering.billing.owners import NETWORK_NAME, UNOWNED, Attributes
from metering.hours import rfc3339
from metering.lake.parquet.reader import Sums, halves_of
from metering.lake.ports import RowQuery
from metering.onramps.rules.causes import CLOUDFRONT, INTERNET, PRIVATE
from metering.reports.query import UNCOUNTED, Meter
from metering.reports.time_range import InvalidParametersError, check_rows, refused
from metering.reports.usage_rows import value_functions
from metering.reports.who import ANOTHER_ACCOUNT, BY_RULE, RAW, TIMES, UNATTRIBUTED, Entry, WhoQuery
from metering.reports.who_costs import LineKey
from metering.units import DAY_S
from metering.usage.totals import Service, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.causes.index import CauseIndex
    from metering.billing.owners import Owners
    from metering.reports.who_costs import Lines
    from metering.stores.objects import ObjectStore

# Names of no account, as those of networks that people named: `S3.us-west-2`, `GLOBALACCELERATOR`.
_PUBLIC = re.compile(r"[A-Z][A-Z0-9_]*(\.[a-z0-9-]+)?")
_EVERYBODYS = frozenset({"", INTERNET, CLOUDFRONT, PRIVATE})
_LOOKED_UP = frozenset({"owner", "workload"})
_METERED_ROWS = 250_000
_NUMBERS = ("low", "high", "records")
_LINE = ("account_id", "service", "usage_type", "from", "to")
_KEY = ("account_id", "resource_id", "cause")


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseSource:
    """Causes of a region, as of one version of their index."""

    region: str
    objects: ObjectStore
    index: CauseIndex
    _names: dict[int, CauseNames] = field(default_factory=dict)

    def tables(
        self, day_s: int, columns: Sequence[str], where: Mapping[str, frozenset[str]] | None = None
    ) -> Iterator[pa.Table]:
        """Rows of a day, as `CauseDays.tables` gives them, without the names that later captures took back."""
        days = CauseDays(self.objects, self.index, {day_s: self.names(day_s).reused})
        return days.tables(day_s, columns, where=where)

    def workloads(self, table: pa.Table) -> pa.DictionaryArray:
        """The workload of each row, which has a `cause` and an `own_hour`; empty without a cause."""
        numbers, groups = _distinct([table.column(name).combine_chunks() for name in ("cause", "own_hour")])
        return _taken([self._workload(str(cause), cast("int", hour_s)) for cause, hour_s in groups], numbers)

    def _workload(self, cause: str, hour_s: int) -> str:
        known = self.names(hour_s - hour_s % DAY_S).at(cause, hour_s)
        return cause if known is None else known.workload or cause

    def names(self, day_s: int) -> CauseNames:
        """Names of a day.

        Raises:
            ObjectMissingError: They were replaced during the read.
            ObjectDamagedError: They cannot be read.
        """
        if day_s not in self._names:
            # A correction is of another day than those around it, so few days suffice.
            while len(self._names) > 2:
                del self._names[next(iter(self._names))]
            self._names[day_s] = CauseNames.read(self.objects, day_s, self.index.names.get(day_s))
        return self._names[day_s]


class _Named(NamedTuple):
    """A cause as an answer shows it."""

    owner: str
    workload: str
    cause: str
    attributes: Attributes | None
    shown: bool = True


class CauseSums:
    """Sums of causes for a query. Mutable.

    Args:
        query: Columns, filters and range.
        owners: Rules that name the owners.
        granted: Accounts that the caller may see; None for all. Names of other accounts are not shown.
        most: Largest number of groups.
        most_rows: Largest number of rows to read; None for no limit.
        lines: Lines of the usage with their costs; None without costs.
        meter: Counts what is read, a day as an hour of the lake for each `_METERED_ROWS` begun.
    """

    def __init__(
        self,
        query: WhoQuery,
        owners: Owners,
        *,
        granted: frozenset[str] | None = None,
        most: int | None = None,
        most_rows: int | None = None,
        meter: Meter = UNCOUNTED,
        lines: Lines | None = None,
    ) -> None:
        self._query, self._granted, self._most = query, granted, most
        self._rows_left, self._meter = most_rows, meter
        self._rules = _Rules(owners)
        self._lines = lines
        self.columns = tuple(dict.fromkeys((*query.columns, "basis", "reason")))
        self._rated = (*self.columns, *(() if lines is None else ("rate",)))
        self._sums = Sums(RowQuery(columns=self._rated))

    def entries(self) -> Iterator[Entry]:
        """Each group once, with its exact bytes."""
        for group, total in self._sums.groups():
            values = dict(zip(self.columns, map(str, group), strict=False))
            if self._lines is None:
                yield Entry(values, total.bytes)
                continue
            yield Entry(values, total.bytes, self._lines.rates[cast("int", group[-1])].cost(total.bytes))

    def add(self, source: CauseSource) -> None:
        """Add the causes of a region.

        Raises:
            InvalidParametersError: There are more groups than `most`, or more rows than `most_rows`.
            ObjectMissingError: An object was replaced during the read.
            ObjectDamagedError: An object cannot be read.
        """
        usage = self._query.usage
        days = [day_s for day_s in sorted(source.index.days) if usage.from_s < day_s + DAY_S and day_s < usage.to_s]
        rows = {day_s: self._rows(source.index, day_s) for day_s in days}
        if self._rows_left is not None:
            self._rows_left -= sum(rows.values())
            if self._rows_left < 0:
                problem = "is the beginning of a range with more rows of causes than are read at once."
                advice = "Ask for a shorter range, or name a resource."
                raise InvalidParametersError([refused("from", rfc3339(usage.from_s), problem, advice)])
        for day_s in days:
            self._meter.hours(-(-rows[day_s] // _METERED_ROWS))
            self._add_day(source, day_s)

    def _rows(self, index: CauseIndex, day_s: int) -> int:
        """Rows in the pieces of a day that may have what is asked for."""
        wanted = self._query.given.get("resource")
        return sum(
            piece.rows for piece in index.days[day_s]
            if wanted is None or any(piece.first <= each <= piece.last for each in wanted)
        )  # fmt: skip

    @property
    def _looks_up(self) -> bool:
        asked = {*self.columns, *self._query.given}
        return not _LOOKED_UP.isdisjoint(asked) or (self._granted is not None and "cause" in asked)

    def _add_day(self, source: CauseSource, day_s: int) -> None:
        usage = self._query.usage
        hides = self._granted is not None and not {"destination"}.isdisjoint({*self.columns, *self._query.given})
        raw = dict.fromkeys(RAW[name] for name in self.columns if name in RAW)
        raw |= dict.fromkeys(_KEY if self._looks_up or hides else ())
        raw |= dict.fromkeys(("destination",) if hides else ())
        cuts = usage.from_s > day_s or usage.to_s < day_s + DAY_S
        by_hour = "hour" in self.columns or (str(usage.zone) != "UTC" and not TIMES.isdisjoint(self.columns))
        if self._lines is not None:
            raw |= dict.fromkeys(_LINE)
            by_hour = by_hour or self._lines.by_hour(day_s)
        more = {"hour": by_hour, "stretch": self._looks_up or hides, "late": self._lines is not None}
        keys = (*raw, *(name for name, is_needed in more.items() if is_needed))
        columns = tuple(dict.fromkeys((*raw, "hour", "own_hour", "bytes")))
        where = {RAW[name]: values for name, values in self._query.given.items() if name in RAW}
        if hides:
            where.pop("destination", None)
        sums, asked = Sums(RowQuery(columns=keys)), RowQuery(columns=keys)
        cut = self._cut_causes(source, day_s) if "stretch" in keys else None
        for table in source.tables(day_s, columns, where):
            if cuts:
                hour = table.column("hour")
                table = table.filter(pc.and_(pc.greater_equal(hour, usage.from_s), pc.less(hour, usage.to_s)))  # noqa: PLW2901
            if "stretch" in keys:
                table = table.append_column("stretch", self._stretches(table, cut, day_s))  # noqa: PLW2901
            if "late" in keys:
                late = pc.not_equal(table.column("own_hour"), table.column("hour"))
                table = table.append_column("late", late)  # noqa: PLW2901
            sums.add(halves_of(table, asked))
        found = sums.table()
        if found.num_rows:
            self._sums.add(self._finished(found.rename_columns([*keys, *_NUMBERS]), source, day_s))
            whole = self._sums.table()
            check_rows(whole.num_rows, self._most)
            self._sums = Sums(RowQuery(columns=self._rated))
            self._sums.add(whole)

    @staticmethod
    def _cut_causes(source: CauseSource, day_s: int) -> pa.Array:
        """Causes of which something else is known later in the day."""
        stretches = source.names(day_s).stretches
        return pa.array([cause for cause, each in stretches.items() if len(each) > 1], pa.string())

    def _stretches(self, table: pa.Table, cut: pa.Array | None, day_s: int) -> pa.Array:
        """For each row, an hour with the same names and owners as its own hour: mostly the first one of the day."""
        own = table.column("own_hour").combine_chunks()
        if self._rules.change_in(day_s):
            return own
        apart = pc.or_(pc.less(own, day_s), pc.greater_equal(own, day_s + DAY_S))
        if cut is not None and len(cut):
            causes = table.column("cause").combine_chunks()
            apart = pc.or_(apart, pc.is_in(causes.cast(pa.string()), cut))
        return pc.if_else(apart, own, day_s)

    def _finished(self, table: pa.Table, source: CauseSource, day_s: int) -> pa.Table:
        """The sums of a day by the columns of the answer."""
        made: dict[str, pa.Array] = {
            name: table.column(RAW[name]).combine_chunks() for name in self.columns if name in RAW
        }
        fits: pa.Array | None = None
        if "stretch" in table.column_names:
            hides = "destination" in table.column_names and self._granted is not None
            keys = (*_KEY, "stretch", *(("destination",) if hides else ()))
            numbers, groups = _distinct([table.column(name).combine_chunks() for name in keys])
            named = [self._named(group, source) for group in groups]
            of = {name: [getattr(each, name) for each in named] for name in ("owner", "workload", "cause")}
            if hides:
                of["destination"] = list(self._destinations(named, [str(group[4]) for group in groups]))
            made |= {name: _taken(values, numbers) for name, values in of.items() if name in self.columns}
            ruled = pa.array([not each.cause and each.owner != UNATTRIBUTED for each in named]).take(numbers)
            made["basis"] = pc.if_else(ruled, BY_RULE, made["basis"].cast(pa.string())).dictionary_encode()
            wanted = [(of[name], values) for name, values in self._query.given.items() if name in of]
            if wanted:
                mask = [all(of_each[place] in values for of_each, values in wanted) for place in range(len(groups))]
                fits = pa.array(mask).take(numbers)
        made |= self._labels(table, source.region, day_s)
        if self._lines is not None:
            made["rate"] = self._rates(table, source.region, day_s, self._lines)
        arrays = [*(made[name] for name in self._rated), *(table.column(name) for name in _NUMBERS)]
        found = pa.table(arrays, names=[*(f"c{place}" for place in range(len(self._rated))), *_NUMBERS])
        return found if fits is None else found.filter(fits)

    @staticmethod
    def _rates(table: pa.Table, region: str, day_s: int, lines: Lines) -> pa.Array:
        """Number of the rate of each row's line."""
        by_hour = lines.by_hour(day_s)
        keys = (*_LINE, "late", *(("hour",) if by_hour else ()))
        numbers, groups = _distinct([table.column(name).combine_chunks() for name in keys])
        found: list[int] = []
        for group in groups:
            account_id, service, usage_type, from_location, to_location = map(str, group[:5])
            begin_s = cast("int", group[6]) if by_hour else day_s
            key = LineKey(region, account_id, service, usage_type, from_location, to_location, bool(group[5]), begin_s)
            found.append(lines.number(key))
        return pa.array(found, pa.int64()).take(numbers)

    def _named(self, group: tuple[object, ...], source: CauseSource) -> _Named:
        account_id, resource_id, cause = map(str, group[:3])
        stretch_s = cast("int", group[3])
        if not cause:
            of_gateway = Attributes(account_id, resource_id, "", "", "", {})
            owner = self._rules.owner_of(of_gateway, stretch_s, unattributed=True)
            return _Named(owner, UNATTRIBUTED, "", None)
        found = source.names(stretch_s - stretch_s % DAY_S).at(cause, stretch_s)
        known = Attributes("", cause, cause, "", "", {}) if found is None else found
        own = cause == resource_id or (self._granted is not None and known.account in self._granted)
        if self._granted is not None and not own:
            return _Named(ANOTHER_ACCOUNT, ANOTHER_ACCOUNT, ANOTHER_ACCOUNT, None, shown=False)
        known = known._replace(account=known.account or account_id)
        return _Named(self._rules.owner_of(known, stretch_s), known.workload or cause, cause, known)

    @staticmethod
    def _destinations(named: Sequence[_Named], destinations: Sequence[str]) -> Iterator[str]:
        """Destinations as the caller may see them: names of own networks only if a cause of its accounts has them."""
        own = {
            name for each in named if each.attributes is not None
            for name in (each.cause, each.attributes.workload, each.attributes.subnet)
        }  # fmt: skip
        for name in destinations:
            common = name in _EVERYBODYS or _PUBLIC.fullmatch(name) or NETWORK_NAME.fullmatch(name)
            yield name if common or name in own else ANOTHER_ACCOUNT

    def _labels(self, table: pa.Table, region: str, day_s: int) -> dict[str, pa.Array]:
        """Columns of time and region."""
        asked = [name for name in self.columns if name in TIMES or name == "region"]
        if not asked:
            return {}
        by_hour = "hour" in table.column_names
        hours = table.column("hour").combine_chunks() if by_hour else pa.repeat(day_s, table.num_rows)
        numbers, groups = _distinct([hours])
        group_by: tuple[str, ...] = self._query.usage.group_by
        functions = dict(zip(group_by, value_functions(self._query.usage, region), strict=True))
        keys = [UsageKey(cast("int", hour_s), "", UsageType(""), Service(""), "", "") for (hour_s,) in groups]
        return {name: _taken([functions[name](key) for key in keys], numbers) for name in asked}


class _Rules:
    """Rules of owners, each asked once about the same names between two hours at which rules change."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self._changes = sorted({hour_s for rule in owners.rules for hour_s in (rule.from_s, rule.to_s) if hour_s})
        self._known: dict[tuple[object, ...], str] = {}

    def change_in(self, day_s: int) -> bool:
        """Whether rules begin or end within the day."""
        return any(day_s < hour_s < day_s + DAY_S for hour_s in self._changes)

    def owner_of(self, found: Attributes, hour_s: int, *, unattributed: bool = False) -> str:
        """Owner of a cause; of what is `unattributed` only by a rule that asks for the gateway's id."""
        key = (bisect_right(self._changes, hour_s), *found[:5], *found.tags.items(), unattributed)
        if key not in self._known:
            rule = self._owners.rule_of(found, hour_s)
            if unattributed:
                self._known[key] = rule.owner if rule is not None and rule.names_resource else UNATTRIBUTED
            else:
                self._known[key] = UNOWNED if rule is None else rule.owner
        return self._known[key]


def _distinct(columns: Sequence[pa.Array]) -> tuple[pa.Array, list[tuple[object, ...]]]:
    """For each row, the place of its values in a list of distinct tuples."""
    numbers: pa.Array | None = None
    groups: list[tuple[object, ...]] = [()]
    for column in columns:
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        values, own = encoded.dictionary.to_pylist(), encoded.indices.cast(pa.int64())
        joined = own if numbers is None else pc.add(pc.multiply(numbers, len(values)), own)
        found = joined.dictionary_encode()
        places = [divmod(number, len(values)) for number in found.dictionary.to_pylist()]
        groups = [(*groups[before], values[place]) for before, place in places]
        numbers = found.indices.cast(pa.int64())
    return numbers, groups


def _taken(values: Sequence[str], numbers: pa.Array) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode().take(numbers)
