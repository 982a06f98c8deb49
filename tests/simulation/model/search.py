"""Complete breadth-first search and random walks over small processes that share tables and objects.

A process is a chain of stages. A stage is a generator that yields one call at a time; its state is its arguments and
the answers so far, so a state of the search can be copied and compared. A stage may return the next stage, whose
answers begin anew. A call says all its possible outcomes; a call without an outcome waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.model.world import BrokenError

_SELDOM = 0.9
Value = Any  # hashable: of an item, an object or an answer
Key = tuple[Hashable, ...]
Cells = Mapping[Key, Value]
Changes = dict[Key, Value]  # None: the key is deleted
Outcome = tuple[Changes, Value]
Next = tuple["Stage", tuple[Value, ...]]
Steps = Generator["Call", Value, Value]  # calls, and at the end the next stage, or None
Stage = Callable[..., Steps]
Local = tuple[Stage, tuple[Value, ...], tuple[Value, ...]]
At = tuple[int, tuple[int, ...]]  # mark and local states


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        late: Whether the call can still be applied once, after its process was ended.
        ends: Processes of this table end with this call; each of them keeps at most one late call.
        private: The table that alone is read or changed.
        is_rare: Whether a random walk should seldom choose it while other calls are possible.
    """

    name: str
    outcomes: Callable[[Cells], list[Outcome]]
    late: bool = False
    ends: str = ""
    private: str = ""
    is_rare: bool = False


@dataclass(frozen=True, slots=True)
class Actor:
    """A process: `table` is the ledger that it works on, and `kind` is `old`, `new`, `restorer` or `event`."""

    name: str
    table: str
    kind: str
    first: Next


@dataclass(frozen=True, slots=True)
class State:
    cells: dict[Key, Value]
    mark: int  # changes with each cell, so that equal cells have equal marks
    at: tuple[int, ...]  # of each actor: number of its local state, 0 if it is over, negative if only its call is left


@dataclass(slots=True)
class Found:
    states: int = 0
    ends: int = 0
    is_complete: bool = True
    error: str = ""
    trace: list[str] = field(default_factory=list)


def _cell(key: Key, value: Value) -> int:
    return hash((key, value))


def marked(cells: dict[Key, Value]) -> int:
    mark = 0
    for key, value in cells.items():
        mark ^= _cell(key, value)
    return mark


