"""Builds the core of a restore over the stores of a region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.invoices.issuing import issued_documents
from metering.lake.parquet.codec import ParquetAdoptableRows
from metering.lake.parquet.reader import ParquetStagedUsage
from metering.restore.adoption import Adoption
from metering.restore.carried import Carried, Carrier
from metering.restore.copies import BatchCopies
from metering.restore.core import Restoration
from metering.restore.decision import Decider
from metering.restore.marking import UsageMarks
from metering.stores.clock import CALLS_AT_ONCE, Retrier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.census_state import HourStep
    from metering.audit.rebuild import UsageRebuild
    from metering.stores.writes import ItemStore
    from metering.wiring.jobs import LakeJobs


def restoration(
    jobs: LakeJobs,
    *,
    generation: int,
    since_ms: int,
    old: ItemStore | None,
    whole: bool = False,
    threads: int = CALLS_AT_ONCE,
) -> Restoration:
    """Build what makes a restored ledger complete.

    Args:
        jobs: Jobs over the new ledger and its usage table.
        generation: Generation of the new ledger.
        since_ms: The restored moment, epoch milliseconds; 0 for a ledger made from nothing.
        old: Store of the old ledger; None if it cannot be read.
        whole: Whether the usage table is a new one.
        threads: Maximum number of concurrent calls.
    """
    retrier = Retrier(clock=jobs.clock, entropy=jobs.entropy, attempts=jobs.settings.attempts)
    rows = ParquetAdoptableRows(jobs.objects)
    staged = ParquetStagedUsage(jobs.objects)
    adoption = Adoption(
        items=jobs.items,
        objects=jobs.objects,
        staged=staged,
        usage=staged,
        reader=jobs.view.reader,
        clock=jobs.clock,
        retrier=retrier,
        generation=generation,
        restorer=jobs.entropy.token(),
        shards=jobs.settings.shards,
        since_ms=since_ms,
        marker_life_s=jobs.settings.marker_life_s,
        threads=threads,
    )

    def carry() -> Carried:
        carrier = Carrier(items=jobs.items, generation=generation, clock=jobs.clock, retrier=retrier, threads=threads)
        if old is not None:
            return carrier.from_table(old)
        return carrier.from_lines(jobs.objects, issued_documents(jobs.objects, jobs.clock.now_ms() // 1000))

    def usage(hours: Mapping[int, set[str]] | None, tell: Callable[[HourStep], None]) -> UsageRebuild:
        return jobs.rebuilder.usage(tell=tell) if hours is None else jobs.rebuilder.hours(hours, tell=tell)

    marks = UsageMarks(
        items=jobs.items,
        objects=jobs.objects,
        numbers=jobs.rebuilder.numbers,
        retrier=retrier,
        shards=jobs.settings.shards,
        threads=threads,
    )
    return Restoration(
        decider=Decider(
            items=jobs.items,
            objects=jobs.objects,
            rows=rows,
            clock=jobs.clock,
            retrier=retrier,
            shards=jobs.settings.shards,
            generation=generation,
            threads=threads,
        ),
        carry=carry,
        adoption=adoption,
        copies=lambda decision: BatchCopies(
            adoption=adoption, rows=rows, entropy=jobs.entropy, closed=frozenset(decision.months)
        ),
        markers=jobs.rebuilder.markers,
        marks=marks.run,
        usage=usage,
        region=marks.lift_region,
        whole=whole,
    )
