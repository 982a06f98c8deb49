"""Inputs of an invoice, pinned by version and digest, so that the invoice can be reproduced."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from metering.billing import documents
from metering.billing.rating.payer_prices import OwnedOverrides, PayerPrices
from metering.errors import OperationFailedError
from metering.stores.codec import FromOne, StoredDocument

if TYPE_CHECKING:
    from metering.billing.organization import OrganizationStore
    from metering.billing.payers import Organization
    from metering.billing.prices import store
    from metering.billing.prices.book import Override, PriceBook
    from metering.billing.usage.months import RegionMonth

ENGINE_VERSION = 1
"""Version of the rules that make an invoice of its inputs. A change that gives any invoice other bytes raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Pin of a version of a numbered document (overrides or organization). Version 0: there was no document."""

    version: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BookPin:
    """One version of a price book."""

    name: str
    version: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Price book, overrides and organization by which the usage of a month is rated."""

    book: BookPin
    overrides: Pin
    organization: Pin

    @property
    def told(self) -> str:
        """Text for people: `aws-list version 3, no overrides, payers version 1`."""
        overrides, payers = self.overrides.version, self.organization.version
        return (
            f"{self.book}, {f'overrides version {overrides}' if overrides else 'no overrides'}, "
            f"{f'payers version {payers}' if payers else 'no payers set'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs(StoredDocument):
    """Inputs of one document.

    Attributes:
        engine: Version of the rules.
        closed: Month -> digest of each region's closed month; the months are the invoice's own month, the corrected
            months, and all months between.
        rates: Rates by month, for the invoice's own month and the corrected months.
        billed: Ids and digests of all documents that precede a credit note; empty for an invoice.
    """

    engine: FromOne
    closed: Mapping[str, Mapping[str, str]]
    rates: Mapping[str, Rates]
    billed: Mapping[str, str]

    @property
    def digest(self) -> str:
        return hashlib.sha256(documents.canonical(self.to_value())).hexdigest()

    def to_value(self) -> dict[str, object]:
        """The value as JSON; maps keep their order."""
        return asdict(self)

    def differences(self, other: Inputs) -> Iterator[str]:
        mine, others = dict(_flat(self.to_value())), dict(_flat(other.to_value()))
        for name in sorted(mine.keys() | others.keys()):
            if mine.get(name) != others.get(name):
                yield f"{name} is {others.get(name, 'missing')}, and was {mine.get(name, 'missing')}"


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, each in value.items():
        yield from _flat(each, f"{path} {name}".strip())


class UsageSource(Protocol):
    """Usage of a stage, by month."""

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that holds data of the stage, in sorted order."""

    @property
    def left_out(self) -> Mapping[str, str]:
        """Regions that cannot be read now, each with the reason."""

    def month(self, month: str) -> Sequence[RegionMonth]:
        """The given month of each region that can be read. Repeated calls return the same objects."""

    def damages(self, month: str) -> Iterator[str]:
        """Damages to a closed month since its freeze, one sentence per damage."""


DEFAULT_BOOK = "aws-list"


class InputChangedError(OperationFailedError):
    """An input differs from the input from which a document was made."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The documents that `Rates` pin, read from the bucket."""

    book: PriceBook
    overrides: tuple[Override, ...]
    organization: Organization

    def prices(self, payer_id: str) -> PayerPrices:
        return PayerPrices.of(self.book, self.organization, payer_id, self._owned)

    @cached_property
    def _owned(self) -> OwnedOverrides:
        return OwnedOverrides(self.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateShelf:
    """Loads pinned rates from the home region; each version is loaded only once."""

    books: store.AllBooks
    overrides: store.OverrideStore
    organizations: OrganizationStore
    _loaded: dict[Rates, Loaded] = field(default_factory=dict)

    def newest(self, book_name: str) -> Rates:
        """Rates in force now.

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
        """The pinned documents.

        Raises:
            InputChangedError: The content of a version differs from the pinned digest.
            MeteringError: A version is missing or damaged; the error names the version.
        """
        if rates not in self._loaded:
            self._loaded[rates] = self._load(rates)
        return self._loaded[rates]

    def _load(self, rates: Rates) -> Loaded:
        book = self.books.get(rates.book.name, rates.book.version)
        overrides = self.overrides.get(rates.overrides.version)
        organization = self.organizations.get(rates.organization.version)
        _same(f"Price book {rates.book}", rates.book.sha256, book.sha256)
        _same(f"Version {rates.overrides.version} of overrides", rates.overrides.sha256, overrides.sha256)
        _same(
            f"Version {rates.organization.version} of the organization", rates.organization.sha256, organization.sha256
        )
        return Loaded(book=book, overrides=overrides.overrides, organization=organization)


def _same(what: str, pinned: str, found: str) -> None:
    if pinned != found:
        raise InputChangedError(
            f"{what} has SHA-256 {found or 'none'}, and {pinned or 'none'} was pinned.",
            "A version never changes: bring its object back, from an older version of it in the bucket. The book "
            "`sample` comes with the release: use the one that made the document.",
        )
