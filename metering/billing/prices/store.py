"""Price books and overrides in the home region's bucket: `prices/<book>/<version>.json`, `prices/overrides/…`."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from metering.billing import documents
from metering.billing.money import price_of, usd_text
from metering.billing.prices.book import Override, PriceBook
from metering.billing.prices.document import (
    BOOK_NAME,
    RESERVED_NAMES,
    StrictDocument,
    book_value,
    content_value,
    problems_of,
    read_book,
)
from metering.errors import ObjectDamagedError, OperationFailedError
from metering.stores.objects import PRICES_PREFIX, ObjectStore
from metering.units import HOUR_S

SAMPLE = "sample"
"""Prices of real bill lines, shipped with the package. Invoices refuse this book unless it is named."""
# The current version comes first. Earlier versions are used to verify the invoices that were made with them.
_FILES = {2: "book.json", 1: "book-1.json"}


def sample_versions() -> list[int]:
    """Versions of the sample book, the newest first."""
    return [*_FILES]


@cache
def sample_book(version: int = max(_FILES)) -> PriceBook:
    """A version of the sample book, one of `sample_versions`. It never changes.

    Raises:
        KeyError: The sample book has no such version.
    """
    path = resources.files("metering.billing.prices").joinpath("sample", _FILES[version])
    book = read_book(path.read_bytes(), SAMPLE)
    # The file has a line for each value, so that people can read it. The digest pins the canonical document.
    return replace(book, sha256=hashlib.sha256(documents.canonical(book_value(book))).hexdigest())


SCHEMA = "metering.overrides/1"
MOST_OVERRIDES = 10_000
_Text = Annotated[str, StringConstraints(max_length=400)]


class _OverrideDocument(StrictDocument):
    payer: _Text = ""
    account: _Text = ""
    skus: list[_Text] = Field(default=[])
    begin: _Text = Field(alias="from")
    end: _Text | None = Field(default=None, alias="to")
    price: _Text | None = None
    percent_off: _Text | None = None
    no_allowance: bool = False
    why: _Text


class _OverridesDocument(StrictDocument):
    format: Literal["metering.overrides/1"] = Field(alias="schema")
    version: int = Field(ge=1, le=10**9)
    overrides: list[_OverrideDocument] = Field(max_length=MOST_OVERRIDES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """An immutable version of all overrides, whose digest invoices pin. Version 0 if no version was ever put."""

    version: int = 0
    sha256: str = ""
    overrides: tuple[Override, ...] = ()


def override_problems(overrides: Iterable[Override]) -> list[str]:
    """List all problems of overrides that are written together."""
    every = list(overrides)
    return [*(problem for each in every for problem in _of_one(each)), *_overlaps(every)]


def named(override: Override) -> str:
    """Short name of an override, for people."""
    who = f"payer {override.payer}" if override.payer else f"account {override.account}"
    end = f" to {documents.hour_text(override.to_s)}" if override.to_s is not None else ""
    what = ", ".join(sorted(override.skus)) or "all products"
    return f"{who}, {what}, from {documents.hour_text(override.from_s)}{end}"


def _of_one(override: Override) -> Iterator[str]:
    who = override.payer or override.account
    has_price, has_percent = override.price is not None, override.percent_off is not None
    return documents.problems_in(named(override), {
        "it names one payer or one account": bool(override.payer) == bool(override.account),
        f"{who!r} is no account id of {documents.ACCOUNT_DIGITS} digits": not documents.is_account_id(who),
        "it has either a price or a percentage off": has_price and has_percent,
        "it changes nothing": not (has_price or has_percent or override.no_allowance),
        "its price is negative": (override.price or 0) < 0,
        "a percentage lies from 0 to 100": not 0 <= (override.percent_off or 0) <= documents.MOST_PERCENT,
        "it begins and ends at full hours": (override.from_s % HOUR_S or (override.to_s or 0) % HOUR_S) > 0,
        "it ends before it begins": override.to_s is not None and override.to_s <= override.from_s,
    })  # fmt: skip


def _overlaps(overrides: list[Override]) -> Iterator[str]:
    """Find overlapping overrides of the same rank, of which none has precedence."""
    of: dict[tuple[str, str], list[Override]] = {}
    for each in overrides:
        of.setdefault((each.payer, each.account), []).append(each)
    for every in of.values():
        for number, one in enumerate(every):
            for other in every[number + 1 :]:
                if _meet(one, other):
                    yield (
                        f"two overrides overlap: {named(one)}; and {named(other)}. End one where the other begins (set "
                        "it again with --to), or remove one"
                    )


def _meet(one: Override, other: Override) -> bool:
    products = not one.skus or not other.skus or bool(one.skus & other.skus)
    apart = (one.to_s is not None and one.to_s <= other.from_s) or (other.to_s is not None and other.to_s <= one.from_s)
    return products and not apart


def overrides_value(version: int, overrides: Iterable[Override]) -> dict[str, object]:
    """The document of overrides."""
    written = [_override_value(each) for each in overrides]
    return {"schema": SCHEMA, "version": version, "overrides": sorted(written, key=_order)}


def _order(value: dict[str, object]) -> tuple[str, ...]:
    return tuple(str(value.get(name, "")) for name in ("payer", "account", "from", "skus"))


def _override_value(override: Override) -> dict[str, object]:
    value: dict[str, object] = {"from": documents.hour_text(override.from_s), "why": override.why}
    value |= {"payer": override.payer} if override.payer else {"account": override.account}
    if override.skus:
        value["skus"] = sorted(override.skus)
    if override.to_s is not None:
        value["to"] = documents.hour_text(override.to_s)
    if override.price is not None:
        value["price"] = usd_text(override.price)
    if override.percent_off is not None:
        value["percent_off"] = documents.percent_text(override.percent_off)
    if override.no_allowance:
        value["no_allowance"] = True
    return value


def read_overrides(body: bytes, what: str) -> Overrides:
    """Overrides of a document.

    Raises:
        DocumentRefusedError: Names every problem.
    """
    document = _OverridesDocument.read(body, what)
    reading = documents.Reading()
    read = tuple(_override_of(each, reading) for each in document.overrides)
    problems = reading.problems or override_problems(read)
    if problems:
        raise documents.DocumentRefusedError(what, problems)
    return Overrides(version=document.version, sha256=hashlib.sha256(body).hexdigest(), overrides=read)


def _override_of(document: _OverrideDocument, reading: documents.Reading) -> Override:
    def read(reader: Callable[[str], int], text: str | None) -> int | None:
        return None if text is None else reading.read(reader, text, document.payer or document.account)

    return Override(
        payer=document.payer,
        account=document.account,
        skus=frozenset(document.skus),
        from_s=read(documents.hour_of_text, document.begin) or 0,
        to_s=read(documents.hour_of_text, document.end),
        price=read(price_of, document.price),
        percent_off=read(documents.percent_of, document.percent_off),
        no_allowance=document.no_allowance,
        why=document.why,
    )


_BOOK_KEY = re.compile(f"{PRICES_PREFIX}({BOOK_NAME.pattern})/[0-9]+\\.json")


class PriceStore:
    """All versions of all price books."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def names(self) -> list[str]:
        keys = (_BOOK_KEY.fullmatch(info.key) for info in self._objects.list(PRICES_PREFIX))
        return sorted({found[1] for found in keys if found is not None} - RESERVED_NAMES)

    def versions(self, name: str) -> list[int]:
        return self._documents(name).numbers()

    def listed(self, name: str) -> list[tuple[int, int]]:
        return self._documents(name).listed()

    def newest(self, name: str) -> PriceBook | None:
        """The newest version; None if there is no version."""
        found = self._documents(name).newest()
        return None if found is None else _book(found)

    def get(self, name: str, version: int) -> PriceBook:
        """One version of a price book.

        Raises:
            ObjectMissingError: There is none.
            ObjectDamagedError: The object is not this version.
        """
        return _book(self._documents(name).get(version))

    def put(self, book: PriceBook) -> PriceBook:
        """`append` a price book as the next version under its name; the given `version` and `sha256` are ignored."""
        return self.append(book.name, lambda _newest: book)

    def append(self, name: str, make: Callable[[PriceBook | None], PriceBook]) -> PriceBook:
        """Write a book as the next version, unless it equals the newest; returns the newest version.

        Args:
            name: Its name.
            make: Makes the book from the newest version; called again if another process wrote a version first.

        Raises:
            DocumentRefusedError: The book has problems.
        """

        def document(number: int, newest: documents.Numbered | None) -> dict[str, object] | None:
            before = None if newest is None else _book(newest)
            made = replace(make(before), version=number)
            if problems := problems_of(made):
                raise documents.DocumentRefusedError(f"price book {name}", problems)
            same = before is not None and content_value(before) == content_value(made)
            return None if same else book_value(made)

        written = self._documents(name).append(document)
        if written is None:  # pragma: no cover  # without a version before, there is something to write
            raise documents.DocumentRefusedError(f"price book {name}", ["it has no version"])
        return _book(written)

    def _documents(self, name: str) -> documents.NumberedDocuments:
        if BOOK_NAME.fullmatch(name) is None or name in RESERVED_NAMES:
            raise documents.DocumentRefusedError(f"price book {name!r}", ["that is not the name of a book"])
        return documents.NumberedDocuments(self._objects, f"{PRICES_PREFIX}{name}/")


