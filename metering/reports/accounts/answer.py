"""The contract's answer to a list of accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

from metering.billing.day_sums.uncounted import Reach
from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Cell, Column
from metering.reports.budgets.reach import reach_document, reach_lines
from metering.units import counted, exact_and_size
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.billing.day_sums.accounts import AccountSum
    from metering.billing.day_sums.uncounted import Uncounted
    from metering.reports.accounts.listing import Listing
    from metering.reports.accounts.query import AccountsQuery
    from metering.reports.accounts.source import MonthOfAccounts
    from metering.reports.answer import Json

_COLUMNS = (
    Column(name="account_id", text="copied", priority=KEEP),
    Column(name="bytes", kind="bytes", priority=KEEP),
    Column(name="records", kind="integer"),
    Column(name="first_hour", kind="time"),
    Column(name="last_hour", kind="time"),
)
_STATES = ("open", "closing", "closed")


class _Rows(Sequence[Mapping[str, Cell]]):
    """Rows that are made when they are asked for: of many accounts, a page shows few."""

    def __init__(self, sums: Sequence[AccountSum]) -> None:
        self._sums = sums

    def __len__(self) -> int:
        return len(self._sums)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Cell]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, Cell]]: ...
    def __getitem__(self, place: int | slice) -> Mapping[str, Cell] | Sequence[Mapping[str, Cell]]:
        return _Rows(self._sums[place]) if isinstance(place, slice) else _row(self._sums[place])


def accounts_answer(
    query: AccountsQuery,
    months: Sequence[MonthOfAccounts],
    listing: Listing,
    *,
    now_s: int,
    regions: Sequence[str] = (),
    left: Uncounted | None = None,
) -> Answer:
    """Put the accounts of a month into the contract's form.

    Args:
        query: The query that was answered.
        months: What was read, of each region.
        listing: The accounts.
        now_s: When it was asked.
        regions: The regions that were merged; empty for a list of one region.
        left: What is accepted and in no list yet, of whatever account; None if it is not told.
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
    others = _others(query, listing)
    if query.top is not None:
        meta |= {"rows_total": listing.count, "others": _others_document(listing, others)}
    return Answer(
        columns=_COLUMNS,
        rows=_Rows(listing.rows),
        others=None if others is None else {"account_id": "others", "bytes": others.bytes, "records": others.records},
        meta=meta,
        title=f"Accounts in {query.month}",
        empty="No account has usage.",
        footer=(
            *([] if others is None else [_cut_line(listing)]),
            f"Total: {exact_and_size(listing.total.bytes)} in {counted(listing.total.records, 'record')} of "
            f"{listing.count:,} {'account' if listing.count == 1 else 'accounts'}.",
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


def _row(each: AccountSum) -> Mapping[str, Cell]:
    return {
        "account_id": each.account_id,
        "bytes": each.bytes,
        "records": each.records,
        "first_hour": rfc3339(each.first_s),
        "last_hour": rfc3339(each.last_s),
    }


def _others(query: AccountsQuery, listing: Listing) -> Total | None:
    if query.top is None or listing.count <= len(listing.rows):
        return None
    shown = Total(sum(each.bytes for each in listing.rows), sum(each.records for each in listing.rows))
    return listing.total.minus(shown)


def _others_document(listing: Listing, others: Total | None) -> dict[str, Json] | None:
    if others is None:
        return None
    return {"rows": listing.count - len(listing.rows), "bytes": str(others.bytes), "records": others.records}


def _cut_line(listing: Listing) -> str:
    return f"{len(listing.rows):,} of {listing.count:,} rows; the last line is the sum of the others."


def _document(query: AccountsQuery) -> dict[str, Json]:
    document: dict[str, Json] = {"month": query.month}
    if query.accounts:
        document["accounts"] = sorted(query.accounts)
    if query.prefix:
        document["prefix"] = query.prefix
    if query.order.column != "account_id" or query.order.descending:
        document["sort"] = f"{query.order.column}:{'desc' if query.order.descending else 'asc'}"
    if query.top is not None:
        document["top"] = query.top
    return document
