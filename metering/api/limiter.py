"""How often one token may ask: a bucket that fills at a steady rate, in this process's memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.stores.clock import Clock

# About 200 bytes each. Only good tokens are counted, so nobody can fill it by guessing.
MOST_TOKENS = 10_000


@dataclass(kw_only=True)
class Limiter:
    """Counts requests of tokens, or what they read. Several threads may use it.

    Each token has a moment until which its bucket is spoken for: a unit moves it on by `1 / rate_per_s`, and a request
    is let in unless that is more than a whole bucket ahead of now.

    Attributes:
        rate_per_s: Units a second of one token, on average; a request is one.
        burst: Units of one token at once.
        clock: The time now.
        most_units: Units of the largest request.
    """

    rate_per_s: float
    burst: int
    clock: Clock
    most_units: int = 1
    _full_at_ms: OrderedDict[str, float] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def wait_s(self, token_id: str, units: int = 1) -> int:
        """Count a request of a token: 0 if it is let in, else the whole seconds after which the next one is.

        A request that is not let in counts nothing. One is let in if there is room for one unit: what it takes beyond
        the bucket is a debt, and the next one waits until it is paid.

        Args:
            token_id: The token.
            units: What the request takes of the bucket.
        """
        now_ms = self.clock.now_ms()
        step_ms = 1000 / self.rate_per_s
        bucket_ms = step_ms * self.burst
        with self._lock:
            full_at_ms = self._full_at(token_id, now_ms)
            late_ms = full_at_ms + step_ms - (now_ms + bucket_ms)
            self._keep(token_id, full_at_ms if late_ms > 0 else full_at_ms + step_ms * units)
        return -int(-late_ms // 1000) if late_ms > 0 else 0

    def correct(self, token_id: str, units: int) -> None:
        """Count more of a request that was let in, or less if this is negative."""
        with self._lock:
            self._keep(token_id, self._full_at(token_id, self.clock.now_ms()) + 1000 / self.rate_per_s * units)

    def _full_at(self, token_id: str, now_ms: int) -> float:
        # A clock that was set back leaves at most an empty bucket, and the largest debt.
        most_ms = 1000 / self.rate_per_s * (self.burst + self.most_units - 1)
        return min(max(self._full_at_ms.get(token_id, 0.0), now_ms), now_ms + most_ms)

    def _keep(self, token_id: str, full_at_ms: float) -> None:
        self._full_at_ms[token_id] = full_at_ms
        self._full_at_ms.move_to_end(token_id)
        while len(self._full_at_ms) > MOST_TOKENS:
            self._full_at_ms.popitem(last=False)
