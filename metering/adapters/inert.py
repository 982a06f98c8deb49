"""Adapters without effects: metrics for commands, and a queue for callers that only read."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

_NONE = "This process reads only: it has no queue."


class NoMetrics:
    """`Metrics` that discard all counters: only functions publish counters, and a command prints its results."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Drop the counter."""


class NoQueue:
    """A `Queue` for a caller without access to a queue: each call raises a RuntimeError."""

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> NoReturn:
        raise RuntimeError(_NONE)

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> NoReturn:
        raise RuntimeError(_NONE)

    def delete_many(self, receipts: Sequence[str]) -> NoReturn:
        raise RuntimeError(_NONE)

    def release(self, receipts: Sequence[str]) -> NoReturn:
        raise RuntimeError(_NONE)

    def hide(self, receipts: Mapping[str, int]) -> NoReturn:
        raise RuntimeError(_NONE)

    def depth(self) -> NoReturn:
        raise RuntimeError(_NONE)

    def start_redrive(self, *, max_per_s: int = 500) -> NoReturn:
        raise RuntimeError(_NONE)
