"""Causes of usage of one or several regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.causes.index import CauseIndexes
from metering.billing.owners import OwnerStore
from metering.errors import ObjectMissingError, OperationFailedError, UnavailableError
from metering.ledger.format_version import generations_of
from metering.reports.query import UNCOUNTED, Meter
from metering.reports.source import naming, report_periods, report_rows
from metering.reports.who import Found, Known, WhoQuery, remainders, who_answer
from metering.reports.who_sums import CauseSource, CauseSums
from metering.wiring import reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.audit.freshness import Complete
    from metering.billing.causes.index import CauseIndex
    from metering.billing.owners import Owners
    from metering.reports.answer import Answer
    from metering.wiring.lake import ReadableRegion

MOST_GROUPS = 1_000_000
"""Most groups of an answer, which take some hundred bytes each."""
_ATTEMPTS = 3


def who_of(
    regions: Sequence[ReadableRegion],
    query: WhoQuery,
    *,
    owners: Owners,
    now_s: int,
    complete: Complete,
    everywhere: bool = False,
    granted: frozenset[str] | None = None,
    most: int = MOST_GROUPS,
    most_rows: int | None = None,
    meter: Meter = UNCOUNTED,
    by_name: bool = False,
) -> Answer:
    """Answer a question about causes.

    Args:
        regions: Regions to read; their causes are added up.
        query: The question.
        owners: Book that names the owners.
        now_s: Current time, epoch seconds.
        complete: Time through which the regions' counts are complete. Read this time first.
        everywhere: Whether the answer names the regions.
        granted: Accounts that the caller may see; None for all. Names of other accounts are not shown.
        most: Largest number of groups.
        most_rows: Largest number of rows of causes to read; None for no limit.
        meter: Counts what is read of usage.
        by_name: Whether the rows are in the order of their columns.

    Raises:
        InvalidParametersError: There are more groups, or more rows to read.
        OperationFailedError: The causes are those of a ledger before a restore.
        LedgerCorruptError: Causes have more bytes than their usage.
        UnavailableError: A region does not respond, or its causes were repeatedly replaced; the error names the region.
        ObjectDamagedError: Stored causes cannot be read.
    """
    for attempt in range(_ATTEMPTS):
        sums = CauseSums(query, owners, granted=granted, most=most, most_rows=most_rows, meter=meter)
        try:
            # Causes are read before usage, which therefore has all that they have.
            indexes = [_add(sums, region) for region in regions]
            break
        except ObjectMissingError as error:
            if attempt + 1 == _ATTEMPTS:
                detail = "the causes kept being replaced"
                raise UnavailableError("s3.GetObject", detail, may_have_applied=False) from error
    sources = [reports.report_source(region, meter) for region in regions]
    found, entries = Found(query), list(sums.entries())
    found.add(entries)
    if query.whole:
        found.add(remainders(report_rows(sources, query.usage, now_s=now_s), entries, query))
    counted = [index for index in indexes if index.number]
    known = Known(
        counted_s=min((index.counted_s for index in counted), default=0),
        captured_s=min((index.captured_s for index in counted), default=0),
        since_s=max((index.from_s for index in counted), default=0),
        owners=owners.version,
    )
    return who_answer(
        query, found, as_of_s=now_s, complete=complete, known=known,
        periods=report_periods(sources, query.usage, now_s=now_s),
        regions=[region.region for region in regions] if everywhere else (), by_name=by_name,
    )  # fmt: skip


def owners_of(home: ReadableRegion, version: int | None) -> Owners:
    """A version of the book of owners, which the home region has; None for the newest, which may be empty.

    Raises:
        OperationFailedError: There is no such version.
    """
    store = OwnerStore(home.objects)
    try:
        return store.newest() if version is None else store.get(version)
    except ObjectMissingError as error:
        detail = f"There is no version {version} of the book of owners."
        raise OperationFailedError(detail, "Leave it out for the newest one.") from error


def _add(sums: CauseSums, region: ReadableRegion) -> CauseIndex:
    with naming(region.region):
        index = CauseIndexes(objects=region.objects).newest()
        if index.number and not index.is_of(generations_of(region.items)):
            raise OperationFailedError(
                f"The causes of {region.region} were counted before its ledger was restored.",
                "The biller counts them anew within the hour. To count them now: metering budget update",
            )
        sums.add(CauseSource(region=region.region, objects=region.objects, index=index))
    return index
