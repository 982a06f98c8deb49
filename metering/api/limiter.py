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
    """Counts requests of tokens. Several threads may use it.

    Each token has a moment until which its bucket is spoken for: a request moves it on by `1 / rate_per_s`, and is let
    in unless that is more than a whole bucket ahead of now.

    Attributes:
        rate_per_s: Requests a second of one token, on average.
        burst: Requests of one token at once.
        clock: The time now.
    """

    rate_per_s: float
    burst: int
    clock: Clock
    _full_at_ms: OrderedDict[str, float] = field(default_factory=OrderedDict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def wait_s(self, token_id: str) -> int:
        """Count a request of a token: 0 if it is let in, else the whole seconds after which the next one is.

        A request that is not let in counts nothing.
        """
        now_ms = self.clock.now_ms()
        step_ms = 1000 / self.rate_per_s
        bucket_ms = step_ms * self.burst
        with self._lock:
            full_at_ms = self._full_at_ms.get(token_id, 0.0)
            # A clock that was set back leaves at most an empty bucket.
            full_at_ms = min(max(full_at_ms, now_ms), now_ms + bucket_ms)
            late_ms = full_at_ms + step_ms - (now_ms + bucket_ms)
            self._full_at_ms[token_id] = full_at_ms if late_ms > 0 else full_at_ms + step_ms
            self._full_at_ms.move_to_end(token_id)
            while len(self._full_at_ms) > MOST_TOKENS:
                self._full_at_ms.popitem(last=False)
        return -int(-late_ms // 1000) if late_ms > 0 else 0
