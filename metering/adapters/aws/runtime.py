"""Time, randomness and the time that an invocation has left, as the machine gives them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Protocol


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep_ms(self, duration_ms: int) -> None:
        time.sleep(max(duration_ms, 0) / 1000)


class SystemEntropy:
    """The operating system's randomness: names that no other process has, forked ones included."""

    def token(self) -> str:
        return secrets.token_hex(16)

    def below(self, limit: int) -> int:
        return secrets.randbelow(limit)


class LambdaContext(Protocol):
    """What Lambda says of an invocation, as far as it is used."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        ...


@dataclass(frozen=True, slots=True)
class LambdaDeadline:
    """`Deadline` of an invocation."""

    context: LambdaContext

    def remaining_ms(self) -> int:
        return self.context.get_remaining_time_in_millis()
