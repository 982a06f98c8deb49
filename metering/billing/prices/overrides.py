"""Overrides: other prices of a payer or an account. A version holds all of them (`metering.overrides/1`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.billing.documents.strict_json import DocumentRefusedError, strict_json
from metering.billing.documents.written import MOST_PERCENT, hour_of_text, hour_text, percent_of, percent_text
from metering.billing.money import price_of, usd_text
from metering.billing.prices.book import Override
from metering.billing.prices.document import shape_problems
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SCHEMA = "metering.overrides/1"
MOST_OVERRIDES = 10_000
_ACCOUNT_DIGITS = 12
_Text = Annotated[str, StringConstraints(max_length=400)]


class OverrideDocument(BaseModel):
    """One override: of a payer or an account, a price, a percentage off, or no allowance."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    payer: _Text = ""
    account: _Text = ""
    skus: list[_Text] = []
    begin: _Text = Field(alias="from")
    end: _Text | None = Field(default=None, alias="to")
    price: _Text | None = None
    percent_off: _Text | None = None
    no_allowance: bool = False
    why: _Text


class OverridesDocument(BaseModel):
    """A version of all overrides."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["metering.overrides/1"] = Field(alias="schema")
    version: int = Field(ge=1, le=10**9)
    overrides: list[OverrideDocument] = Field(max_length=MOST_OVERRIDES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """An immutable version of all overrides.

    Attributes:
        version: 0 if none was ever put.
        sha256: Of its canonical document; what invoices pin.
    """

    version: int = 0
    sha256: str = ""
    overrides: tuple[Override, ...] = ()


def override_problems(overrides: Iterable[Override]) -> list[str]:
    """Every problem of overrides; empty if they may be written together."""
    every = list(overrides)
    return [*(problem for each in every for problem in _of_one(each)), *_overlaps(every)]


def named(override: Override) -> str:
    """An override as a person would point to it."""
    who = f"payer {override.payer}" if override.payer else f"account {override.account}"
    end = f" to {hour_text(override.to_s)}" if override.to_s is not None else ""
    what = ", ".join(sorted(override.skus)) or "all products"
    return f"{who}, {what}, from {hour_text(override.from_s)}{end}"


def _of_one(override: Override) -> Iterator[str]:
    where = named(override)
    yield from (f"{where}: {problem}" for problem in (*_of_owner(override), *_of_price(override), *_of_time(override)))


def _of_owner(override: Override) -> Iterator[str]:
    if bool(override.payer) == bool(override.account):
        yield "it names one payer or one account"
    who = override.payer or override.account
    if not (len(who) == _ACCOUNT_DIGITS and who.isascii() and who.isdigit()):
        yield f"{who!r} is no account id of {_ACCOUNT_DIGITS} digits"


def _of_price(override: Override) -> Iterator[str]:
    if override.price is not None and override.percent_off is not None:
        yield "it has either a price or a percentage off"
    if override.price is None and override.percent_off is None and not override.no_allowance:
        yield "it changes nothing"
    if override.price is not None and override.price < 0:
        yield "its price is negative"
    if override.percent_off is not None and not 0 <= override.percent_off <= MOST_PERCENT:
        yield "a percentage lies from 0 to 100"


def _of_time(override: Override) -> Iterator[str]:
    if override.from_s % HOUR_S or (override.to_s or 0) % HOUR_S:
        yield "it begins and ends at full hours"
    if override.to_s is not None and override.to_s <= override.from_s:
        yield "it ends before it begins"


def _overlaps(overrides: list[Override]) -> Iterator[str]:
    """Two of one rank at one time: nobody could say which of them counts."""
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
    value: dict[str, object] = {"from": hour_text(override.from_s), "why": override.why}
    value |= {"payer": override.payer} if override.payer else {"account": override.account}
    if override.skus:
        value["skus"] = sorted(override.skus)
    if override.to_s is not None:
        value["to"] = hour_text(override.to_s)
    if override.price is not None:
        value["price"] = usd_text(override.price)
    if override.percent_off is not None:
        value["percent_off"] = percent_text(override.percent_off)
    if override.no_allowance:
        value["no_allowance"] = True
    return value


def read_overrides(body: bytes, what: str) -> Overrides:
    """Overrides of a document.

    Raises:
        DocumentRefusedError: Names every problem.
    """
    try:
        document = OverridesDocument.model_validate(strict_json(body, what))
    except ValidationError as error:
        raise DocumentRefusedError(what, shape_problems(error)) from error
    problems: list[str] = []
    read = tuple(_override_of(each, problems) for each in document.overrides)
    problems = problems or override_problems(read)
    if problems:
        raise DocumentRefusedError(what, problems)
    return Overrides(version=document.version, sha256=hashlib.sha256(body).hexdigest(), overrides=read)


def _override_of(document: OverrideDocument, problems: list[str]) -> Override:
    def read(reader: Callable[[str], int], text: str | None) -> int | None:
        try:
            return None if text is None else reader(text)
        except ValueError as error:
            problems.append(f"{document.payer or document.account}: {error}")
            return None

    return Override(
        payer=document.payer,
        account=document.account,
        skus=frozenset(document.skus),
        from_s=read(hour_of_text, document.begin) or 0,
        to_s=read(hour_of_text, document.end),
        price=read(price_of, document.price),
        percent_off=read(percent_of, document.percent_off),
        no_allowance=document.no_allowance,
        why=document.why,
    )
