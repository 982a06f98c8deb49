"""Explains the cost of one hour's usage: the position before the hour, cuts, price version, overrides, allowance."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.money import UNITS_A_USD, exact_text, quantity_of, usd_text
from metering.billing.prices.book import NotSold, Override, PriceVersion, Product
from metering.billing.rating.payer_prices import Cut, PriceState, RatedLine, SkuPositions
from metering.billing.rating.rater import Rater, positions, rated_by_days
from metering.billing.usage.months import MergedUsage, Sold, UsageLine
from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Json, RowType, copied, exact, money, number, prose
from metering.reports.costs.rows import CostQuery, Labels, gb_text
from metering.reports.query import UsageQuery
from metering.units import DAY_S, GIB, HOUR_S, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.reports.costs import source


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """A query about an account's usage of one usage type in one hour, for one service or for all services."""

    account_id: str
    hour_s: int
    usage_type: str
    service: str = ""

    def asks(self, line: UsageLine) -> bool:
        """Whether the inquiry covers a line."""
        return (line.hour_s, line.account_id, line.usage_type) == (self.hour_s, self.account_id, self.usage_type) and (
            not self.service or line.service == self.service
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Bytes of a payer's product before a line, in the order of rating: free by an allowance, or counted by tiers."""

    free: int = 0
    paid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStory:
    """One line, split into pieces with one price each, and the month's overrides (the account's own first) and cuts."""

    line: UsageLine
    found: Product | NotSold | None
    pieces: tuple[RatedLine, ...]
    before: Before = Before()
    version: PriceVersion | None = None
    overrides: tuple[Override, ...] = ()
    cuts: SkuPositions | None = None

    @property
    def exact(self) -> int:
        """Exact cost (L0)."""
        return sum(piece.exact for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All lines of an inquiry, and the month's digest for each region that has closed the month."""

    inquiry: Inquiry
    payer_id: str
    plan: source.MonthPlan
    lines: tuple[LineStory, ...]
    digests: dict[str, str]
    regions: tuple[str, ...]

    @property
    def exact(self) -> int:
        """Exact cost (L0) of all lines."""
        return sum(line.exact for line in self.lines)


def explained(inquiry: Inquiry, plan: source.MonthPlan, usage: MergedUsage) -> Explanation:
    """Rate the lines of an inquiry, and find all usage that their prices depend on: the payer's usage in the month.

    Raises:
        UnavailableError: A region does not respond.
    """
    prices = plan.loaded.prices(usage.payer_id)
    found_positions = positions(prices, usage)
    rater = Rater(prices, found_positions)
    mine = usage.of_accounts(frozenset([inquiry.account_id]))
    day_s = inquiry.hour_s - inquiry.hour_s % DAY_S
    sold = frozenset(
        line.sold for line in mine.day_lines() if line.hour_s == day_s and line.usage_type == inquiry.usage_type
    )
    stories: list[LineStory] = []
    for line in filter(inquiry.asks, mine.lines_of(sold, day_s) if sold else ()):
        found, pieces = prices.found(line.sold), tuple(rater.rate(line))
        if not isinstance(found, Product):
            stories.append(LineStory(line=line, found=found, pieces=pieces))
            continue
        stories.append(
            LineStory(
                line=line,
                found=found,
                pieces=pieces,
                before=_before(line, _same_product(found, usage), usage, rater),
                version=found.version_at(line.hour_s),
                overrides=tuple(prices.in_force(found.sku, line.account_id, line.hour_s)),
                cuts=found_positions.skus.get(found.sku),
            )
        )
    return Explanation(
        inquiry=inquiry,
        payer_id=usage.payer_id,
        plan=plan,
        lines=tuple(stories),
        digests={region.region: region.digest for region in usage.regions if region.digest},
        regions=tuple(region.region for region in usage.regions),
    )


def _same_product(product: Product, usage: MergedUsage) -> frozenset[Sold]:
    """All usage that is sold as this product, because tiers count the usage of all services together."""
    return frozenset(
        sold for sold in usage.days() if sold.usage_type == product.usage_type and product.services.takes(sold.service)
    )


def _before(line: UsageLine, sold: frozenset[Sold], usage: MergedUsage, rater: Rater) -> Before:
    free = paid = 0
    for rated in _rated_before(line, sold, usage, rater):
        if rated.allowance:
            free += rated.line.bytes
        elif rated.state is PriceState.PRICED:
            # Usage from before the first price has no position in the tiers.
            paid += rated.line.bytes
    return Before(free=free, paid=paid)


def _rated_before(line: UsageLine, sold: frozenset[Sold], usage: MergedUsage, rater: Rater) -> Iterator[RatedLine]:
    own_day_s = line.hour_s - line.hour_s % DAY_S

    def needs(_part: str, day: UsageLine) -> bool:
        return day.hour_s <= own_day_s and Sold(day.service, day.usage_type) in sold

    found = rated_by_days(rater, {"": usage}, needs=needs, splits=own_day_s.__eq__)
    return (rated for _, rated in found if rated.line.key < line.key)


def _pieces(labels: Labels) -> RowType[RatedLine]:
    return RowType(
        copied("service", of=lambda it: it.line.service, priority=KEEP),
        copied("from", of=lambda it: it.line.from_location),
        copied("to", of=lambda it: it.line.to_location),
        prose("tier", of=labels.tier, priority=KEEP),
        exact("bytes", of=lambda it: it.line.bytes, priority=KEEP),
        money("price_usd", of=lambda it: _priced(it, Decimal(usd_text(it.price))), title="USD a GB"),
        number("cost_usd", of=lambda it: _priced(it, exact_text(it.exact)), title="cost, exactly", priority=KEEP),
    )


def _priced(piece: RatedLine, amount: Decimal | str) -> Decimal | str | None:
    return amount if piece.state == "priced" else None


def explanation_answer(explanation: Explanation, *, as_of_s: int) -> Answer:
    """The rows are the pieces of the lines, each at one price."""
    asked = explanation.inquiry
    query = CostQuery(usage=UsageQuery(from_s=asked.hour_s, to_s=asked.hour_s + HOUR_S))
    labels = Labels(query, explanation.plan.loaded.book, explanation.payer_id)
    hour = rfc3339(asked.hour_s)
    return _pieces(labels).answer(
        [piece for story in explanation.lines for piece in story.pieces],
        document=_document(explanation, labels, as_of_s),
        title=f"{asked.usage_type} of account {asked.account_id} in the hour from {hour}",
        empty="The account has no such usage in this hour.",
        footer=tuple(_footer(explanation, as_of_s)),
        commands=(_batches(explanation),),
    )


def _footer(explanation: Explanation, as_of_s: int) -> Iterator[str]:
    for story in explanation.lines:
        yield from _story(story)
    rates = explanation.plan.rates
    yield f"In all {exact_text(explanation.exact)} USD, exactly. It is rounded only where it is printed."
    yield (
        f"Payer {explanation.payer_id}; {rates.told}; usage of {', '.join(explanation.regions)}, as of "
        f"{rfc3339(as_of_s)}."
    )
    asked = explanation.inquiry
    yield (
        f"Usage that came after the month was closed is not in it: metering cost --account {asked.account_id} "
        f"--usage-type {asked.usage_type} --month {explanation.plan.month} --group-by hour --with-corrections"
    )
    yield "The batches that this usage came in:"


def _story(story: LineStory) -> Iterator[str]:
    line = story.line
    named = f"{line.service} from {line.from_location} to {line.to_location}"
    if isinstance(story.found, NotSold):
        yield f"{named} is not sold here: {story.found.why}"
        return
    if story.version is None or not isinstance(story.found, Product):
        yield f"{named} has no price: the price book knows nothing of it in this hour. Its cost is not 0, but unknown."
        return
    yield (
        f"{named} is product {story.found.sku}. Before it, its payer had {exact_and_size(story.before.paid)} of the "
        f"product in this month to pay, and {exact_and_size(story.before.free)} free by allowances."
    )
    yield from _cuts(story)
    yield f"Prices in force since {rfc3339(story.version.from_s)}: {_tiers(story)}."
    yield from (f"Override of {_owner(each)}: {_terms(each)}. {each.why}".rstrip() for each in story.overrides)
    for piece in story.pieces:
        yield f"{_sum(piece)}{f' (allowance {piece.allowance})' if piece.allowance else ''}"


def _cuts(story: LineStory) -> Iterator[str]:
    if story.cuts is None:
        return
    for part in story.cuts.free:
        end = "does not end within the month's usage" if part.cut is None else f"ends {_place(part.cut)}"
        yield f"Allowance {part.allowance} gives it {exact_and_size(part.bytes)}; it {end}."
    for tier in story.cuts.tiers:
        begin = "is not reached" if tier.cut is None else f"begins {_place(tier.cut)}"
        yield f"The tier from {gb_text(tier.from_bytes)} GB {begin}."


def _place(cut: Cut) -> str:
    if not cut.account_id:
        return f"with the hour {rfc3339(cut.hour_s)}"
    line = f"{cut.usage_type} of {cut.service}, account {cut.account_id}, {rfc3339(cut.hour_s)}"
    return f"{cut.into_bytes:,} bytes into {line}"


def _tiers(story: LineStory) -> str:
    if story.version is None:
        return "none"
    return ", ".join(
        f"{usd_text(tier.price)} USD a GB from {gb_text(tier.from_bytes)} GB" for tier in story.version.tiers
    )


def _owner(override: Override) -> str:
    return f"account {override.account}" if override.account else f"payer {override.payer}"


def _terms(override: Override) -> str:
    parts = []
    if override.price is not None:
        parts.append(f"{usd_text(override.price)} USD a GB")
    if override.percent_off is not None:
        parts.append(f"{usd_text(override.percent_off, decimals=3)} % off")
    if override.no_allowance:
        parts.append("no part of allowances")
    return ", ".join(parts)


def _sum(piece: RatedLine) -> str:
    """The cost of a piece as a calculation that a reader can check."""
    return (
        f"{piece.line.bytes:,} bytes / {GIB:,} x {usd_text(piece.price)} USD = {exact_text(piece.exact)} USD; "
        f"as a line of a bill: {usd_text(piece.quantity)} GB, {usd_text(piece.cost)} USD"
    )


def _batches(explanation: Explanation) -> str:
    asked = explanation.inquiry
    service = f" --service {asked.service}" if asked.service else ""
    return (
        f"metering trace --account {asked.account_id} --usage-type {asked.usage_type}{service} --hour "
        f"{rfc3339(asked.hour_s)}"
    )


def _document(explanation: Explanation, labels: Labels, as_of_s: int) -> dict[str, Json]:
    asked, rates = explanation.inquiry, explanation.plan.rates
    return {
        "account_id": asked.account_id,
        "hour": rfc3339(asked.hour_s),
        "usage_type": asked.usage_type,
        "as_of": rfc3339(as_of_s),
        "payer": explanation.payer_id,
        "currency": "USD",
        "price_book": {"name": rates.book.name, "version": rates.book.version, "sha256": rates.book.sha256},
        "overrides": rates.overrides.version,
        "organization": rates.organization.version,
        "regions": list(explanation.regions),
        "closed": dict(explanation.digests),
        "total_usd": exact_text(explanation.exact),
        "lines": [_line_document(story, labels) for story in explanation.lines],
        "batches": _batches(explanation),
    }


def _line_document(story: LineStory, labels: Labels) -> dict[str, Json]:
    line = story.line
    document: dict[str, Json] = {
        "service": line.service,
        "from": line.from_location,
        "to": line.to_location,
        "bytes": str(line.bytes),
        "quantity_gb": usd_text(quantity_of(line.bytes)),
        "state": story.pieces[0].state.value if story.pieces else "priced",
        "pieces": [_piece_document(piece, labels) for piece in story.pieces],
    }
    if isinstance(story.found, NotSold):
        document["why"] = story.found.why
    if isinstance(story.found, Product):
        document |= {
            "sku": story.found.sku,
            "before": {"paid_bytes": str(story.before.paid), "free_bytes": str(story.before.free)},
            "cuts": _cuts_document(story),
            "prices_from": None if story.version is None else rfc3339(story.version.from_s),
            "overrides": [{"of": _owner(each), "terms": _terms(each), "why": each.why} for each in story.overrides],
        }
    return document


def _cuts_document(story: LineStory) -> list[Json]:
    if story.cuts is None:
        return []
    free: list[Json] = [
        {"allowance": part.allowance, "bytes": str(part.bytes), "ends": _cut_document(part.cut)}
        for part in story.cuts.free
    ]
    return [
        *free,
        *({"tier_from_bytes": str(each.from_bytes), "begins": _cut_document(each.cut)} for each in story.cuts.tiers),
    ]


def _cut_document(cut: Cut | None) -> dict[str, Json] | None:
    if cut is None:
        return None
    return {
        "hour": rfc3339(cut.hour_s),
        "account_id": cut.account_id,
        "service": cut.service,
        "usage_type": cut.usage_type,
        "from": cut.from_location,
        "to": cut.to_location,
        "into_bytes": str(cut.into_bytes),
    }


def _piece_document(piece: RatedLine, labels: Labels) -> dict[str, Json]:
    if piece.state != "priced":
        return {"bytes": str(piece.line.bytes), "tier": labels.tier(piece)}
    return {
        "bytes": str(piece.line.bytes),
        "tier": labels.tier(piece),
        "allowance": piece.allowance,
        "rate_code": piece.rate_code,
        "price_usd": usd_text(piece.price),
        "list_price_usd": usd_text(piece.list_price),
        "exact_usd": exact_text(piece.exact),
        "line_quantity_gb": usd_text(piece.quantity),
        "line_cost_usd": usd_text(piece.cost),
        "sum": f"{piece.line.bytes} / {GIB} * {Decimal(piece.price) / UNITS_A_USD:f}",
    }
