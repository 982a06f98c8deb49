"""Metrics of a command, which are not collected."""


class NoMetrics:
    """`Metrics` that are dropped: the counters are the functions' own, and a command prints its results."""

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        """Drop the counter."""
