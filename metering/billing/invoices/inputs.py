"""What an invoice is a pure function of: each input by its version and its digest, so that it can be computed again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.fields import Fields

ENGINE_VERSION = 1
"""Version of the rules that make an invoice of its inputs. A change that gives any invoice other bytes raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One version of a numbered document: of overrides, or of the organization. Version 0: there was none."""

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
    """What usage of a month is rated with."""

    book: BookPin
    overrides: Pin
    organization: Pin

    @property
    def told(self) -> str:
        """For people, such as `aws-list version 3, no overrides, payers version 1`."""
        overrides, payers = self.overrides.version, self.organization.version
        return (
            f"{self.book}, {f'overrides version {overrides}' if overrides else 'no overrides'}, "
            f"{f'payers version {payers}' if payers else 'no payers set'}"
        )

    def to_value(self) -> dict[str, object]:
        return {
            "book": {"name": self.book.name, "version": self.book.version, "sha256": self.book.sha256},
            "overrides": {"version": self.overrides.version, "sha256": self.overrides.sha256},
            "organization": {"version": self.organization.version, "sha256": self.organization.sha256},
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Rates:
        book = fields.nested("book")
        pin = BookPin(name=book.text("name"), version=book.whole("version"), sha256=book.text("sha256"))
        return cls(
            book=pin, overrides=_pin(fields.nested("overrides")), organization=_pin(fields.nested("organization"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Inputs of one document.

    Attributes:
        engine: Version of the rules.
        closed: By month, the digest of each region's closed month: of the invoice's own month, of those that it
            corrects, and of those between.
        rates: By month: of the invoice's own month, and of those that it corrects.
        billed: Ids and digests of the documents that a credit note is the difference to; empty for an invoice.
    """

    engine: int
    closed: Mapping[str, Mapping[str, str]]
    rates: Mapping[str, Rates]
    billed: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 of all of them: two documents of one digest were made of the same."""
        return hashlib.sha256(canonical(self.to_value())).hexdigest()

    def to_value(self) -> dict[str, object]:
        return {
            "engine": self.engine,
            "closed": {month: dict(regions) for month, regions in self.closed.items()},
            "rates": {month: rates.to_value() for month, rates in self.rates.items()},
            "billed": dict(self.billed),
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> Inputs:
        closed, rates, billed = fields.nested("closed"), fields.nested("rates"), fields.nested("billed")
        return cls(
            engine=fields.whole("engine", least=1),
            closed={month: _texts(closed.nested(month)) for month in closed},
            rates={month: Rates.from_fields(rates.nested(month)) for month in rates},
            billed=_texts(billed),
        )

    def differences(self, other: Inputs) -> Iterator[str]:
        """What another set of inputs has different, a sentence each."""
        mine, others = dict(_flat(self.to_value())), dict(_flat(other.to_value()))
        for name in sorted(mine.keys() | others.keys()):
            if mine.get(name) != others.get(name):
                yield f"{name} is {others.get(name, 'missing')}, and was {mine.get(name, 'missing')}"


def _pin(fields: Fields) -> Pin:
    return Pin(version=fields.whole("version"), sha256=fields.any_text("sha256"))


def _texts(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields}


def _flat(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for name, each in value.items():
        yield from _flat(each, f"{path} {name}".strip())
