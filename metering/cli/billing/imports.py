"""Plan of `metering prices import`: the version to be written, and problems that forbid it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.documents import DocumentRefusedError, hour_text
from metering.billing.prices.book import PriceBook
from metering.billing.prices.difference import Change, difference, reprices_from
from metering.billing.prices.offer_files import Offer, VersionIndex, read_prices
from metering.billing.prices.offers import imported
from metering.billing.usage.months import Sold
from metering.cli.failures import CommandFailedError
from metering.hours import month_bounds_s
from metering.reports import prices, source
from metering.reports.query import UsageQuery
from metering.usage.totals import Service, UsageType
from metering.wiring import billing, reports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from metering.reports import answer
    from metering.wiring.connection import RegionConnection


_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A version of a price book that is not written yet.

    Attributes:
        before: The book in force.
        notes: Notes about the files, for the operator.
    """

    before: PriceBook | None
    book: PriceBook
    changes: Sequence[Change]
    notes: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return 1 if self.before is None else self.before.version + 1

    @property
    def before_text(self) -> str:
        return "nothing" if self.before is None else f"version {self.before.version}"

    def meta(self) -> Mapping[str, answer.Json]:
        """Fields of the JSON answer, without the digest."""
        meta = dict(prices.book_meta(replace(self.book, version=self.number)))
        del meta["sha256"]
        return {**meta, "against": None if self.before is None else self.before.version}


def plan(
    home: RegionConnection, files: Sequence[Path], *, book: str, effective_s: int | None, partial: bool
) -> Planned:
    """Read price files into a new version, and compare this version with the version in force.

    Raises:
        DocumentRefusedError: The files have problems; the error names them all.
    """
    before = billing.build_prices(home).newest(book)
    return planned(before, files, book=book, effective_s=effective_s, partial=partial)


def planned(
    before: PriceBook | None, files: Sequence[Path], *, book: str, effective_s: int | None = None, partial: bool = False
) -> Planned:
    """Like `plan`, but the comparison is with a given book."""
    read = [read_prices(path) for path in files]
    books = [each for each in read if isinstance(each, PriceBook)]
    offers = [each for each in read if isinstance(each, Offer)]
    if books:
        return _own(before, books, others=len(read) - len(books), name=book, effective_s=effective_s)
    if not offers:
        raise DocumentRefusedError("the import", ["there is no offer file among the files, only an index"])
    notes = _indexed(offers, [each for each in read if isinstance(each, VersionIndex)])
    made = imported(before, offers, name=book, effective_s=effective_s, partial=partial)
    if made.left_out:
        notes.append(f"Left out, because another product of their usage type stands for them: {_some(made.left_out)}.")
    if made.passed:
        notes.append(f"Not read, because they are hours, or no usage type that is metered here: {_some(made.passed)}.")
    if made.unknown:
        notes.append(f"Allowances do not apply to products that nobody knows: {_some(made.unknown)}.")
    return Planned(before=before, book=made.book, changes=difference(before, made.book), notes=tuple(notes))


def problems_of_files(files: Sequence[Path]) -> list[str]:
    """All problems of each file; if there are none, all problems of the files together."""
    problems: list[str] = []
    for path in files:
        try:
            read_prices(path)
        except DocumentRefusedError as error:
            problems += [f"{path.name}: {each}" for each in error.problems]
    if not problems:
        try:
            planned(None, files, book="aws-list")
        except DocumentRefusedError as error:
            problems += error.problems
    return problems


def check_closed(plan: Planned, regions: Callable[[], Sequence[RegionConnection]], *, now_s: int) -> None:
    """Refuse a version that changes prices of closed months; `regions` is called only if past prices change.

    Raises:
        CommandFailedError: The version changes prices of closed months.
    """
    changed_s = reprices_from(plan.before, plan.book)
    if changed_s is None or changed_s >= now_s:
        return
    closed = [each.month for region in regions() for each in region.jobs.closer.months() if each.state != "open"]
    if closed and changed_s < (end_s := month_bounds_s(max(closed))[1]):
        raise CommandFailedError(
            f"Prices would change from {hour_text(changed_s)} on, and {max(closed)} is closed.",
            f"Let them hold from --effective {hour_text(end_s)[:7]}; or --reprice, and then correct what was issued: "
            "`metering invoice credit`.",
        )


def written(home: RegionConnection, plan: Planned) -> PriceBook:
    """Write a version, unless the version in force has changed since the comparison.

    Raises:
        CommandFailedError: Another version was written in the meantime.
    """

    def make(newest: PriceBook | None) -> PriceBook:
        found, expected = (0 if each is None else each.version for each in (newest, plan.before))
        if found != expected:
            raise CommandFailedError(
                f"Version {found} of {plan.book.name} was written meanwhile; nothing was done.",
                "Run it again, and look at the difference.",
            )
        return plan.book

    return billing.build_prices(home).append(plan.book.name, make)


def _own(
    before: PriceBook | None, books: Sequence[PriceBook], *, others: int, name: str, effective_s: int | None
) -> Planned:
    """Import a price book that is in this project's format, which includes the start of its prices."""
    if others or len(books) > 1:
        raise DocumentRefusedError("the import", ["a price book is imported alone"])
    if effective_s is not None:
        raise DocumentRefusedError("the import", ["a price book says itself from when its prices hold"])
    book = replace(books[0], name=name)
    return Planned(before=before, book=book, changes=difference(before, book))


def _indexed(offers: Sequence[Offer], indexes: Sequence[VersionIndex]) -> list[str]:
    """Check that files are listed in version indexes; returns notes.

    Raises:
        DocumentRefusedError: An index of an offer lacks the version of one of the offer's files.
    """
    notes: list[str] = []
    for offer in offers:
        for index in indexes:
            if index.code != offer.code:
                continue
            if offer.version not in index.versions:
                raise DocumentRefusedError(offer.name, [f"{index.name} does not list its version {offer.version}"])
            if index.current and index.current != offer.version:
                notes.append(f"{offer.name} is version {offer.version}; the newest one is {index.current}.")
    return notes


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def usage_of(regions: Sequence[RegionConnection], from_s: int, to_s: int, *, now_s: int) -> list[prices.Used]:
    """Bytes in a range of hours, by service and usage type, excluding the canary.

    Raises:
        UnavailableError: A region, or an hour of a region, could not be read.
    """
    query = UsageQuery(from_s=from_s, to_s=to_s, group_by=("service", "usage_type"))
    rows = source.report_rows([reports.report_source(region) for region in regions], query, now_s=now_s)
    return [prices.Used(Sold(Service(row.values[0]), UsageType(row.values[1])), row.total.bytes) for row in rows]
