"""Price books, overrides and organizations by their pins: what was pinned is what is used, or it is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from metering.billing.invoices.inputs import BookPin, Pin, Rates
from metering.billing.prices.sample import SAMPLE, sample_book, sample_versions
from metering.billing.rating.payer_prices import OwnedOverrides, PayerPrices
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from metering.billing.invoices.ports import Books, Organizations, OverrideVersions
    from metering.billing.organization.payers import Organization
    from metering.billing.prices.book import Override, PriceBook

DEFAULT_BOOK = "aws-list"


def sample_version(version: int) -> PriceBook:
    """A version of the sample.

    Raises:
        OperationFailedError: This release has no such version.
    """
    if version not in sample_versions():
        newest = sample_book().version
        raise OperationFailedError(
            f"There is no version {version} of price book {SAMPLE} here.",
            f"This release has version {newest}, and earlier ones: --prices {SAMPLE}@{newest}",
        )
    return sample_book(version)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllBooks:
    """Books that were imported, and the sample that ships with the package."""

    imported: Books

    def newest(self, name: str) -> PriceBook | None:
        """The version in force; None if the book was never imported."""
        return sample_book() if name == SAMPLE else self.imported.newest(name)

    def get(self, name: str, version: int) -> PriceBook:
        """A version. Raises as the imported ones do.

        Raises:
            OperationFailedError: The sample of this release has no such version.
        """
        if name != SAMPLE:
            return self.imported.get(name, version)
        return sample_version(version)


class InputChangedError(OperationFailedError):
    """An input is not what a document was made of."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What rates stand for."""

    book: PriceBook
    overrides: tuple[Override, ...]
    organization: Organization

    def prices(self, payer_id: str) -> PayerPrices:
        """What a payer and its accounts pay."""
        return PayerPrices.of(self.book, self.organization, payer_id, self._owned)

    @cached_property
    def _owned(self) -> OwnedOverrides:
        return OwnedOverrides(self.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateShelf:
    """Rates of the home region. What was loaded once is kept: versions never change."""

    books: Books
    overrides: OverrideVersions
    organizations: Organizations
    _loaded: dict[Rates, Loaded] = field(default_factory=dict)

    def newest(self, book_name: str) -> Rates:
        """What is in force now.

        Raises:
            OperationFailedError: The book was never imported.
        """
        book = self.books.newest(book_name)
        if book is None:
            raise OperationFailedError(
                f"There is no price book {book_name}.",
                "Import AWS's prices with `metering prices import`, or name another book: --prices sample",
            )
        overrides, organization = self.overrides.newest(), self.organizations.newest()
        return Rates(
            book=BookPin(name=book.name, version=book.version, sha256=book.sha256),
            overrides=Pin(version=overrides.version, sha256=overrides.sha256),
            organization=Pin(version=organization.version, sha256=organization.sha256),
        )

    def load(self, rates: Rates) -> Loaded:
        """What was pinned.

        Raises:
            InputChangedError: A version has other content than what was pinned.
            MeteringError: A version is missing or damaged; the error names it.
        """
        known = self._loaded.get(rates)
        if known is None:
            known = self._loaded[rates] = self._load(rates)
        return known

    def _load(self, rates: Rates) -> Loaded:
        book = self.books.get(rates.book.name, rates.book.version)
        overrides = self.overrides.get(rates.overrides.version)
        organization = self.organizations.get(rates.organization.version)
        _same(f"Price book {rates.book}", rates.book.sha256, book.sha256)
        _same(f"Version {rates.overrides.version} of overrides", rates.overrides.sha256, overrides.sha256)
        _same(
            f"Version {rates.organization.version} of the organization",
            rates.organization.sha256,
            organization.sha256,
        )
        return Loaded(book=book, overrides=overrides.overrides, organization=organization)


def _same(what: str, pinned: str, found: str) -> None:
    if pinned != found:
        raise InputChangedError(
            f"{what} has SHA-256 {found or 'none'}, and {pinned or 'none'} was pinned.",
            "A version never changes: bring its object back, from an older version of it in the bucket. The book "
            "`sample` comes with the release: use the one that made the document.",
        )
