"""Clock, entropy and deadline of the machine."""

import secrets
import time
from dataclasses import dataclass
from typing import Protocol


class SystemClock:
    """`Clock` of the machine."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def sleep_ms(self, duration_ms: int) -> None:
        time.sleep(max(duration_ms, 0) / 1000)


class SystemEntropy:
    """`Entropy` of the operating system. Tokens are unique across processes, even forked ones."""

    def token(self) -> str:
        return secrets.token_hex(16)

    def below(self, limit: int) -> int:
        return secrets.randbelow(limit)


class LambdaContext(Protocol):
    """The members of Lambda's context object that the functions use."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops the invocation."""


@dataclass(frozen=True, slots=True)
class LambdaDeadline:
    """`Deadline` of an invocation."""

    context: LambdaContext

    def remaining_ms(self) -> int:
        return self.context.get_remaining_time_in_millis()