class OverrideStore(documents.VersionStore[Overrides]):
    """All versions of the overrides."""

    def __init__(self, objects: ObjectStore) -> None:
        super().__init__(
            documents.NumberedDocuments(objects, f"{PRICES_PREFIX}overrides/"), read_overrides, Overrides()
        )

    def append(self, change: Callable[[tuple[Override, ...]], tuple[Override, ...]]) -> Overrides:
        """Write changed overrides as the next version, unless nothing changed; returns the newest version.

        Args:
            change: Makes new overrides from the current overrides; called again if another process wrote a version
                first.

        Raises:
            DocumentRefusedError: They contradict each other.
        """

        def document(number: int, newest: documents.Numbered | None) -> dict[str, object] | None:
            before = self._of(newest).overrides
            after = change(before)
            if problems := override_problems(after):
                raise documents.DocumentRefusedError("overrides", problems)
            same = overrides_value(0, before) == overrides_value(0, after)
            return None if same else overrides_value(number, after)

        return self._of(self._documents.append(document))


def _book(found: documents.Numbered) -> PriceBook:
    try:
        book = read_book(found.body, found.key)
    except documents.DocumentRefusedError as error:
        raise ObjectDamagedError(found.key, error.reason) from error
    if book.version != found.number or not found.key.endswith(f"/{book.name}/{book.version}.json"):
        raise ObjectDamagedError(found.key, f"it says that it is version {book.version} of {book.name}")
    return book


def sample_version(version: int) -> PriceBook:
    """A version of the sample price book.

    Raises:
        OperationFailedError: This release has no such version of the sample price book.
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
    """Imported price books, and the sample book of the package."""

    imported: PriceStore

    def newest(self, name: str) -> PriceBook | None:
        return sample_book() if name == SAMPLE else self.imported.newest(name)

    def get(self, name: str, version: int) -> PriceBook:
        """A version. Raises as `PriceStore.get` does.

        Raises:
            OperationFailedError: The sample book of this release has no such version.
        """
        return sample_version(version) if name == SAMPLE else self.imported.get(name, version)
