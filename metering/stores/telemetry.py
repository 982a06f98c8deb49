"""Counters, gauges and alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Metrics(Protocol):
    """Counters and gauges of the service. Never the source of a total (I1)."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Add to a counter."""
        ...


class Gauges(Protocol):
    """Durable state as plain figures, for alarms that must not depend on a function's counters."""

    def publish(self, values: Mapping[str, int]) -> None:
        """Publish the current value of each name; all values are of one moment."""
        ...


class Alerts(Protocol):
    """The two topics: `page` wakes the operator on duty, `ticket` waits for the morning."""

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        """Publish one alert. `severity` is `page` or `ticket`."""
        ...
