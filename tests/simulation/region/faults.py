"""Faults of single calls, and the deciders that choose the faults."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Protocol

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


class Fault(StrEnum):
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost, applied"
    APPLIED_LATER = "reply lost, applied later"
    SENT_TWICE = "reply lost, sent again by the SDK"
    THROTTLED = "throttled"
    CONFLICT = "transaction conflict"
    ACTION_THROTTLED = "an action of the transaction throttled"
    KILLED_BEFORE = "killed before the call"
    KILLED_AFTER = "killed after the call"
    PAUSED = "paused beyond the visibility timeout"


READ_FAULTS = (Fault.REQUEST_LOST, Fault.THROTTLED, Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.PAUSED)
WRITE_FAULTS = (
    Fault.REQUEST_LOST,
    Fault.REPLY_LOST,
    Fault.REPLY_LOST,
    Fault.APPLIED_LATER,
    Fault.SENT_TWICE,
    Fault.THROTTLED,
    Fault.KILLED_BEFORE,
    Fault.KILLED_AFTER,
    Fault.PAUSED,
)
TRANSACTION_FAULTS = (*WRITE_FAULTS, Fault.CONFLICT, Fault.ACTION_THROTTLED)


class Decider(Protocol):
    """Decides which calls fail, and how. `histogram` counts the faults that were applied."""

    histogram: Counter[str]

    def decide(self, process: str, call: str, choices: tuple[Fault, ...]) -> Fault | None: ...

    def later_ms(self) -> int: ...

    def pause_ms(self) -> int: ...


class RandomFaults:
    """Faults by chance. Faults are numbered, so that a rerun can omit some of them.

    Args:
        seed: Decides all of it.
        rate: Share of calls that get a fault.
        dropped: Numbers of the faults to omit.
    """

    def __init__(self, seed: int, *, rate: float, dropped: Collection[int] = ()) -> None:
        self.histogram: Counter[str] = Counter()
        self.happened: list[tuple[int, str]] = []
        self.enabled = True
        self._random = random.Random(seed)
        self._rate = rate
        self._dropped = frozenset(dropped)
        self._number = 0

    def decide(self, process: str, call: str, choices: tuple[Fault, ...]) -> Fault | None:
        if not self.enabled or self._random.random() >= self._rate:
            return None
        fault = choices[int(self._random.random() * len(choices))]
        self._number += 1
        if self._number in self._dropped:
            return None
        self.histogram[fault] += 1
        self.happened.append((self._number, f"{process}: {call}: {fault}"))
        return fault

    def later_ms(self) -> int:
        # Delays from zero to days; half of them are a few seconds at most.
        return int(10 ** (self._random.random() * 8.4))

    def pause_ms(self) -> int:
        return int(self._random.random() * 15 * MINUTE_MS)


class ScriptedFaults:
    """Faults from a script, and a record of every call of one process.

    Args:
        script: Call number of `process` (from 0) -> fault of the call.
        process: Name of the process whose calls are counted and recorded.
    """

    def __init__(self, process: str, script: Mapping[int, Fault], *, later_ms: int = HOUR_MS) -> None:
        self.histogram: Counter[str] = Counter()
        self.calls: list[tuple[str, tuple[Fault, ...]]] = []
        self._process = process
        self.script = script
        self._later_ms = later_ms

    def decide(self, process: str, call: str, choices: tuple[Fault, ...]) -> Fault | None:
        if process != self._process:
            return None
        number = len(self.calls)
        self.calls.append((call, choices))
        fault = self.script.get(number)
        if fault is not None:
            self.histogram[fault] += 1
        return fault

    def later_ms(self) -> int:
        return self._later_ms

    def pause_ms(self) -> int:
        return 10 * MINUTE_MS
