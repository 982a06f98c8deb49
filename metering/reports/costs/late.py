"""Costs of usage that came after its month was closed: what it changes of that month, booked in a later one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.invoices.composing import Subject
from metering.billing.rating.corrections import corrected
from metering.billing.rating.late_usage import LateUsage, Together
from metering.hours import month_bounds_s, month_of, months_between, rfc3339
from metering.reports.costs.labels import Labels
from metering.reports.costs.payers import payers_asked
from metering.reports.costs.rows import Entry
from metering.reports.time_range import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.invoices.inputs import Rates
    from metering.billing.invoices.planning import Planner
    from metering.billing.usage.ports import Late, UsageLine
    from metering.reports.costs.query import CostQuery


_IN = 1


class _Bucket(NamedTuple):
    """Late rows that are rated together: they count in the same rows of the report. Buckets sort by time.

    Attributes:
        place: 0 before the range, 1 in it, 2 after it.
        label: Hour or day that books them, if the report tells them apart.
    """

    place: int
    label: str
    region: str


@dataclass(frozen=True, kw_only=True)
class LateCosts:
    """Costs of late rows that one month books.

    Rows before the range are rated before those in it: what each part of a month's corrections costs adds up to what
    all of them cost.

    Attributes:
        rates: Rates of the month that books them.
        named: The rates were asked for by name; else late rows are rated as their own month was invoiced.
    """

    query: CostQuery
    planner: Planner
    month: str
    rates: Rates
    named: bool = False

    def entries(self) -> Iterator[Entry]:
        """Lines of corrections on their way into rows.

        Raises:
            MeteringError: A price book, an invoice or a closed month cannot be read.
        """
        for payer_id, corrects in self._subjects():
            subject = Subject(payer_id, self.month)
            rates = self.rates if self.named else self._rates_of(subject, corrects)
            if rates is not None and self._may_count(corrects):
                yield from self._of(subject, corrects, rates)

    def _rates_of(self, subject: Subject, corrects: str) -> Rates | None:
        """What the payer's invoice rated them with. Credit notes that were issued after it change nothing of it."""
        issued = self.planner.store.find(self.month, subject.payer_id)
        pinned = None if issued is None else issued.invoice.inputs.rates.get(corrects)
        return pinned or self.planner.rates_of_correction(subject, corrects, self.rates)

    def _subjects(self) -> list[tuple[str, str]]:
        """Payers that the report is about, and the months that their late rows correct, in order."""
        composer, store = self.planner.composer, self.planner.store
        found: set[tuple[str, str]] = set()
        for region in composer.usage.month(self.month):
            for _, line in region.late():
                corrects = month_of(line.hour_s)
                shared = None if self.named else store.inputs(corrects)
                rates = self.rates if shared is None else shared.rates[corrects]
                organization = composer.shelf.load(rates).organization
                payer_id = organization.payer_of(line.account_id, line.hour_s)
                # Who paid in the month of use pays for its late rows, and may be another one than in this month.
                asked = payers_asked(self.query, organization, corrects)
                if not asked or payer_id in asked:
                    found.add((payer_id, corrects))
        return sorted(found)

    def _may_count(self, corrects: str) -> bool:
        usage = self.query.usage
        return any(
            first_s < usage.to_s and usage.from_s < after_s
            for first_s, after_s in map(month_bounds_s, (self.month, *([corrects] if usage.with_corrections else [])))
        )

    def _of(self, subject: Subject, corrects: str, rates: Rates) -> Iterator[Entry]:
        composer = self.planner.composer
        loaded = composer.shelf.load(rates)
        prices, frozen = loaded.prices(subject.payer_id), composer.booked_in(corrects, rates).of(subject.payer_id)
        known = [
            late.line
            for month in months_between(corrects, subject.month)
            for _, late in composer.booked_in(month, rates).late(subject.payer_id)
            if month_of(late.line.hour_s) == corrects
        ]
        for bucket, lines in sorted(self._buckets(subject, corrects, rates).items()):
            labels = Labels(self.query, loaded.book, payer_id=subject.payer_id, region=bucket.region)
            late, booked_s = (
                LateUsage(corrects, (each.line for each in lines)).lines,
                min(each.booked_s for each in lines),
            )
            for rated in corrected(prices, Together(frozen, LateUsage(corrects, known)), late):
                if self._counts(bucket, rated.line):
                    yield Entry(labels.of(rated, booked_s=booked_s), rated, late=True)
            known += late

    def _counts(self, bucket: _Bucket, line: UsageLine) -> bool:
        booked_here = bucket.place == _IN
        corrects_here = self.query.usage.with_corrections and self.query.covers(line.hour_s)
        return (booked_here or corrects_here) and self.query.takes(line) and self.query.takes_region(bucket.region)

    def _buckets(self, subject: Subject, corrects: str, rates: Rates) -> dict[_Bucket, list[Late]]:
        found: dict[_Bucket, list[Late]] = {}
        for region, late in self.planner.composer.booked_in(subject.month, rates).late(subject.payer_id):
            if month_of(late.line.hour_s) == corrects:
                found.setdefault(self._bucket(region, late.booked_s), []).append(late)
        return found

    def _bucket(self, region: str, booked_s: int) -> _Bucket:
        query, usage = self.query, self.query.usage
        place = 0 if booked_s < usage.from_s else _IN if booked_s < usage.to_s else 2
        label = ""
        if query.has_column("hour"):
            label = rfc3339(booked_s)
        elif query.has_column("day") or (query.has_column("month") and usage.zone is not UTC):
            label = shown(booked_s, usage.zone)[:10]
        return _Bucket(place, label, region if query.by_region else "")
