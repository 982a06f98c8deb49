"""Counters in memory."""

from __future__ import annotations

from collections import Counter


class MemoryMetrics:
    """`Metrics` that stores its counters: `counts` by name, `by_dimensions` by name and sorted dimensions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.by_dimensions: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        self.counts[name] += value
        if dimensions:
            self.by_dimensions[name, tuple(sorted(dimensions.items()))] += value
