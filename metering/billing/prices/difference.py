"""The difference between two versions of a price book."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.billing import money
from metering.billing.documents import gb_text, hour_text, some_of
from metering.billing.prices import document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.prices.book import Allowance, PriceBook, PriceVersion, Product


class Kind(StrEnum):
    """The kind of a change."""

    ADDED = "added"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        subject: SKU, name of an allowance, or pattern of a rule.
        usage_type: Usage type of a changed product; empty if something else changed.
        from_s: Hour from which the change applies; None if there is no such hour.
        tier_gb: The tier of a price, such as `0 to 10240`.
        old, new: Price in USD, or a description; empty if absent.
    """

    kind: Kind
    subject: str
    usage_type: str = ""
    from_s: int | None = None
    tier_gb: str = ""
    old: str = ""
    new: str = ""


def difference(before: PriceBook | None, after: PriceBook) -> list[Change]:
    """Every change from one price book to another; if `before` is None, everything is an addition."""
    old = {} if before is None else before.by_sku
    changes = [
        *(change for sku in sorted({*old, *after.by_sku}) for change in _product(old.get(sku), after.by_sku.get(sku))),
        *_allowances(() if before is None else before.allowances, after.allowances),
        *_rules(before, after),
    ]
    order = list(Kind)
    return sorted(changes, key=lambda change: order.index(change.kind))


def reprices_from(before: PriceBook | None, after: PriceBook) -> int | None:
    """First hour in which a product's existing price changes; None if there is no such hour.

    A product's first price is not a change, because no invoice has used it. Nor is a removed product: closed months
    keep their price book, and later usage is `unpriced`.
    """
    if before is None:
        return None
    hours: list[int] = []
    for sku, old in before.by_sku.items():
        new = after.by_sku.get(sku)
        if new is None:
            continue
        if (new.usage_type, new.services) != (old.usage_type, old.services):
            hours.append(old.versions[0].from_s)
        bounds = {version.from_s for version in (*old.versions, *new.versions)}
        hours.extend(
            hour
            for hour in bounds
            if (had := old.version_at(hour)) is not None and not _same(had, new.version_at(hour))
        )
    hours.extend(_allowance_hours(before, after))
    return min(hours, default=None)


def _allowance_hours(before: PriceBook, after: PriceBook) -> Iterator[int]:
    new = {each.id: each for each in after.allowances}
    known = {each.id for each in before.allowances}
    for each in after.allowances:
        if each.id not in known and not before.by_sku.keys().isdisjoint(each.skus):
            yield each.from_s
    for old in before.allowances:
        now = new.get(old.id)
        if now is None or (now.bytes, now.from_s, now.order) != (old.bytes, old.from_s, old.order):
            yield old.from_s
        elif now.to_s != old.to_s:
            yield min(end for end in (now.to_s, old.to_s) if end is not None)
        elif (set(old.skus) ^ set(now.skus)) & before.by_sku.keys() & after.by_sku.keys():
            # Before this version, a new product had no priced usage.
            yield old.from_s


def _same(one: PriceVersion, other: PriceVersion | None) -> bool:
    return other is not None and one.tiers == other.tiers


def _product(old: Product | None, new: Product | None) -> Iterator[Change]:
    if new is None:
        if old is not None:
            price = money.usd_text(old.versions[-1].first_price)
            yield Change(kind=Kind.GONE, subject=old.sku, usage_type=old.usage_type, old=price)
        return
    yield from _renamed(old, new)
    for version in new.versions:
        if old is None or version not in old.versions:
            yield from _version(old, new, version)
    kept = {version.from_s for version in new.versions}
    for version in old.versions if old is not None else ():
        if version.from_s not in kept and not _same(version, new.version_at(version.from_s)):
            price = money.usd_text(version.first_price)
            yield Change(kind=Kind.GONE, subject=new.sku, usage_type=new.usage_type, from_s=version.from_s, old=price)


