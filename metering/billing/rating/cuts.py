"""Where in a payer's month the allowance ends and tiers begin: the only thing that accounts need of one another.

A position is a number of bytes of one product. Free bytes count the bytes that may be free, in the order of rating;
tiers count those that are paid. A cut is the place of a position in the usage. With its payer's cuts, any account,
day or hour can be priced alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.usage.ports import LineKey


class Cut(NamedTuple):
    """A place in the usage of a product: bytes into the line of a key and hour. Its fields are those of a `UsageLine`.

    Lines that sort before it lie before it. With an empty account id it lies at the beginning of its hour.
    """

    hour_s: int
    account_id: str = ""
    service: Service = Service("")
    usage_type: UsageType = UsageType("")
    from_location: str = ""
    to_location: str = ""
    into_bytes: int = 0

    @property
    def key(self) -> LineKey:
        """Key of the line."""
        return self[:6]


class FreePart(NamedTuple):
    """What an allowance gives to a product.

    Attributes:
        bytes: How much.
        cut: Where it ends; None if it does not end within the month.
    """

    allowance: str
    bytes: int
    cut: Cut | None


class Threshold(NamedTuple):
    """Where a tier of any price version begins: `from_bytes` beyond the allowances. `cut` None: it is not reached."""

    from_bytes: int
    cut: Cut | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuPositions:
    """Cuts of one product.

    Attributes:
        free: In the order in which allowances are used.
        tiers: In the order of `from_bytes`, without the first tier, which begins at 0.
    """

    free: tuple[FreePart, ...] = ()
    tiers: tuple[Threshold, ...] = ()

    @property
    def cuts(self) -> tuple[Cut | None, ...]:
        """Those of allowances, and then those of tiers."""
        return (*(part.cut for part in self.free), *(tier.cut for tier in self.tiers))

    @property
    def given(self) -> dict[str, int]:
        """What each allowance gives, in the order in which they are used."""
        return {part.allowance: part.bytes for part in self.free}


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Cuts of a payer's month. They are few: for a product at most its allowances and the tiers of its versions.

    Attributes:
        book_sha256: Of the book that they are for.
    """

    payer_id: str
    month: str
    book_sha256: str = ""
    skus: Mapping[str, SkuPositions] = field(default_factory=dict)

    def to_value(self) -> dict[str, object]:
        """As a JSON value. Bytes are texts, because they may be larger than what readers of JSON hold exactly."""
        return {
            "payer_id": self.payer_id,
            "month": self.month,
            "book_sha256": self.book_sha256,
            "skus": {
                sku: {
                    "free": [[part.allowance, str(part.bytes), _cut_value(part.cut)] for part in each.free],
                    "tiers": [[str(tier.from_bytes), _cut_value(tier.cut)] for tier in each.tiers],
                }
                for sku, each in sorted(self.skus.items())
            },
        }

    @classmethod
    def from_value(cls, value: Mapping[str, object]) -> Self:
        """The inverse of `to_value`.

        Raises:
            ValueError: It is no such value.
        """
        try:
            return cls(
                payer_id=_text(value["payer_id"]),
                month=_text(value["month"]),
                book_sha256=_text(value["book_sha256"]),
                skus={sku: _sku_of(each) for sku, each in _items(value["skus"])},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"these are no positions of a payer: {error!r}") from error


def _cut_value(cut: Cut | None) -> list[object] | None:
    return None if cut is None else [*cut.key, str(cut.into_bytes)]


def _cut_of(value: object) -> Cut | None:
    if value is None:
        return None
    hour_s, *texts, into_bytes = _list(value)
    account_id, service, usage_type, from_location, to_location = map(_text, texts)
    if type(hour_s) is not int:
        raise TypeError(f"{hour_s!r} is no hour")
    return Cut(
        hour_s, account_id, Service(service), UsageType(usage_type), from_location, to_location, _bytes(into_bytes)
    )


def _sku_of(value: object) -> SkuPositions:
    parts = dict(_items(value))
    return SkuPositions(
        free=tuple(
            FreePart(_text(allowance), _bytes(size), _cut_of(cut))
            for allowance, size, cut in map(_list, _list(parts["free"]))
        ),
        tiers=tuple(Threshold(_bytes(size), _cut_of(cut)) for size, cut in map(_list, _list(parts["tiers"]))),
    )


def _items(value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return [(_text(key), each) for key, each in value.items()]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _bytes(value: object) -> int:
    return int(_text(value))
