"""Benchmark of rating on one core: lines per second of rating one line, and of pricing a month's lines by their cuts.

The same rule in decimals is the baseline of the line rule. The walk's baseline is a plain loop that tracks a position,
finds the tier and sums the cost, but makes no lines. All sides get the same in-memory lines; each figure is the best
CPU time of several interleaved rounds, so that a busy machine slows all sides alike. Results are compared, too.
"""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

from metering.billing.money import line_cost
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import Rater, positions
from metering.units import GIB
from tests.support.priced import US_TIERS, ListedUsage, book, product, tiers_of, usd, used

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.billing.usage.months import UsageLine

_LINES = 300_000
_ROUNDS = 4
_EXACT = Context(prec=60)
_PLACES = Decimal("1e-10")

# Documented rates in million lines per second on one core, and the speed of the line rule as a multiple of decimals'.
_LINE_RULE = 1.5
_WALK = 1.0
_TIMES_DECIMALS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Measured rate and target rate, in million lines per second."""

    name: str
    ours: float
    baseline: float
    target: float
    times_baseline: float = 0.0

    @property
    def met(self) -> bool:
        return self.ours >= self.target and self.ours >= self.times_baseline * self.baseline

    def __str__(self) -> str:
        verdict = "" if self.met else f"   MISSED: under {self.target} M lines/s or {self.times_baseline} times"
        return (
            f"{self.name:<12} {self.ours:5.2f} M lines/s, {self.ours / self.baseline:4.1f} times "
            f"the baseline's {self.baseline:.2f}{verdict}"
        )


def line_rule() -> Figure:
    """Measure rating one line, in integers and in decimals."""
    sizes = [line.bytes for line in _lines()]
    units, price = usd("0.09"), Decimal("0.09")

    def decimals() -> list[int]:
        return [int(_half_up(_half_up(Decimal(size) / GIB) * price).scaleb(10)) for size in sizes]

    def ours() -> list[int]:
        return [line_cost(size, units) for size in sizes]

    fast, slow = _best(ours, decimals)
    return Figure(name="line rule", ours=fast, baseline=slow, target=_LINE_RULE, times_baseline=_TIMES_DECIMALS)


def walk() -> Figure:
    """Measure pricing a month's lines by their cuts, against a loop that only sums."""
    lines, tiers = _lines(), tiers_of("US", US_TIERS)
    prices = PayerPrices(book([product("US", "DataTransfer-Out-Bytes", US_TIERS)]), "999999999999")
    rater = Rater(prices, positions(prices, ListedUsage(lines)))

    def plain() -> int:
        exact = position = tier = 0
        for line in lines:
            left = line.bytes
            while left:
                end = tiers[tier].to_bytes
                part = left if end is None else min(left, end - position)
                exact += part * tiers[tier].price
                position, left = position + part, left - part
                tier += position == end
        return exact

    def ours() -> deque[object]:
        return deque(rater.rated(lines), maxlen=0)

    if sum(line.exact for line in rater.rated(lines)) != plain():
        raise AssertionError("the lines do not cost what the plain loop adds up")
    fast, slow = _best(ours, plain)
    return Figure(name="walk", ours=fast, baseline=slow, target=_WALK)


def _best(ours: Callable[[], object], baseline: Callable[[], object]) -> tuple[float, float]:
    """Million lines per second of both sides, measured alternately."""
    best = [0.0, 0.0]
    for _ in range(_ROUNDS):
        results = []
        for side, run in enumerate((ours, baseline)):
            began = time.process_time()
            results.append(run())
            best[side] = max(best[side], _LINES / 1e6 / (time.process_time() - began))
        if isinstance(results[0], list) and results[0] != results[1]:
            raise AssertionError("both sides differ")
    return best[0], best[1]


def _lines() -> list[UsageLine]:
    draw = random.Random(14)
    return sorted(
        used(draw.randrange(1, 2 * GIB), draw.randrange(720), account=f"{number:012d}") for number in range(_LINES)
    )


def _half_up(number: Decimal) -> Decimal:
    return number.quantize(_PLACES, ROUND_HALF_UP, _EXACT)


def main() -> int:
    """Print the figures. Returns 0 if every target is met."""
    figures = [line_rule(), walk()]
    for figure in figures:
        print(figure)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
