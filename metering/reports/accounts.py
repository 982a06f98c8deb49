"""The accounts of a month: query parameters, the source and order of accounts, the completeness of sums, the answer."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from metering.billing.day_sums.days import AccountsReader, AccountSum, account_sum, merged_accounts
from metering.billing.day_sums.index import FORM, DayIndex, DayIndexes, Reach, Uncounted
from metering.errors import ObjectDamagedError, ObjectMissingError, OperationFailedError, UnavailableError
from metering.hours import date_of, hour_of, month_bounds_s, month_of, rfc3339
from metering.ledger.format_version import generations_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.periods import FrozenMonth, periods_of, read_frozen_month
from metering.reports import usage_answer, usage_rows
from metering.reports.answer import KEEP, Answer, Json, MappedRows, RowType, copied, integer, sized, timed
from metering.reports.query import Order, given_names, ranking_problems
from metering.reports.time_range import InvalidParametersError, ParameterProblem, refused
from metering.units import counted, exact_and_size
from metering.usage.totals import Moved, sum_totals
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.lake.ports import FrozenReader
    from metering.stores import writes
    from metering.stores.objects import ObjectStore

COLUMNS = ("account_id", "bytes", "records", "first_hour", "last_hour")
BY_ID = Order(column="account_id")
_FIRST_MONTH = "2020-01"
_PREFIX = re.compile(r"[0-9]{1,12}")
_ACCOUNT = re.compile(r"[0-9]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsQuery:
    """The month and accounts to list; accounts beyond `top` become one sum. Ties are ordered by account id."""

    month: str
    accounts: frozenset[str] = frozenset()
    prefix: str = ""
    order: Order = BY_ID
    top: int | None = None

    def matches(self, account_id: str) -> bool:
        """Whether the query matches this account."""
        if self.accounts:
            return account_id in self.accounts and account_id.startswith(self.prefix)
        return account_id != CANARY_ACCOUNT_ID and account_id.startswith(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsParameters:
    """The parameters of a query about accounts, as text from a command line or URL.

    Attributes:
        month: `YYYY-MM`; default: the current month.
        accounts: Values of the parameter `account`; each text may hold several account ids.
        sort: One of `COLUMNS`; with the suffix `:desc`, in descending order. Default: `account_id`.
        top: Maximum number of rows, the most bytes first unless `sort` is given; the other rows become one sum.
    """

    month: str | None = None
    accounts: Sequence[str] = ()
    prefix: str | None = None
    sort: str | None = None
    top: int | None = None

    def query(self, *, now_s: int) -> AccountsQuery:
        """The query that these parameters mean at `now_s`.

        Raises:
            InvalidParametersError: The month, column or account is invalid, or the month has not begun. Carries every
                problem found.
        """
        month = self.month or month_of(hour_of(now_s))
        problems = [*self._month_problems(month, now_s), *self._name_problems()]
        problems += ranking_problems(self.top, self.sort or None, COLUMNS, of="list")
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
        return Order.of(self.sort)

    def _month_problems(self, month: str, now_s: int) -> Iterator[ParameterProblem]:
        try:
            month_bounds_s(month)
        except ValueError:
            yield refused("month", month, "is not a month.", "Write it as 2026-11.")
            return
        if month > month_of(hour_of(now_s)):
            yield refused("month", month, "has not begun.")
        elif month < _FIRST_MONTH:
            yield refused("month", month, f"is before {_FIRST_MONTH}, when no usage was metered.")

    def _name_problems(self) -> Iterator[ParameterProblem]:
        for value in sorted(given_names(self.accounts)):
            if not _ACCOUNT.fullmatch(value):
                yield refused("account", value, "is not an account: an account has 12 digits.")
        if self.prefix and not _PREFIX.fullmatch(self.prefix):
            yield refused("prefix", self.prefix, "is not the beginning of an account: it has 1 to 12 digits.")


# The accounts of one month of a region. For open months the biller provides them, for closed months the frozen files.
#
# | month                                     | read                                                              |
# |-------------------------------------------|-------------------------------------------------------------------|
# | open                                      | one object, as of the biller's last run                           |
# | closed, and the biller has counted all    | the same object, whose sum must be that of the closed month       |
# | closed, and the biller keeps nothing of it | the frozen month, hour by hour                                   |
# | open, and the biller has not summed it    | nothing: it is refused, with what to do                           |


# Each version of an index is kept until the next but one. A reader slower than two runs of the biller starts again.
_ATTEMPTS = 3
_UPDATE = "The biller does it within the hour. To do it now: metering budget update"


class AccountsNotKeptError(OperationFailedError):
    """The sums of a month's accounts do not exist yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthOfAccounts:
    """The accounts of a month of one region.

    Attributes:
        state: `open`, `closing` or `closed`.
        as_of_s: Epoch second; all usage published by then is in the sums. None if the month is final.
        through_s: Epoch second; all usage accepted before then is in the sums. 0 if unknown.
        sums: Accounts that match the query, in order; read lazily while the caller iterates.
        index: Index from which the sums were read; None if the month is final.
    """

    region: str
    state: str
    as_of_s: int | None
    through_s: int
    sums: Iterable[AccountSum]
    index: DayIndex | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsSource:
    """Reads the accounts of a region's months."""

    region: str
    items: writes.ItemStore
    objects: ObjectStore
    frozen: FrozenReader

    def month(self, query: AccountsQuery) -> MonthOfAccounts:
        """The accounts that match a query.

        Raises:
            AccountsNotKeptError: The month is not closed, and the biller has not summed the month yet.
            UnavailableError: A store did not respond, or the sums were repeatedly replaced during the read.
            LedgerCorruptError: The stored sums cannot be read.
        """
        period = periods_of(self.items, [query.month]).get(query.month)
        state = "open" if period is None else period.state
        if state == "closed":
            return MonthOfAccounts(region=self.region, state=state, as_of_s=None, through_s=0, sums=self._closed(query))
        for _ in range(_ATTEMPTS):
            try:
                index = DayIndexes(objects=self.objects).newest()
                found = self._kept(index, query)
            except ObjectMissingError:
                continue
            return MonthOfAccounts(
                region=self.region,
                state=state,
                as_of_s=index.counted_s,
                through_s=index.reach.through_s,
                sums=found,
                index=index,
            )
        raise UnavailableError("s3.GetObject", "the accounts kept being replaced", may_have_applied=False)

    def _kept(self, index: DayIndex, query: AccountsQuery) -> Iterator[AccountSum]:
        self._refuse_unknown(index, query.month)
        if query.month not in index.accounts:
            return iter(())
        return self._of(query, self._reader(index, query.month))

    def _refuse_unknown(self, index: DayIndex, month: str) -> None:
        if not index.number:
            raise AccountsNotKeptError(f"The accounts of {self.region} were not summed yet.", _UPDATE)
        if not index.is_of(generations_of(self.items)):
            raise AccountsNotKeptError(
                f"The accounts of {self.region} were summed before its ledger was restored.", _UPDATE
            )
        if index.from_s > month_bounds_s(month)[0]:
            raise AccountsNotKeptError(
                f"The accounts of {month} are not kept in {self.region}: the biller sums usage from "
                f"{date_of(index.from_s)} on.",
                f"Read them from the lake, which takes longer: metering report usage --from {month} "
                "--group-by account_id",
            )
        days = index.of_month(month)
        kept = index.accounts.get(month)
        if kept is not None and kept.form != FORM:
            reason = f"The accounts of {month} were summed by an earlier release, together with processing."
            raise AccountsNotKeptError(reason, _UPDATE)
        if days and index.accounts_of(month) is None:
            summed = index.accounts[month].days & days.keys() if month in index.accounts else frozenset()
            reason = f"Of the {len(days)} days of {month} with usage, {len(summed)} are summed by account."
            raise AccountsNotKeptError(reason, _UPDATE)

    def _closed(self, query: AccountsQuery) -> Iterator[AccountSum]:
        closed = read_frozen_month(self.items, self.objects, query.month)
        if closed is None:
            # The month was closed when it was read, and a closed month is never reopened.
            raise UnavailableError("dynamodb.GetItem", f"no frozen month {query.month}", may_have_applied=False)
        try:
            index = DayIndexes(objects=self.objects).newest()
            reader = self._reader(index, query.month) if query.month in index.accounts else None
        except (ObjectMissingError, ObjectDamagedError):
            reader = None
        if reader is not None and sum_totals(reader.hours.values()) == closed.total:
            return self._of(query, reader)
        return self._frozen(query, closed)

    def _frozen(self, query: AccountsQuery, closed: FrozenMonth) -> Iterator[AccountSum]:
        sums: dict[str, AccountSum] = {}
        for hour in closed.hours:
            for key, total in self.frozen.hour(closed, hour.hour_s, query.accounts or None):
                if query.matches(key.account_id):
                    processing = is_processing(key.usage_type)
                    added = account_sum(key.account_id, total, key.hour_s, processing=processing)
                    known = sums.get(key.account_id)
                    sums[key.account_id] = added if known is None else known.plus(added)
        return iter(sorted(sums.values()))

    def _reader(self, index: DayIndex, month: str) -> AccountsReader:
        key = index.accounts[month].key
        return AccountsReader(self.objects.get(key), key)

    def _of(self, query: AccountsQuery, reader: AccountsReader) -> Iterator[AccountSum]:
        found = reader.accounts(query.accounts or None, prefix=query.prefix)
        return (each for each in found if query.matches(each.account_id))


