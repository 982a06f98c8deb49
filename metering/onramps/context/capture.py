"""Capture: what is known now becomes a context that holds from the next full hour, and never changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.onramps.context.inventory import context_of
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.onramps.context.document import Context
    from metering.onramps.context.store import ContextStore

# What says the same is kept again after a day: contexts are removed by their age, and one in use must outlive the plans
# that name it.
_KEPT_AGAIN_S = DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What a capture came to.

    Attributes:
        context: The context that holds from now on: the new one, or the one that says the same.
        kept: Whether it was kept; False if the newest one says the same.
    """

    context: Context
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Captures a context.

    Attributes:
        describe: Describes networks and flow logs as they are now (`metering.onramps.context.description`).
        store: Where contexts are kept; None if the context is only to be looked at.
    """

    describe: Callable[[], Mapping[str, object]]
    store: ContextStore | None

    def run(self, now_s: int) -> Captured:
        """Capture at a time, in epoch seconds.

        Raises:
            DescriptionError: What was described contradicts itself.
            UnavailableError: A service gave no answer.
        """
        context = context_of(self.describe(), effective_from_s(now_s))
        if self.store is None:
            return Captured(context=context, kept=False)
        newest = self.store.newest()
        age_s = context.effective_s - newest.effective_s if newest is not None else _KEPT_AGAIN_S
        if newest is not None and 0 <= age_s < _KEPT_AGAIN_S and newest.says_the_same(context):
            return Captured(context=newest, kept=False)
        return Captured(context=context, kept=self.store.put(context))


def effective_from_s(now_s: int) -> int:
    """Hour from which a context holds that is captured at `now_s`: the next full one.

    The hour that runs has been judged by another context already, so it cannot change for it.
    """
    return hour_of(now_s) + HOUR_S
