"""Adapters that do nothing: metrics of a command, and the queue of a caller that only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NoMetrics:
    """`Metrics` that are dropped: the counters are the functions' own, and a command prints its results."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Drop the counter."""


class NoQueue:
    """A `Queue` that nothing can be sent to and nothing comes from: its user has no right to any."""

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> NoReturn:
        """Refuse.

        Raises:
            RuntimeError: Always.
        """
        raise _none()

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()

    def delete_many(self, receipts: Sequence[str]) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()

    def release(self, receipts: Sequence[str]) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()

    def hide(self, receipts: Mapping[str, int]) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()

    def depth(self) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()

    def start_redrive(self, *, max_per_s: int = 500) -> NoReturn:
        """Refuse, as `send_many` does."""
        raise _none()


def _none() -> RuntimeError:
    return RuntimeError("This process reads only: it has no queue.")
