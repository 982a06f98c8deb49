"""Keeping of contexts: each hour has one, which was captured late in the hour before it.

A context holds from the next full hour on. So the later in an hour it is captured, the less has changed when it begins
to hold. A capture that failed is made up for at the next tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from metering.hours import hour_of
from metering.onramps.context.inventory import context_of
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.onramps.context.document import Context
    from metering.stores.clock import Clock

# Two ticks of five minutes, so that one of them may fail.
_LATE_S = 10 * MINUTE_S


class KeptContexts(Protocol):
    """Contexts of a region (`metering.onramps.context.store.ContextStore`)."""

    def newest(self) -> Context | None:
        """The context that holds from the latest hour; None if there is none."""
        ...

    def put(self, context: Context) -> bool:
        """Keep a context; returns False if it was kept before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextKeeper:
    """Captures contexts when they are due.

    Attributes:
        contexts: Where they are kept.
        describe: Describes networks and flow logs as they are now (`metering.onramps.context.description`).
        clock: Wall clock.
    """

    contexts: KeptContexts
    describe: Callable[[], Mapping[str, object]]
    clock: Clock

    def run(self) -> Context | None:
        """Capture a context if one is due; returns it, or None.

        Raises:
            UnavailableError: A service gave no answer; the next tick captures.
            DescriptionError: What was described contradicts itself.
        """
        now_s = self.clock.now_ms() // 1000
        newest = self.contexts.newest()
        if newest is not None and not is_due(newest.effective_s, now_s):
            return None
        context = context_of(self.describe(), hour_of(now_s) + HOUR_S)
        self.contexts.put(context)
        return context


def is_due(newest_s: int, now_s: int) -> bool:
    """Whether a context is due.

    Args:
        newest_s: Hour from which the newest one holds, in epoch seconds.
        now_s: The time now, in epoch seconds.
    """
    hour_s = hour_of(now_s)
    missed = newest_s < hour_s
    late = now_s >= hour_s + HOUR_S - _LATE_S
    return missed or (late and newest_s <= hour_s)