def _renamed(old: Product | None, new: Product) -> Iterator[Change]:
    if old is None:
        return
    for was, now in ((old.usage_type, new.usage_type), (_services(old), _services(new)), (_way(old), _way(new))):
        if was != now:
            yield Change(kind=Kind.CHANGED, subject=new.sku, usage_type=new.usage_type, old=was, new=now)


def _way(product: Product) -> str:
    return f"{product.transfer} from {product.from_location or 'anywhere'} to {product.to_location or 'anywhere'}"


def _services(product: Product) -> str:
    only, without = sorted(product.services.only), sorted(product.services.without)
    return f"only {', '.join(only)}" if only else f"all but {', '.join(without)}" if without else "all services"


def _version(old: Product | None, new: Product, version: PriceVersion) -> Iterator[Change]:
    had = None if old is None else old.version_at(version.from_s)
    before = {} if had is None else _prices(had)
    after = _prices(version)
    for tier in dict.fromkeys([*after, *before]):
        was, now = before.get(tier, ""), after.get(tier, "")
        if was != now or _rates(had) != _rates(version):
            yield Change(
                kind=_kind(was, now),
                subject=new.sku,
                usage_type=new.usage_type,
                from_s=version.from_s,
                tier_gb=tier,
                old=was,
                new=now,
            )


def _kind(was: str, now: str) -> Kind:
    return Kind.ADDED if not was else Kind.CHANGED if now else Kind.GONE


def _rates(version: PriceVersion | None) -> list[str]:
    return [] if version is None else [tier.rate_code for tier in version.tiers]


def _prices(version: PriceVersion) -> dict[str, str]:
    prices: dict[str, str] = {}
    for tier, value in zip(version.tiers, document.tiers_value(version), strict=True):
        end = value["to_gb"]
        name = f"{gb_text(tier.from_bytes)} to {end}" if end is not None else f"from {gb_text(tier.from_bytes)}"
        prices[name] = str(value["price"])
    return prices


def _allowances(before: Iterable[Allowance], after: Iterable[Allowance]) -> Iterator[Change]:
    old, new = ({each.id: each for each in allowances} for allowances in (before, after))
    for name in sorted({*old, *new}):
        was, now = (_allowance_text(found, name) for found in (old, new))
        if name in old and name in new:
            was, now = was + _only_in(old[name], new[name]), now + _only_in(new[name], old[name])
        if was != now:
            begin = (new.get(name) or old[name]).from_s
            yield Change(kind=_kind(was, now), subject=f"allowance {name}", from_s=begin, old=was, new=now)


def _allowance_text(found: Mapping[str, Allowance], name: str) -> str:
    each = found.get(name)
    if each is None:
        return ""
    end = "" if each.to_s is None else ", ended"
    return f"{gb_text(each.bytes)} GB over {len(each.skus)} products, {each.order}{end}"


def _only_in(one: Allowance, other: Allowance) -> str:
    """SKUs, rate codes and times that only `one` of two versions of an allowance has."""
    codes = set(one.rate_codes.items()) - set(other.rate_codes.items())
    names = sorted({*(set(one.skus) - set(other.skus)), *(code for _, code in codes)})
    told = f"; {some_of(names)}" if names else ""
    if one.from_s != other.from_s:
        told += f"; from {hour_text(one.from_s)}"
    if one.to_s != other.to_s:
        told += "; for ever" if one.to_s is None else f"; to {hour_text(one.to_s)}"
    return told


def _rules(before: PriceBook | None, after: PriceBook) -> Iterator[Change]:
    old = () if before is None else before.not_sold
    for rule in after.not_sold:
        if rule not in old:
            yield Change(kind=Kind.ADDED, subject=f"not sold: {rule.pattern}", new=rule.why)
    for rule in old:
        if rule not in after.not_sold:
            yield Change(kind=Kind.GONE, subject=f"not sold: {rule.pattern}", old=rule.why)
