"""Periods of use that lines are about: an hour, a day or a month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from metering.hours import hour_label, month_bounds_s, month_of
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

Grain = Literal["hour", "day", "month"]
GRAINS: tuple[Grain, ...] = get_args(Grain)
_SIZES_S = {"hour": HOUR_S, "day": DAY_S}


def period_of(hour_s: int, grain: Grain) -> int:
    """First second of the period that an hour lies in."""
    return month_bounds_s(month_of(hour_s))[0] if grain == "month" else hour_s - hour_s % _SIZES_S[grain]


def ends_of(starts: pa.Array, grain: Grain) -> pa.Array:
    """Ends of periods that begin at these seconds; an end is not part of its period."""
    if grain != "month":
        return pc.add(starts, _SIZES_S[grain])
    return _each(starts, lambda start_s: month_bounds_s(month_of(start_s))[1], pa.int64())


def labels_of(starts: pa.Array) -> pa.Array:
    """Labels of the hours that these periods begin with: `2026-11-24T13`."""
    return _each(starts, hour_label, pa.string())


def _each(starts: pa.Array, value: Callable[[int], int | str], kind: pa.DataType) -> pa.Array:
    # Lines are many, and periods of a month few.
    encoded = starts.dictionary_encode()
    return pa.array([value(each) for each in encoded.dictionary.to_pylist()], kind).take(encoded.indices)
