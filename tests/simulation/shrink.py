"""Shortens a failing seed's history: without unnecessary faults and batches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.history import History, Outcome, run_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BATCHES = 25


def shortest(seed: int) -> tuple[frozenset[int], frozenset[int], Outcome]:
    """Numbers of the faults and batches to drop, and the outcome of the rest, which is still a violation."""
    outcome = run_history(seed)
    faults: frozenset[int] = frozenset()
    batches: frozenset[int] = frozenset()

    def fails(dropped_faults: frozenset[int], dropped_batches: frozenset[int]) -> bool:
        return bool(run_history(seed, dropped_faults=dropped_faults, dropped_batches=dropped_batches).violation)

    # Without a fault, the rest runs differently, so the numbers to choose from change after each success.
    for _ in range(3):
        batches = _drop(batches, range(_BATCHES), partial(fails, faults))
        happened = [n for n, _ in run_history(seed, dropped_faults=faults, dropped_batches=batches).faults]
        faults = _drop(faults, happened, partial(fails, dropped_batches=batches))
    outcome = run_history(seed, dropped_faults=faults, dropped_batches=batches)
    return faults, batches, outcome


def describe(seed: int, faults: frozenset[int], batches: frozenset[int], outcome: Outcome) -> Iterator[str]:
    """A failing history in words."""
    yield f"seed {seed}: {outcome.violation}"
    history = History(seed, dropped_faults=faults, dropped_batches=batches)
    for sending in history.traffic.sendings:
        content = history.traffic.contents[sending.content]
        rows = ", ".join(f"{row.usage_type} {row.bytes} at {row.start_s}" for row in content.rows)
        yield f"  epoch {sending.epoch}, after {sending.after_ms} ms: {sending.sender_id} sends {content.name}: {rows}"
    for number, fault in outcome.faults:
        yield f"  fault {number}: {fault}"
    yield f'  keep as: {{"seed": {seed}, "dropped_faults": {sorted(faults)}, "dropped_batches": {sorted(batches)}}}'


def _drop(
    dropped: frozenset[int], numbers: range | list[int], fails: Callable[[frozenset[int]], bool]
) -> frozenset[int]:
    left = [number for number in numbers if number not in dropped]
    size = len(left)
    while size:
        start = 0
        while start < len(left):
            part = frozenset(left[start : start + size])
            if fails(dropped | part):
                dropped |= part
                left = [number for number in left if number not in part]
            else:
                start += size
        size //= 2
    return dropped
