"""`Metrics` of a function: counters in its log in Embedded Metric Format, without the cost of API calls.

A counter with its own dimensions is also published without them, so alarms need not specify them.
"""

from __future__ import annotations

import threading
from collections import Counter

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from metering.metric_names import NAMESPACE

# An EMF object holds at most 100 metrics, and Powertools itself flushes it at the hundredth.
_MAX_METRICS = 99

_Dimensions = tuple[tuple[str, str], ...]


class EmfMetrics:
    """Counters of one invocation; `flush` writes them to standard output. Dimensions: `service`, `stage`."""

    def __init__(self, *, service: str, stage: str) -> None:
        self._service = service
        self._stage = stage
        self._counts: dict[_Dimensions, Counter[str]] = {}
        self._lock = threading.Lock()

    def count(self, name: str, value: int = 1, **dimensions: str) -> None:
        with self._lock:
            self._counts.setdefault((), Counter())[name] += value
            if dimensions:
                self._counts.setdefault(tuple(sorted(dimensions.items())), Counter())[name] += value

    def flush(self) -> None:
        """Write the counters since the last flush, one line for each set of dimensions."""
        with self._lock:
            counts, self._counts = self._counts, {}
        for dimensions, counter in counts.items():
            names = list(counter)
            for start in range(0, len(names), _MAX_METRICS):
                self._write(dimensions, {name: counter[name] for name in names[start : start + _MAX_METRICS]})

    def _write(self, dimensions: _Dimensions, counts: dict[str, int]) -> None:
        line = EphemeralMetrics(namespace=NAMESPACE, service=self._service)
        line.add_dimension(name="stage", value=self._stage)
        for name, value in dimensions:
            line.add_dimension(name=name, value=value)
        for name, count in counts.items():
            line.add_metric(name=name, unit=MetricUnit.Count, value=count)
        line.flush_metrics()
