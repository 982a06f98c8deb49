"""Sums of causes: bytes of the rows that the biller keeps of each day, by any columns.

Rows are summed in Arrow, one row group after the other, first by cause. Names and owners are looked up once for each
distinct cause of a day, and for each stretch of hours in which they are the same.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.causes.days import CauseDays
from metering.billing.causes.names import CauseNames
from metering.billing.owners import NETWORK_NAME, UNOWNED, Attributes
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.lake.parquet.reader import Sums, halves_of
from metering.lake.ports import RowQuery
from metering.onramps.rules.causes import CLOUDFRONT, INTERNET, PRIVATE
from metering.reports.query import UNCOUNTED, Meter
from metering.reports.time_range import InvalidParametersError, check_rows, refused
from metering.reports.usage_rows import value_functions
from metering.reports.who import ANOTHER_ACCOUNT, BY_RULE, RAW, TIMES, UNATTRIBUTED, Entry, WhoQuery
from metering.reports.who_costs import LineKey
from metering.stores.clock import side_by_side
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
_THREADS, _NAMES_KEPT = 2, 4
_NUMBERS = ("low", "high", "records")
_LINE = ("account_id", "service", "usage_type", "from", "to")
# What names and owners depend on: `whose` is the account of bytes whose cause has no known account, `gateway` the
# resource of bytes without a cause, and `stretch` an hour. `own` says that the cause is the resource, which
# matters only to who may not see all accounts.
_KEY = ("cause", "whose", "gateway", "stretch", "own")


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseSource:
    """Causes of a region, as of one version of their index."""

    region: str
    objects: ObjectStore
    index: CauseIndex
    _names: dict[int, CauseNames] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

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
        with self._lock:
            found = self._names.get(day_s)
        if found is None:
            found = CauseNames.read(self.objects, day_s, self.index.names.get(day_s))
            with self._lock:
                # A correction is of another day than those around it, so few days suffice.
                while len(self._names) >= _NAMES_KEPT:
                    del self._names[next(iter(self._names))]
                self._names[day_s] = found
        return found


class _Named(NamedTuple):
    """A cause as an answer shows it."""

    owner: str
    workload: str
    cause: str
    attributes: Attributes | None

    @property
    def tags(self) -> str:
        """Its tags as a JSON object."""
        return json.dumps({} if self.attributes is None else dict(self.attributes.tags))


class CauseSums:
    """Sums of causes for a query. Mutable.

    Args:
        query: Columns, filters and range.
        owners: Rules that name the owners.
        granted: Accounts that the caller may see; None for all. Names of other accounts are not shown.
        most: Largest number of groups.
        most_rows: Largest number of rows to read; None for no limit.
        lines: Lines of the usage with their costs; None without costs.
        corrections: Whether late usage of closed months counts.
        closed: Rules of closed months, in place of `owners`.
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
        corrections: bool = True,
        closed: Mapping[str, Owners] | None = None,
    ) -> None:
        self._query, self._granted, self._most = query, granted, most
        self._rows_left, self._meter = most_rows, meter
        self._rules = _Rules(owners, closed or {})
        self._key = _KEY if granted is not None else _KEY[:-1]
        self._known: dict[tuple[object, ...], _Named] = {}
        self._lines, self._corrections = lines, corrections
        self.columns = tuple(dict.fromkeys((*query.columns, "basis", "reason")))
        self._rated = (*self.columns, *(() if lines is None else ("rate",)))
        self._sums, self._added = Sums(RowQuery(columns=self._rated)), 0

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
        # Arrow works without the interpreter's lock. Numbers of rates are given by one thread.
        threads = _THREADS if self._lines is None else 1
        of_days = side_by_side(lambda day_s: self._of_day(source, day_s), days, threads=threads)
        for day_s, table in zip(days, of_days, strict=True):
            self._meter.hours(-(-rows[day_s] // _METERED_ROWS))
            if table is not None:
                self._add(table)

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

    def _add(self, table: pa.Table) -> None:
        self._sums.add(table)
        self._added += table.num_rows
        if self._most is None or self._added <= self._most:
            return
        # There may be too many groups: only sums tell.
        whole = self._sums.table()
        check_rows(whole.num_rows, self._most)
        self._sums, self._added = Sums(RowQuery(columns=self._rated)), whole.num_rows
        self._sums.add(whole)

    def _of_day(self, source: CauseSource, day_s: int) -> pa.Table | None:
        """Sums of a day by the columns of the answer; None for a day without rows."""
        usage, asked = self._query.usage, {*self.columns, *self._query.given}
        hides = self._granted is not None and "destination" in asked
        looks_up = self._looks_up or hides
        raw = dict.fromkeys(RAW[name] for name in self.columns if name in RAW)
        raw |= dict.fromkeys((*(_KEY[:1] if looks_up else ()), *(("destination",) if hides else ())))
        cuts = usage.from_s > day_s or usage.to_s < day_s + DAY_S
        by_hour = "hour" in self.columns or (str(usage.zone) != "UTC" and not TIMES.isdisjoint(self.columns))
        if self._lines is not None:
            raw |= dict.fromkeys(_LINE)
            by_hour = by_hour or self._lines.by_hour(day_s)
        of_lines = self._lines is not None
        more = {"hour": by_hour, **dict.fromkeys(self._key[1:], looks_up), "late": of_lines}
        keys = (*raw, *(name for name, is_needed in more.items() if is_needed))
        told = of_lines or not self._corrections
        read = {"hour": by_hour or cuts or told, "own_hour": looks_up or told}
        read |= dict.fromkeys(("resource_id", "account_id"), looks_up)
        columns = dict.fromkeys((*raw, *(name for name, is_needed in read.items() if is_needed), "bytes"))
        where = {RAW[name]: values for name, values in self._query.given.items() if name in RAW}
        if hides:
            where.pop("destination", None)
        sums, query = Sums(RowQuery(columns=keys)), RowQuery(columns=keys)
        known = _KnownCauses.of(source.names(day_s)) if looks_up else None
        for table in source.tables(day_s, tuple(columns), where):
            if cuts:
                hour = table.column("hour")
                table = table.filter(pc.and_(pc.greater_equal(hour, usage.from_s), pc.less(hour, usage.to_s)))  # noqa: PLW2901
            if not self._corrections:
                table = table.filter(pc.equal(table.column("hour"), table.column("own_hour")))  # noqa: PLW2901
            for name, values in self._derived(table, known, day_s).items():
                table = table.append_column(name, values)  # noqa: PLW2901
            sums.add(halves_of(table, query))
        found = sums.table()
        if not found.num_rows:
            return None
        return self._finished(found.rename_columns([*keys, *_NUMBERS]), source, day_s)

    def _derived(self, table: pa.Table, known: _KnownCauses | None, day_s: int) -> dict[str, pa.Array]:
        """Columns of the sums that no row has."""
        made: dict[str, pa.Array] = {}
        if known is not None:
            names = ("resource_id", "cause", "account_id")
            resource, cause, account = (table.column(name).combine_chunks() for name in names)
            located = pc.is_in(cause.dictionary, known.located).take(cause.indices)
            made["whose"] = _where(pc.invert(located), account)
            made["gateway"] = _where(pc.equal(cause.indices, pc.index(cause.dictionary, "")), resource)
            if self._granted is not None:
                made["own"] = pc.equal(resource.cast(pa.string()), cause.cast(pa.string()))
            made["stretch"] = self._stretches(table, known.cut, day_s)
        if self._lines is not None:
            made["late"] = pc.not_equal(table.column("own_hour"), table.column("hour")).combine_chunks()
        return made

    def _stretches(self, table: pa.Table, cut: pa.Array, day_s: int) -> pa.Array:
        """For each row, an hour with the same names and owners as its own hour: mostly the first one of the day."""
        own = table.column("own_hour").combine_chunks()
        if self._rules.change_in(day_s):
            return own
        apart = pc.or_(pc.less(own, day_s), pc.greater_equal(own, day_s + DAY_S))
        if len(cut):
            causes = table.column("cause").combine_chunks()
            apart = pc.or_(apart, pc.is_in(causes.dictionary, cut).take(causes.indices))
        return pc.if_else(apart, own, day_s)

    def _finished(self, table: pa.Table, source: CauseSource, day_s: int) -> pa.Table:
        """The sums of a day by the columns of the answer."""
        made: dict[str, pa.Array] = {
            name: table.column(RAW[name]).combine_chunks() for name in self.columns if name in RAW
        }
        fits: pa.Array | None = None
        if "stretch" in table.column_names:
            hides = "destination" in table.column_names and self._granted is not None
            keys = (*self._key, *(("destination",) if hides else ()))
            numbers, groups = _distinct([table.column(name).combine_chunks() for name in keys])
            named = [self._named(group, source) for group in groups]
            shown = ("owner", "workload", "cause", *(("tags",) if "tags" in self.columns else ()))
            of = {name: [getattr(each, name) for each in named] for name in shown}
            if hides:
                of["destination"] = list(self._destinations(named, [str(group[5]) for group in groups]))
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
        cause, account_id, gateway, stretch_s = cast("tuple[str, str, str, int]", group[:4])
        own = self._granted is None or bool(group[4])
        found = source.names(stretch_s - stretch_s % DAY_S).at(cause, stretch_s) if cause else None
        known = Attributes("", cause or gateway, cause, "", "", {}) if found is None else found
        key = (account_id, cause, own, self._rules.span(stretch_s), *known[:5], *known.tags.items())
        shown = self._known.get(key)
        if shown is None:
            shown = self._known[key] = self._shown(account_id, cause, known, stretch_s, own=own)
        return shown

    def _shown(self, account_id: str, cause: str, known: Attributes, hour_s: int, *, own: bool) -> _Named:
        """A cause as the caller may see it."""
        if not cause:
            of_gateway = Attributes(account_id, known.resource, "", "", "", {})
            return _Named(self._rules.owner_of(of_gateway, hour_s, unattributed=True), UNATTRIBUTED, "", None)
        if self._granted is not None and not own and known.account not in self._granted:
            return _Named(ANOTHER_ACCOUNT, ANOTHER_ACCOUNT, ANOTHER_ACCOUNT, None)
        known = known._replace(account=known.account or account_id)
        return _Named(self._rules.owner_of(known, hour_s), known.workload or cause, cause, known)

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
    """Rules of owners, and the spans of time in which the same rules hold."""

    def __init__(self, owners: Owners, closed: Mapping[str, Owners]) -> None:
        self._owners, self._closed = owners, closed
        rules = [rule for book in (owners, *closed.values()) for rule in book.rules]
        changes = {hour_s for rule in rules for hour_s in (rule.from_s, rule.to_s) if hour_s}
        self._changes = sorted(changes.union(*map(month_bounds_s, closed)))

    def span(self, hour_s: int) -> int:
        """Number of an hour's span."""
        return bisect_right(self._changes, hour_s)

    def change_in(self, day_s: int) -> bool:
        """Whether rules begin or end within the day."""
        return any(day_s < hour_s < day_s + DAY_S for hour_s in self._changes)

    def owner_of(self, found: Attributes, hour_s: int, *, unattributed: bool = False) -> str:
        """Owner of a cause; of what is `unattributed` only by a rule that asks for the gateway's id."""
        rule = self._closed.get(month_of(hour_s), self._owners).rule_of(found, hour_s)
        if unattributed:
            return rule.owner if rule is not None and rule.names_resource else UNATTRIBUTED
        return UNOWNED if rule is None else rule.owner


class _KnownCauses(NamedTuple):
    """Causes of a day whose account is known, and those of which something else is known later in the day."""

    located: pa.Array
    cut: pa.Array

    @classmethod
    def of(cls, names: CauseNames) -> _KnownCauses:
        every = names.stretches.items()
        located = [cause for cause, stretches in every if all(each.account_id for each in stretches)]
        return cls(
            pa.array(located, pa.string()),
            pa.array([cause for cause, stretches in every if len(stretches) > 1], pa.string()),
        )


def _where(mask: pa.Array, column: pa.DictionaryArray) -> pa.DictionaryArray:
    """A column of text, empty where the mask is false."""
    texts = pa.concat_arrays([column.dictionary, pa.array([""])])
    indices = pc.if_else(mask, column.indices, len(texts) - 1).cast(pa.int32())
    return pa.DictionaryArray.from_arrays(indices, texts)


def _distinct(columns: Sequence[pa.Array]) -> tuple[pa.Array, list[tuple[object, ...]]]:
    """For each row, the place of its values in a list of distinct tuples."""
    numbers: pa.Array | None = None
    groups: list[pa.Array] = []
    for column in columns:
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        size, own = len(encoded.dictionary), encoded.indices.cast(pa.int64())
        found = (own if numbers is None else pc.add(pc.multiply(numbers, size), own)).dictionary_encode()
        before = pc.divide(found.dictionary, size or 1)
        place = pc.subtract(found.dictionary, pc.multiply(before, size))
        groups = [*(each.take(before) for each in groups), encoded.dictionary.take(place)]
        numbers = found.indices.cast(pa.int64())
    return numbers, list(zip(*(each.to_pylist() for each in groups), strict=True))


def _taken(values: Sequence[str], numbers: pa.Array) -> pa.Array:
    return pa.array(values, pa.string()).dictionary_encode().take(numbers)