@dataclass(slots=True)
class Search:
    """A search from one first state.

    Attributes:
        is_end: Whether guarantees must hold in a state.
        check: Raises BrokenError if they do not.
    """

    actors: tuple[Actor, ...]
    cells: dict[Key, Value]
    is_end: Callable[[State, Search], bool]
    check: Callable[[dict[Key, Value]], None]
    _numbers: dict[Local, int] = field(default_factory=dict)
    _locals: list[Local] = field(default_factory=lambda: [(_nothing, (), ())])
    _calls: list[Call | None] = field(default_factory=lambda: [None])
    _next: dict[tuple[int, Value], int] = field(default_factory=dict)
    _checked: set[int] = field(default_factory=set)

    def first(self) -> State:
        return State(self.cells, marked(self.cells), tuple(self._enter(*actor.first) for actor in self.actors))

    # Local states ----------------------------------------------------------------------------------------------------

    def _enter(self, stage: Stage, args: tuple[Value, ...]) -> int:
        return self._number((stage, args, ()))

    def _number(self, local: Local) -> int:
        known = self._numbers.get(local)
        if known is not None:
            return known
        stage, args, answers = local
        made = stage(*args)
        try:
            call = next(made)
            for answer in answers:
                call = made.send(answer)
        except StopIteration as over:
            number = self._enter(*over.value) if over.value is not None else 0
            self._numbers[local] = number
            return number
        self._locals.append(local)
        self._calls.append(call)
        self._numbers[local] = len(self._locals) - 1
        return len(self._locals) - 1

    def advance(self, number: int, answer: Value) -> int:
        known = self._next.get((number, answer))
        if known is None:
            stage, args, answers = self._locals[number]
            known = self._next[number, answer] = self._number((stage, args, (*answers, answer)))
        return known

    def call(self, number: int) -> Call:
        call = self._calls[abs(number)]
        assert call is not None
        return call

    # Steps -----------------------------------------------------------------------------------------------------------

    def after(self, state: State) -> Iterator[tuple[str, State]]:
        """All states after one call. A call that no other process can notice goes first, alone."""
        alone = self._alone(state)
        for index in range(len(state.at)) if alone is None else (alone,):
            if state.at[index]:
                yield from self._steps_of(index, state)

    def _alone(self, state: State) -> int | None:
        restorers = [
            index for index, actor in enumerate(self.actors) if actor.kind == "restorer" and state.at[index] > 0
        ]
        for index in restorers:
            table = self.actors[index].table
            if (
                self.call(state.at[index]).private == table
                and [self.actors[other].table for other in restorers].count(table) == 1
                and state.cells.get((table, "F"), ("", ""))[1:] == ("adopting",)
                and not state.cells.get(("early",))
            ):
                return index
        return None

    def _steps_of(self, index: int, state: State) -> Iterator[tuple[str, State]]:
        number = state.at[index]
        call = self.call(number)
        name = f"{'late ' if number < 0 else ''}{self.actors[index].name}: {call.name}"
        for changes, answer in call.outcomes(state.cells):
            at = list(state.at)
            at[index] = 0 if number < 0 else self.advance(number, answer)
            if call.ends:
                for other, actor in enumerate(self.actors):
                    if actor.table == call.ends and actor.kind in {"old", "new"} and at[other] > 0:
                        at[other] = -at[other] if self.call(at[other]).late else 0
            yield f"{name} -> {answer}", self._changed(state, changes, tuple(at))

    @staticmethod
    def _changed(state: State, changes: Changes, at: tuple[int, ...]) -> State:
        if not changes:
            return State(state.cells, state.mark, at)
        cells, mark = dict(state.cells), state.mark
        for key, value in changes.items():
            if key in cells:
                mark ^= _cell(key, cells[key])
            if value is None:
                cells.pop(key, None)
            else:
                cells[key] = value
                mark ^= _cell(key, value)
        return State(cells, mark, at)

    def _check(self, state: State) -> bool:
        """Check a state where guarantees must hold; each content of tables and objects is checked once."""
        if not self.is_end(state, self):
            return False
        if state.mark not in self._checked:
            self._checked.add(state.mark)
            self.check(state.cells)
        return True

    # Ways to go ------------------------------------------------------------------------------------------------------

    def breadth_first(self, limit: int = 5_000_000) -> Found:
        """Visit every state that can be reached."""
        found = Found()
        first = self.first()
        came: dict[At, tuple[At | None, str]] = {(first.mark, first.at): (None, "")}
        queue = deque([first])
        while queue:
            state = queue.popleft()
            found.states += 1
            try:
                found.ends += self._check(state)
                for name, after in self.after(state):
                    key = (after.mark, after.at)
                    if key not in came:
                        came[key] = ((state.mark, state.at), name)
                        queue.append(after)
            except BrokenError as error:
                found.error = str(error)
                found.trace = _trace(came, (state.mark, state.at))
                return found
            if found.states >= limit:
                found.is_complete = False
                return found
        return found

    def walks(self, seeds: range) -> Found:
        """Go at random from the first state to an end, once for each seed."""
        found = Found(is_complete=False)
        for seed in seeds:
            rng = random.Random(seed)
            state, trace = self.first(), [f"seed {seed}"]
            try:
                while True:
                    found.ends += self._check(state)
                    ready = [
                        i for i, number in enumerate(state.at) if number and self.call(number).outcomes(state.cells)
                    ]
                    if not ready:
                        break
                    alone = self._alone(state)
                    often = [i for i in ready if not self.call(state.at[i]).is_rare]
                    index = rng.choice(often if often and rng.random() < _SELDOM else ready) if alone is None else alone
                    name, state = rng.choice(list(self._steps_of(index, state)))
                    trace.append(name)
                    found.states += 1
            except BrokenError as error:
                found.error, found.trace = str(error), trace
                return found
        return found


def _trace(came: dict[At, tuple[At | None, str]], key: At) -> list[str]:
    names: list[str] = []
    at: At | None = key
    while at is not None:
        at, name = came[at]
        names.append(name)
    return [name for name in reversed(names) if name]


def _nothing() -> Steps:
    return
    yield


def play(cells: dict[Key, Value], first: Next, choose: Callable[[int], int] = lambda _: 0) -> dict[Key, Value]:
    """Run one process alone to its end, or until it waits."""
    cells = dict(cells)
    following: Next | None = first
    while following is not None:
        made = following[0](*following[1])
        try:
            call = next(made)
            while True:
                outcomes = call.outcomes(cells)
                if not outcomes:
                    return cells
                changes, answer = outcomes[choose(len(outcomes))]
                for key, value in changes.items():
                    if value is None:
                        cells.pop(key, None)
                    else:
                        cells[key] = value
                call = made.send(answer)
        except StopIteration as over:
            following = over.value
    return cells
