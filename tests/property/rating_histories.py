"""Random months of a payer: changing prices, allowances, overrides, usage around every boundary, and late usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

from metering.billing.prices.book import Allowance, NotSold, Override, PriceBook, PriceVersion, Product, Services, Tier
from metering.billing.usage.months import UsageLine
from metering.units import GIB, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.priced import BEGIN_S, END_S, book, product

PAYER = "999999999999"
ACCOUNTS = ("111111111111", "222222222222", PAYER)
_CDN = frozenset({"AmazonCloudFront"})
_SERVICES = ("AmazonEC2", "AmazonS3", "AmazonCloudFront")
_SOLD = (
    ("US", "DataTransfer-Out-Bytes", Services(without=_CDN)),
    ("EDGE", "DataTransfer-Out-Bytes", Services(only=_CDN)),
    ("SA", "SAE1-DataTransfer-Out-Bytes", Services()),
    ("PAIR", "USW2-USE1-AWS-Out-Bytes", Services()),
)
_USAGE_TYPES = (*dict.fromkeys(usage_type for _, usage_type, _ in _SOLD), "A-New-Bytes", "Unclassified-Out-Bytes")
# Here, a month has few hours, so that usage, price changes and cuts coincide.
_HOURS = tuple(24 * day + hour for day in (0, 1, 2, 11) for hour in (0, 1, 13, 23))
_CHANGES = (-24, 0, 1, 13, 24, 37, 48, 24 * 11 + 13)
# Small sizes reach boundaries, and large sizes exceed 64 bits.
_UNITS = (1, GIB, 10**18 + 7)

_sizes = st.integers(0, 12)
_changes = st.sampled_from(_CHANGES)
_prices = st.integers(0, 9) | st.integers(0, 2 * 10**9)
_skus = st.sets(st.sampled_from([sku for sku, _, _ in _SOLD]), max_size=3)
_lines = st.tuples(*map(st.sampled_from, (_HOURS, ACCOUNTS, _SERVICES, _USAGE_TYPES)), _sizes)
_versions = st.lists(
    st.tuples(_changes, st.sets(st.sampled_from((5, 8, 20)), max_size=2), st.lists(_prices, min_size=3, max_size=3)),
    min_size=1,
    max_size=3,
    unique_by=lambda version: version[0],
)
_given = st.tuples(_skus, st.integers(0, 30), st.booleans(), st.sampled_from((-24, 0, 24)))
_own = st.tuples(
    st.sampled_from(("payer", "payer", *ACCOUNTS[:2], "another payer")),
    _skus,
    _changes,
    _changes | st.none(),
    st.sampled_from(("price", "percent_off", "no_allowance")),
    st.integers(0, 100_000),
)


class History(NamedTuple):
    """A payer's month.

    Attributes:
        unit: Number that divides every size.
        late: Usage of the month that arrived after its close.
    """

    unit: int
    book: PriceBook
    overrides: tuple[Override, ...]
    usage: tuple[UsageLine, ...]
    late: tuple[UsageLine, ...]


@st.composite
def histories(draw: st.DrawFn, *, overrides: bool = True, changes: bool = True) -> History:
    """A random history. Unless `changes`, prices and overrides are the same all month."""
    unit = draw(st.sampled_from(_UNITS))
    products = []
    for sku, usage_type, services in _SOLD:
        versions = draw(_versions) if changes else [(-24, {5}, draw(st.lists(_prices, min_size=3, max_size=3)))]
        products.append(_product(sku, usage_type, services, sorted(versions, key=lambda version: version[0]), unit))
    own = draw(st.lists(_own, max_size=3)) if overrides else []
    allowances = (_allowance(*each, unit) for each in enumerate(draw(st.lists(_given, max_size=2))))
    unknown = NotSold(pattern="Unclassified-.*", why="nobody knows what it is")
    return History(
        unit=unit,
        book=replace(book(products, *allowances, not_sold=(unknown,)), name="random", sha256=""),
        overrides=_apart([_override(each, unit) for each in own]),
        usage=_usage(draw(st.lists(_lines, max_size=12)), unit),
        late=_usage(draw(st.lists(_lines, max_size=4)), unit),
    )


def _product(
    sku: str, usage_type: str, services: Services, versions: Sequence[tuple[int, set[int], list[int]]], unit: int
) -> Product:
    made = (
        PriceVersion(from_s=_at(hour), tiers=_tiers(f"{sku}.V{number}", sorted(bounds), prices, unit))
        for number, (hour, bounds, prices) in enumerate(versions)
    )
    return replace(product(sku, usage_type, (), services=services), versions=tuple(made))


def _tiers(name: str, bounds: Sequence[int], prices: Sequence[int], unit: int) -> tuple[Tier, ...]:
    begins, ends = (0, *bounds), (*bounds, None)
    steps = [(begin * unit, None if end is None else end * unit) for begin, end in zip(begins, ends, strict=True)]
    return tuple(
        Tier(from_bytes=begin, to_bytes=end, price=price, rate_code=f"{name}.T{number}")
        for number, ((begin, end), price) in enumerate(zip(steps, prices, strict=False))
    )


def _allowance(number: int, given: tuple[set[str], int, bool, int], unit: int) -> Allowance:
    skus, size, in_time, hour = given
    codes = {sku: f"{sku}.FREE{number}" for sku in skus}
    return Allowance(
        id=f"free{number}", bytes=size * unit, skus=tuple(sorted(skus)), from_s=_at(hour), to_s=None, rate_codes=codes,
        order="chronological" if in_time else "dearest-first",
    )  # fmt: skip


def _override(own: tuple[str, set[str], int, int | None, str, int], unit: int) -> Override:
    owner, skus, from_hour, to_hour, kind, number = own
    payer = {"payer": PAYER, "another payer": "000000000000"}.get(owner, "")
    own_kind: dict[str, Any] = {kind: kind == "no_allowance" or number}
    return Override(
        payer=payer, account="" if payer else owner, skus=frozenset(skus), from_s=_at(from_hour),
        to_s=None if to_hour is None else _at(to_hour), why=f"random, unit {unit}", **own_kind,
    )  # fmt: skip


def _apart(overrides: Sequence[Override]) -> tuple[Override, ...]:
    """Valid overrides: each covers at least one hour, and no hour has two overrides of the same rank."""
    kept: list[Override] = []
    for each in overrides:
        end = END_S if each.to_s is None else each.to_s
        others = (other for other in kept if (other.payer, other.account) == (each.payer, each.account))
        if each.from_s < end and not any(
            each.from_s < (END_S if other.to_s is None else other.to_s) and other.from_s < end for other in others
        ):
            kept.append(each)
    return tuple(kept)


def _usage(lines: Sequence[tuple[int, str, str, str, int]], unit: int) -> tuple[UsageLine, ...]:
    return tuple(
        UsageLine(_at(hour), account, Service(service), UsageType(usage_type), "us-east-1", "internet", size * unit)
        for hour, account, service, usage_type, size in lines
    )


def _at(hour: int) -> int:
    return BEGIN_S + hour * HOUR_S
