"""What a region costs in a month in which it meters nothing: alarms, dashboards, figures, a key, ticks of the jobs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.operations.alarms import ALARMS, API_ORIGIN, LOG_FIGURES, LOG_ORIGINS, Figure
from metering.operations.own_costs.list_prices import PROCESSING_USD, STANDING_USD
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

_MONTH_S = 30 * DAY_S
# Counters of the functions beside the figures of the watch: a custom metric for each name that is counted every day.
_COUNTERS = 16
_API_COUNTERS = 5
# An idle tick takes about this long; a job that has work takes longer, and that is no standing cost.
_TICK_S = Decimal(1)
_CENT = Decimal("0.01")
_DASHBOARDS = 2
_MB_A_GB = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A job on a schedule."""

    every_min: int
    memory_mb: int


def standing_month_usd(
    ticks: Sequence[Tick], *, composite_alarms: int, log_sources: bool = False, api: bool = False
) -> Decimal:
    """Monthly cost in USD of one idle region at list prices of us-east-1, rounded to cents.

    Args:
        ticks: Its jobs.
        composite_alarms: Number of its composite alarms.
        log_sources: Whether it has log sources, with alarms and figures of their own.
        api: Whether it has an HTTP API, with alarms and counters of its own.
    """
    left_out = {*(() if log_sources else LOG_ORIGINS), *(() if api else (API_ORIGIN,))}
    things = {
        "alarm": sum(spec.origin not in left_out for spec in ALARMS),
        "composite alarm": composite_alarms,
        "dashboard": _DASHBOARDS,
        "custom metric": len(Figure)
        - (0 if log_sources else len(LOG_FIGURES))
        + _COUNTERS
        + (_API_COUNTERS if api else 0),
        "customer managed key": 1,
    }
    fixed = sum((STANDING_USD[name] * count for name, count in things.items()), Decimal(0))
    return (fixed + sum((_month_of(tick) for tick in ticks), Decimal(0))).quantize(_CENT)


def _month_of(tick: Tick) -> Decimal:
    runs = _MONTH_S // (tick.every_min * MINUTE_S)
    gb_s = _TICK_S * tick.memory_mb / _MB_A_GB
    return runs * (PROCESSING_USD["Lambda request"] + gb_s * PROCESSING_USD["Lambda GB-second (arm64)"])
