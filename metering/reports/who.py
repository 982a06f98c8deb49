"""Causes of usage: the question, the remainder of the usage, and the answer.

Bytes of two usage types are never added up, because processing is a second count of other bytes: each grouping has the
usage type. What no cause is known for stays apart, with its reason; what no log metered is the remainder of the usage.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from functools import reduce
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from metering.billing.money import usd_text
from metering.billing.owners import UNOWNED
from metering.errors import LedgerCorruptError
from metering.hours import rfc3339
from metering.onramps.rules.causes import FREE
from metering.reports import answer, usage_answer
from metering.reports.operators.ingest_answer import percent
from metering.reports.query import WHO_COLUMNS, WHO_FILTERS, Filter, UsageParameters, column_names, given_names
from metering.reports.who_costs import METHOD, NO_COST, Cost, shown_units
from metering.units import GIB, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from fractions import Fraction

    from metering.audit.freshness import Complete
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import UsageRow

UNATTRIBUTED, ANOTHER_ACCOUNT, OTHERS = "unattributed", "another account", "others"
_Key = tuple[str, ...]
BY_RULE = "rule"
"""Basis of bytes without a cause whose owner is named by a rule about their resource."""
OTHER_USAGE = "other_usage"
"""Reason of usage that no log has metered, or whose causes are not counted yet."""
BASES = ("told", "seen", "inventory", "split", BY_RULE)
RAW = {
    "cause": "cause", "destination": "destination", "path": "path", "direction": "direction",
    "resource": "resource_id", "account": "account_id", "usage_type": "usage_type", "basis": "basis",
    "reason": "reason", "service": "service", "from": "from", "to": "to",
}  # fmt: skip
"""Columns of answers and exports that are columns of the rows of a day."""
TIMES = frozenset({"hour", "day", "month"})
# Columns that usage without causes has, too, by the name that usage calls them.
_OF_USAGE = {"account": "account_id", "region": "region", "hour": "hour", "day": "day", "month": "month"}
_FILTERS_OF_USAGE = frozenset({"account", "usage_type"})
_WHOSE = "owner,workload,destination"
_FIRST_RESOURCES = 10
# Fields of a flow log would name what these reasons leave without a name.
_LACKS_FIELDS = frozenset({"side_unknown", "direction_unknown", "interface_unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoQuery:
    """A question about causes.

    Attributes:
        usage: The usage that the causes are parts of: range, accounts, usage types, zone, and the columns that it has.
        group_by: Columns of the answer, in order; the usage type is one of them.
        given: Column -> values that its bytes must have.
        top: Largest number of rows of each usage type; the others become one row. None: all rows.
        cost: Whether bytes have costs.
        resources: Whether the answer lists resources, each with the share that has a name.
    """

    usage: UsageQuery
    group_by: tuple[str, ...]
    given: Mapping[str, frozenset[str]]
    top: int | None = None
    resources: bool = False
    cost: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the rows, in order: also the reason of unattributed bytes."""
        return self.group_by if self.resources or "reason" in self.group_by else (*self.group_by, "reason")

    @property
    def names_owners(self) -> bool:
        """Whether the answer needs the book of owners."""
        return "owner" in self.group_by or "owner" in self.given

    @property
    def whole(self) -> bool:
        """Whether all causes of the usage are asked for, so that what is left of the usage is known."""
        return self.given.keys() <= _FILTERS_OF_USAGE

    def document(self) -> dict[str, answer.Json]:
        """The question, in the contract's form."""
        filters = {WHO_FILTERS[name].field: sorted(values) for name, values in self.given.items()}
        document = {**usage_answer.query_document(self.usage), "group_by": list(self.group_by), **filters}
        document |= {"cost": True} if self.cost else {}
        return document if self.top is None else {**document, "top": self.top}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhoParameters(UsageParameters):
    """The parameters of a question about causes, as text. Without a column or a resource, resources are listed.

    Attributes:
        owners: Version of the book of owners; None for the newest one.
        cost: Whether to ask for costs, too.
    """

    FILTERS: ClassVar[Mapping[str, Filter]] = WHO_FILTERS
    KNOWN: ClassVar[tuple[str, ...]] = WHO_COLUMNS
    SUMS: ClassVar[tuple[str, ...]] = ("bytes",)

    owners: int | None = None
    cost: bool = False

    def who_query(self, *, now_s: int) -> WhoQuery:
        """The query that these parameters mean at `now_s`.

        Raises:
            InvalidParametersError: As `query` does.
        """
        given = {name: values for name in WHO_FILTERS if (values := given_names(self.filters.get(name)))}
        resources = self.group_by is None and given.keys() <= _FILTERS_OF_USAGE
        asked = column_names(self.group_by or ("resource" if resources else _WHOSE))
        columns = asked if "usage_type" in asked else ("usage_type", *asked)
        of_usage = ("usage_type", *(_OF_USAGE[name] for name in columns if name in _OF_USAGE))
        usage = self.usage_query(columns, of_usage, now_s=now_s)
        top = _FIRST_RESOURCES if resources and self.top is None else self.top
        return WhoQuery(usage=usage, group_by=columns, given=given, top=top, resources=resources, cost=self.cost)