_FIGURES: Mapping[str, Callable[[AccountSum], int]] = {
    "account_id": lambda each: int(each.account_id),
    "bytes": lambda each: each.bytes,
    "records": lambda each: each.records,
    "first_hour": lambda each: each.first_s,
    "last_hour": lambda each: each.last_s,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The first accounts in the requested order, and the sum and the number of all accounts that match."""

    rows: Sequence[AccountSum]
    total: Moved
    count: int


def summed(parts: Iterable[Iterable[AccountSum]]) -> Iterator[AccountSum]:
    """Merge the accounts of several regions; each region's accounts are already sorted by account id."""
    several = list(parts)
    # A single region does not need the merge, which would take half of the time.
    return iter(several[0]) if len(several) == 1 else merged_accounts(heapq.merge(*several))


def listed(sums: Iterable[AccountSum], order: Order, *, most: int | None = None) -> Listing:
    """Sort the sums of accounts. Ties stay in the order of account ids."""
    if most is None:
        rows = list(sums)
        if order != BY_ID:
            rows.sort(key=_place(order))
        return Listing(rows=rows, total=_sum(rows), count=len(rows))
    total, count = Moved(0, 0), 0

    def counted() -> Iterator[AccountSum]:
        nonlocal total, count
        for each in sums:
            total, count = total.plus(_figures(each)), count + 1
            yield each

    first = heapq.nsmallest(most, counted(), key=_place(order))
    return Listing(rows=first, total=total, count=count)


def _figures(each: AccountSum) -> Moved:
    return Moved(each.bytes, each.records, each.processed_bytes)


def _sum(rows: Iterable[AccountSum]) -> Moved:
    return reduce(Moved.plus, map(_figures, rows), Moved(0, 0))


def _place(order: Order) -> Callable[[AccountSum], tuple[int, str]]:
    value, turned = _FIGURES[order.column], -1 if order.descending else 1
    return lambda each: (turned * value(each), each.account_id)


UPDATE = "To count it now: metering compact, then metering budget update"
"""On an emulator, `budget update` compacts first."""


def reach_document(reach: Reach) -> dict[str, Json]:
    """The fields `counted_through` (null if unknown) and, if `left` is known, `not_counted`."""
    document: dict[str, Json] = {"counted_through": rfc3339(reach.through_s) if reach.through_s else None}
    if reach.left is not None:
        total = reach.left.total
        document["not_counted"] = {"bytes": str(total.bytes), "records": total.records, "at_least": reach.left.at_least}
    return document


def reach_lines(reach: Reach) -> list[str]:
    """Sentences that state the time through which all usage is counted, and the usage that is not counted."""
    through = "It is not known yet up to when all that was accepted is counted."
    if reach.through_s:
        through = f"Counted through {rfc3339(reach.through_s)}: all that was accepted before."
    left = "" if reach.left is None else reach.left.text
    return [through, f"Not counted: {left}, accepted and in no sum yet. {UPDATE}"] if left else [through]


_ACCOUNTS: RowType[AccountSum] = RowType(
    copied("account_id", priority=KEEP),
    sized("bytes", priority=KEEP),
    integer("records"),
    timed("first_hour", of=lambda it: it.first_s),
    timed("last_hour", of=lambda it: it.last_s),
    usage_answer.processed_column(),
)
_OTHERS = usage_answer.SUMS
_STATES = ("open", "closing", "closed")


def accounts_answer(
    query: AccountsQuery,
    months: Sequence[MonthOfAccounts],
    listing: Listing,
    *,
    now_s: int,
    regions: Sequence[str] = (),
    left: Uncounted | None = None,
) -> Answer:
    """Convert each region's accounts of a month to an answer in the contract's form.

    `regions` are the regions merged; empty for a list of one region. `left` is accepted usage that no list includes
    yet; None if not requested.
    """
    going = [month.through_s for month in months if month.as_of_s is not None]
    reach = Reach(through_s=min(going), left=left) if going else None
    as_of_s = min((month.as_of_s for month in months if month.as_of_s is not None), default=now_s)
    state = min((month.state for month in months), key=_STATES.index)
    meta: dict[str, Json] = {
        "query": _document(query),
        "month": query.month,
        "as_of": rfc3339(as_of_s),
        "periods": {query.month: state},
        **({} if reach is None else reach_document(reach)),
    }
    if regions:
        meta["regions"] = list(regions)
    left_over = listing.count - len(listing.rows)
    shown = _sum(listing.rows)
    others = Moved(*(all_of - some for all_of, some in zip(listing.total, shown, strict=True)))
    if query.top is not None:
        sums = {"rows": left_over, **_OTHERS.document(others)} if left_over else None
        meta |= {"rows_total": listing.count, "others": sums}
    return Answer(
        columns=_ACCOUNTS.columns,
        rows=MappedRows(listing.rows, _ACCOUNTS.row),
        others={"account_id": "others", **_OTHERS.row(others)} if left_over else None,
        meta=meta,
        title=f"Accounts in {query.month}",
        empty="No account has usage.",
        footer=(
            *usage_rows.cut_lines(len(listing.rows), listing.count),
            f"Total: {exact_and_size(listing.total.bytes)} in {counted(listing.total.records, 'record')} of "
            f"{counted(listing.count, 'account')}.",
            *usage_answer.processed_lines(listing.total),
            *_freshness(query.month, state, as_of_s, reach),
        ),
    )


def _freshness(month: str, state: str, as_of_s: int, reach: Reach | None) -> list[str]:
    if reach is None:
        return [f"{month} is closed: its figures are final. What comes late is a correction in a later month."]
    return [
        f"As of {rfc3339(as_of_s)}: what was in the lake by then. What has come since is not in it.",
        *reach_lines(reach),
        f"To read all of it as of now, which takes longer: metering report usage --from {month} --group-by account_id",
    ]


def _document(query: AccountsQuery) -> dict[str, Json]:
    document: dict[str, Json] = {"month": query.month}
    if query.accounts:
        document["accounts"] = sorted(query.accounts)
    if query.prefix:
        document["prefix"] = query.prefix
    if query.order.column != "account_id" or query.order.descending:
        document["sort"] = str(query.order)
    if query.top is not None:
        document["top"] = query.top
    return document
