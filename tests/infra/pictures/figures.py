"""Invented figures of three hours: an aggregator stops at 10:40, alarms fire, and the aggregator restarts at 11:25."""

import ast
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from metering.units import HOUR_S, MINUTE_S

POINTS = 37
FIRST_MINUTE = 9 * 60
STEP_MIN = 5
_STOPPED, _STARTED, _CAUGHT_UP = 20, 29, 32
Series = list[float]

_TRAFFIC = {
    "BatchesAccepted": 41_000.0, "BatchesDuplicate": 320.0, "BatchesRejected": 42.0, "BatchesConflict": 0.0,
    "RecordsMetered": 4_060_000.0, "RecordsRefused": 610.0, "BytesMetered": 4.9e14,
    "ConsumedWriteCapacityUnits": 86_000.0, "ConsumedReadCapacityUnits": 21_000.0, "Invocations": 900.0,
    "ConcurrentExecutions": 9.0,
}  # fmt: skip
# Metrics that grow while nothing is processed, each with its normal value and its increase per step.
_WAITING = {
    "OldestBatchAge": (4.0, STEP_MIN * MINUTE_S), "ApproximateAgeOfOldestMessage": (4.0, STEP_MIN * MINUTE_S),
    "CanaryAge": (160.0, STEP_MIN * MINUTE_S),
    "ApproximateNumberOfMessagesVisible": (240.0, 41_000.0),
}  # fmt: skip
_LEVEL = {
    "ApiRequests": 1_240.0, "ApiUnauthorized": 6.0, "ApiFailedPermille": 0.4, "ApiSlowPermille": 3.0, "ApiReads": 900.0,
    "OldestPendingAge": 0.7 * HOUR_S, "ReconciliationBacklogAge": 0.4 * HOUR_S, "ReconciliationAge": 0.2 * HOUR_S,
    "PlannedRunAge": 190.0, "OpenCommitAge": 75.0, "OpenCommits": 2.0, "ApproximateNumberOfMessagesNotVisible": 380.0,
    "SilentSources": 0.0, "CleaningOverdueAge": 0.0,
}  # fmt: skip
_P99_MS = {
    "aggregator": 14_000.0, "compactor": 240_000.0, "rollup": 61_000.0, "reconciler": 310_000.0, "canary": 96_000.0,
    "watch": 5_200.0,
}  # fmt: skip


def series_of(metric: str, label: str, *, dead_letters: bool = False, quiet: bool = False, seed: int = 0) -> Series:
    """Values of a metric at each step. A `quiet` region repeats the time before the incident."""
    steps = [step % _STOPPED if quiet else step for step in range(POINTS)]
    return [max(_value(metric, label, step, dead_letters=dead_letters, seed=seed), 0.0) for step in steps]


def _value(metric: str, label: str, step: int, *, dead_letters: bool, seed: int) -> float:
    ripple = 1 + 0.06 * math.sin(step * 1.3 + seed * 1.7) + 0.04 * math.sin(step * 0.37 + len(label))
    stopped = _STOPPED <= step < _STARTED
    if dead_letters and metric == "ApproximateAgeOfOldestMessage":
        return (step - _STARTED + 9) * STEP_MIN * MINUTE_S if step >= _STARTED else 0.0
    if dead_letters or metric == "DeadLetters":
        return 3.0 if step >= _STARTED else 0.0
    if metric == "CompleteThroughAge":
        # The dead letters hold completeness back, even after all other work has caught up.
        return 95.0 * ripple + STEP_MIN * MINUTE_S * max(step - _STOPPED, 0)
    if metric in _WAITING:
        rest, growth = _WAITING[metric]
        waits = max(min(step, _STARTED) - _STOPPED, 0)
        left = waits if step <= _STARTED else waits * max(_CAUGHT_UP - step, 0) / (_CAUGHT_UP - _STARTED)
        return rest * ripple + growth * left
    if metric in _TRAFFIC:
        catching_up = 2.6 if _STARTED <= step < _CAUGHT_UP else 1.0
        return 0.0 if stopped else _TRAFFIC[metric] * ripple * catching_up
    if metric == "Duration":
        return 0.0 if stopped and label == "aggregator" else _P99_MS.get(label, 9_000.0) * ripple
    if metric == "Errors" and label == "aggregator":
        return 30.0 * ripple if stopped else 0.0
    return _LEVEL.get(metric, 0.0) * ripple


def computed(expression: str, known: Mapping[str, Sequence[float]]) -> Series:
    """Values of a metric expression: sums, products and quotients of metrics and constants."""
    tree = ast.parse(expression, mode="eval").body
    return [_at(tree, known, step) for step in range(POINTS)]


_OPERATORS = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Div: operator.truediv}


def _at(node: ast.expr, known: Mapping[str, Sequence[float]], step: int) -> float:
    if isinstance(node, ast.BinOp):
        apply: Any = _OPERATORS[type(node.op)]
        return float(apply(_at(node.left, known, step), _at(node.right, known, step)))
    if isinstance(node, ast.Name):
        return known[node.id][step]
    assert isinstance(node, ast.Constant)
    return float(str(node.value))


def readable(value: float) -> str:
    """Axis label of a number."""
    for limit, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if limit != 1e4 else 1e3):.3g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 2):g}"