class Entry(NamedTuple):
    """Bytes of a group of causes, with the values of its columns: also of `basis` and `reason`; and their cost."""

    values: Mapping[str, str]
    bytes: int
    cost: Cost = NO_COST


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """How far the causes of all regions go.

    Attributes:
        counted_s: Usage before this time is counted in causes, epoch seconds; 0 if no causes are kept.
        captured_s: Names of earlier hours are final.
        since_s: Earlier days have no causes.
        owners: Version of the book of owners; 0 without one, and for a book that is not kept.
        closed: Versions that closed months were closed with.
    """

    counted_s: int
    captured_s: int
    since_s: int = 0
    owners: int = 0
    closed: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Row:
    bytes: int = 0
    named_bytes: int = 0
    cost: Cost = NO_COST

    def add(self, size: int, named: int, cost: Cost) -> None:
        self.bytes += size
        self.named_bytes += named
        if cost is not NO_COST:
            self.cost = self.cost.plus(cost)


@dataclass(slots=True)
class Found:
    """Rows of an answer, and the sums of its usage types. Mutable."""

    query: WhoQuery
    rows: dict[_Key, _Row] = field(default_factory=lambda: defaultdict(_Row))
    bases: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    types: dict[str, _Row] = field(default_factory=lambda: defaultdict(_Row))

    def add(self, entries: Iterable[Entry]) -> None:
        """Add groups of causes."""
        for values, size, cost in entries:
            basis, usage_type = values["basis"], values["usage_type"]
            reason = values["reason"] if not basis or "reason" in self.query.group_by else ""
            shown = {**values, "reason": "" if basis == BY_RULE and "reason" not in self.query.group_by else reason}
            named = size if basis else 0
            self.rows[tuple([shown[name] for name in self.query.columns])].add(size, named, cost)
            self.types[usage_type].add(size, named, cost)
            self.bases[usage_type][basis] += size
            if not basis:
                self.reasons[usage_type, reason] += size

    def total(self, usage_type: str) -> int:
        """Bytes of a usage type."""
        return self.types[usage_type].bytes


def remainders(
    usage: Iterable[UsageRow],
    entries: Iterable[Entry],
    query: WhoQuery,
    costs: Iterable[tuple[_Key, Cost]] = (),
) -> Iterator[Entry]:
    """Usage that is in no cause: the bytes of other producers, and what is not counted yet.

    Args:
        usage: All usage, by the columns of `query.usage`.
        entries: The causes.
        query: The question.
        costs: Costs of lines of the usage, by the same columns.

    Raises:
        LedgerCorruptError: The causes have more bytes than the usage.
    """
    names = query.usage.group_by
    left = Counter({row.values: row.total.bytes for row in usage})
    money: dict[_Key, Cost] = defaultdict(Cost)
    for key, cost in costs:
        money[key] = money[key].plus(cost)
    called = {"usage_type": "usage_type", **{of_usage: name for name, of_usage in _OF_USAGE.items()}}
    for values, size, cost in entries:
        key = tuple([values[called[name]] for name in names])
        left[key] -= size
        money[key] = money[key].less(cost)
    for key, size in sorted(left.items()):
        if size < 0:
            told = ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=True))
            raise LedgerCorruptError(f"the causes of {told} have {-size:,} bytes more than its usage")
        of_usage = {called[name]: value for name, value in zip(names, key, strict=True)}
        values = {**dict.fromkeys(WHO_COLUMNS, ""), **of_usage, "owner": UNATTRIBUTED, "workload": UNATTRIBUTED}
        if size or money[key].exact:
            yield Entry({**values, "reason": OTHER_USAGE}, size, money[key])


def _fields(query: WhoQuery) -> answer.ListedRows:
    """Columns of the answer."""
    named: list[answer.Fields[Sequence[object]]] = []
    for name in query.columns:
        if name == "hour":
            named.append(answer.timed(name, priority=answer.KEEP))
        elif name == "reason":
            named.append(answer.copied(name, priority=answer.ROOMY, about="why bytes are unattributed"))
        else:
            named.append(answer.copied(name, priority=answer.KEEP))
    figures: list[answer.Fields[Sequence[object]]] = [answer.sized("bytes", priority=answer.KEEP)]
    if query.cost:
        figures += [answer.cents("cost_usd", priority=answer.KEEP), answer.exact("unpriced_bytes")]
    if query.resources:
        figures += [answer.sized("named_bytes"), answer.number("named", about="of the bytes")]
    figures.append(answer.number("share", about="of the usage type"))
    return answer.ListedRows(*named, *figures)


def who_answer(
    query: WhoQuery,
    found: Found,
    *,
    as_of_s: int,
    complete: Complete,
    known: Known,
    periods: Mapping[str, str],
    regions: Sequence[str] = (),
    by_name: bool = False,
    prices: Mapping[str, answer.Json] | None = None,
) -> answer.Answer:
    """Convert rows to the contract's form: by usage type, `unowned` first, then `unattributed`, then the most bytes.

    `by_name` sorts the rows by their columns, as pages need it. `prices` says by which prices costs were computed.
    """
    shape = _fields(query)
    ordered = sorted(found.rows.items()) if by_name else sorted(found.rows.items(), key=_order(query, found))
    place, top = query.columns.index("usage_type"), None if by_name else query.top
    rows: list[Sequence[object]] = []
    others: list[answer.Json] = []
    for usage_type, of_type in groupby(ordered, key=lambda each: each[0][place]):
        every = list(of_type)
        shown: list[tuple[Sequence[str | None], _Row]] = [*every[:top]]
        if rest := [row for _, row in every[len(every) if top is None else top :]]:
            shown.append(_others(query, usage_type, rest))
            others.append({"usage_type": usage_type, "rows": len(rest), "bytes": str(shown[-1][1].bytes)})
        units = shown_units([row.cost.exact for _, row in shown], GIB) if query.cost else [0] * len(shown)
        rows += [_cells(query, key, row, cost, found) for (key, row), cost in zip(shown, units, strict=True)]
    types = sorted(found.types, key=lambda name: (FREE in name, *_size(query, found.types[name]), name))
    totals = [_total(name, found) for name in types]
    reasons = sorted(found.reasons.items(), key=lambda each: (types.index(each[0][0]), -each[1], each[0]))
    through_s = complete.through_s if not known.counted_s else min(complete.through_s, known.counted_s)
    meta = usage_answer.head_document(query.document(), periods, as_of_s=as_of_s, complete=complete) | {
        "complete_through": rfc3339(min(through_s, as_of_s)),
        "counted_through": rfc3339(known.counted_s) if known.counted_s else None,
        "captured": rfc3339(known.captured_s) if known.captured_s else None,
        "owners": {"version": known.owners, **({"closed": dict(known.closed)} if known.closed else {})},
        "totals": totals,
        "unattributed": [
            {"usage_type": name, "reason": reason, "bytes": str(size)} for (name, reason), size in reasons
        ],
    }
    if prices is not None:
        whole = reduce(Cost.plus, (row.cost for row in found.types.values()), NO_COST)
        meta |= {"currency": "USD", **prices, "method": METHOD, "total_usd": _usd(whole)}
    if others:
        meta["others"] = others
    if regions:
        meta["regions"] = list(regions)
    return shape.answer(
        rows,
        meta=meta,
        title=usage_answer.title_of(
            "Resources with the most bytes" if query.resources else "Causes", query.usage, as_of_s
        ),
        empty="No usage matches.",
        footer=tuple(_lines(query, found, types, known, through_s=min(through_s, as_of_s), as_of_s=as_of_s)),
    )


def _order(query: WhoQuery, found: Found) -> Callable[[tuple[_Key, _Row]], tuple[object, ...]]:
    place = query.columns.index("usage_type")
    owner = query.columns.index("owner") if "owner" in query.columns else None

    whole = {name: (FREE in name, *_size(query, row), name) for name, row in found.types.items()}

    def order(each: tuple[_Key, _Row]) -> tuple[object, ...]:
        key, row = each
        unowned = owner is not None and key[owner] == UNOWNED
        first = 0 if unowned else 1 + (query.resources or row.named_bytes > 0)
        return (*whole[key[place]], first, *_size(query, row), key)

    return order


def _size(query: WhoQuery, row: _Row) -> tuple[Fraction | int, ...]:
    """Sort key of the largest first."""
    return (-row.cost.exact, -row.bytes) if query.cost else (-row.bytes,)


def _cells(query: WhoQuery, key: Sequence[str | None], row: _Row, units: int, found: Found) -> Sequence[object]:
    whole = found.total(str(key[query.columns.index("usage_type")]))
    named = (row.named_bytes, percent(row.named_bytes, row.bytes)) if query.resources else ()
    cost = (Decimal(usd_text(units)) if row.cost.known else None, row.cost.unpriced) if query.cost else ()
    return (*key, row.bytes, *cost, *named, percent(row.bytes, whole))


def _others(query: WhoQuery, usage_type: str, rest: Sequence[_Row]) -> tuple[Sequence[str | None], _Row]:
    """One row for the other rows of a usage type."""
    row = _Row()
    for each in rest:
        row.add(each.bytes, each.named_bytes, each.cost)
    label = next((name for name in query.columns if name not in {"usage_type", "hour"}), None)
    values = {"usage_type": usage_type, **({} if label is None else {label: f"{OTHERS} ({len(rest)})"})}
    return [values.get(name) for name in query.columns], row


def _total(usage_type: str, found: Found) -> dict[str, answer.Json]:
    bases = found.bases[usage_type]
    shares = {basis: str(bases[basis]) for basis in BASES if bases[basis]}
    row = found.types[usage_type]
    cost = {"cost_usd": _usd(row.cost)} if found.query.cost else {}
    return {
        "usage_type": usage_type, "bytes": str(row.bytes), **cost, **shares, "unattributed": str(bases[""]),
    }  # fmt: skip


def _usd(cost: Cost) -> str | None:
    return usd_text(*shown_units([cost.exact], GIB)) if cost.known else None


def _lines(
    query: WhoQuery, found: Found, types: Sequence[str], known: Known, *, through_s: int, as_of_s: int
) -> Iterator[str]:
    """Lines below the table: the total of each usage type with its shares, why bytes have no name, completeness."""
    for name in types:
        bases, whole = found.bases[name], found.total(name)
        shares = [f"{basis} {percent(bases[basis], whole)}" for basis in BASES if bases[basis]]
        reasons = Counter({reason: size for (of, reason), size in found.reasons.items() if of == name})
        told = ", ".join(f"{reason} {percent(size, whole)}" for reason, size in reasons.most_common())
        unattributed = [f"unattributed {percent(bases[''], whole)} ({told})"] if bases[""] else []
        usd = _usd(found.types[name].cost)
        cost = "" if not query.cost else ", without a price" if usd is None else f", {usd} USD"
        yield f"Total of {name}: {exact_and_size(whole)}{cost}; {', '.join((*shares, *unattributed))}."
    if len(types) > 1:
        yield "Never add up usage types: processing is a second count of the same bytes."
    if any(reason in _LACKS_FIELDS for _, reason in found.reasons):
        yield "Further fields of the flow log would name more causes: metering logs format"
    yield f"As of {rfc3339(as_of_s)}, " + (
        f"complete through {rfc3339(through_s)}." if through_s > 0 else "and it is not known yet how complete."
    )
    if known.counted_s:
        final = f" Names are final until {rfc3339(known.captured_s)}." if known.captured_s else ""
        yield f"Causes are counted through {rfc3339(known.counted_s)}; later usage is `{OTHER_USAGE}`.{final}"
    else:
        yield "No causes are kept yet: the biller counts those of flow logs each hour."
    if known.since_s > query.usage.from_s:
        yield f"Days before {rfc3339(known.since_s)} have no causes."
    if query.names_owners and known.owners:
        yield f"Owners by version {known.owners} of the book."
    if query.names_owners:
        yield from (
            f"Owners in {month}, which is closed, by version {version}. Another version: --owners N"
            for month, version in sorted(known.closed.items())
        )
