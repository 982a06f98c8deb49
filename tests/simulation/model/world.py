"""A small model of tables and objects, independent of the service, with all behaviour that P1 to P3 allow.

Processes are generators. Each process yields one call at a time; between two calls of a process, any other process may
run. A call's reply may be lost, with or without the call's effect; the effect may also occur later, after the caller
has ended. A transaction commits at one instant, but readers see its items change one by one (P2).
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

Value = int | str | frozenset[int] | dict[int, int] | tuple[str, ...]
Item = dict[str, Value]
Place = tuple[str, str, str]  # table, partition, sort key
T = TypeVar("T")
# Calls of a process one at a time, then its result.
Steps = Generator["Read | Write", object, T]


class UnknownError(Exception):
    """No reply: the call was applied, was not applied, or will be applied later."""


class RefusedError(Exception):
    """A condition failed; `items` has the items as found, one per action."""

    def __init__(self, items: list[Item | None]) -> None:
        super().__init__("refused")
        self.items = items


class ConflictError(Exception):
    """Another transaction is changing an item of the write; the caller should repeat the write."""


class LateError(Exception):
    """The process stops: its work is over, or a call's outcome is still unknown. Whoever comes next resumes."""


class BrokenError(AssertionError):
    """A guarantee that the rules make does not hold."""


@dataclass(frozen=True, slots=True)
class Read:
    """A call that changes nothing."""

    look: Callable[[World], object]


@dataclass(frozen=True, slots=True)
class Action:
    """One action of a write: the condition on an item, and the function that makes the new item (None: deleted)."""

    place: Place
    demand: Callable[[Item | None], bool]
    make: Callable[[Item | None], Item | None]


@dataclass(frozen=True, slots=True)
class Write:
    """One write: of one item, or a transaction over several items."""

    actions: tuple[Action, ...]


@dataclass(slots=True)
class _Landing:
    """A committed transaction whose changes are still applied item by item."""

    left: list[Action]
    places: frozenset[Place]
    replies_to: _Actor | None
    reply_lost: bool


@dataclass(slots=True)
class _Actor:
    name: str
    process: Steps[None]
    answer: object = None
    error: Exception | None = None
    waits: bool = False


@dataclass(slots=True)
class Faults:
    """Probability of each fault, for each call. If all are 0, no faults occur."""

    killed: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    later: float = 0.0


@dataclass(slots=True)
class World:
    rng: random.Random
    faults: Faults
    items: dict[Place, Item] = field(default_factory=dict)
    objects: dict[str, object] = field(default_factory=dict)
    ever: dict[str, object] = field(default_factory=dict)
    on_usage: Callable[[Place], None] = lambda _: None
    _actors: list[_Actor] = field(default_factory=list)
    _landings: list[_Landing] = field(default_factory=list)
    _late: list[Write] = field(default_factory=list)
    _number: int = 0
    steps: int = 0

    def is_landing(self, place: Place) -> bool:
        return any(place in landing.places for landing in self._landings)

    def token(self) -> str:
        self._number += 1
        return f"{self._number:06d}"

    def start(self, name: str, process: Steps[None]) -> None:
        self._actors.append(_Actor(name, process))

    @property
    def at_work(self) -> int:
        return len(self._actors)

    def names_at_work(self) -> list[str]:
        return [actor.name for actor in self._actors]

    def step(self) -> None:
        self.steps += 1
        ready = [actor for actor in self._actors if not actor.waits]
        chosen = self.rng.randrange(len(ready) + len(self._landings) + bool(self._late))
        if chosen < len(ready):
            self._advance(ready[chosen])
        elif chosen < len(ready) + len(self._landings):
            self._land(chosen - len(ready))
        elif self.rng.random() < 0.1 or not ready:
            self._come_late()

    @property
    def can_step(self) -> bool:
        return bool(self._actors or self._landings or self._late)

    def _advance(self, actor: _Actor) -> None:
        try:
            error, actor.error = actor.error, None
            call = actor.process.send(actor.answer) if error is None else actor.process.throw(error)
        except (StopIteration, LateError):
            self._actors.remove(actor)
            return
        actor.answer = None
        if self.rng.random() < self.faults.killed:
            self._kill(actor, call)
        elif self.rng.random() < self.faults.lost_before:
            actor.error = UnknownError()
        elif isinstance(call, Read):
            actor.answer = call.look(self)
        elif self.rng.random() < self.faults.later:
            self._late.append(call)
            actor.error = UnknownError()
        else:
            self._apply(call, actor, lost=self.rng.random() < self.faults.lost_after)

    def _kill(self, actor: _Actor, call: Read | Write) -> None:
        """Kill a process: in half of the cases its last write is not sent, else the reply to that write is lost."""
        self._actors.remove(actor)
        actor.process.close()
        if isinstance(call, Write) and self.rng.random() < 0.5:
            self._apply(call, None, lost=True)

    def _come_late(self) -> None:
        self._apply(self._late.pop(self.rng.randrange(len(self._late))), None, lost=True)

    def _apply(self, write: Write, actor: _Actor | None, *, lost: bool) -> None:
        error: Exception | None = UnknownError() if lost else None
        places = [action.place for action in write.actions]
        if any(landing.places.intersection(places) for landing in self._landings):
            error = ConflictError()
        elif not all(action.demand(self.items.get(action.place)) for action in write.actions):
            error = RefusedError([copy.deepcopy(self.items.get(place)) for place in places])
        elif len(write.actions) > 1:
            left = list(write.actions)
            self.rng.shuffle(left)
            self._landings.append(_Landing(left, frozenset(places), actor, lost))
            if actor is not None:
                actor.waits = True
            return
        else:
            self._change(write.actions[0])
        if actor is not None:
            actor.error = UnknownError() if lost else error

    def _land(self, index: int) -> None:
        landing = self._landings[index]
        self._change(landing.left.pop())
        if landing.left:
            return
        del self._landings[index]
        actor = landing.replies_to
        if actor is not None:
            actor.waits = False
            actor.error = UnknownError() if landing.reply_lost else None

    def _change(self, action: Action) -> None:
        made = action.make(copy.deepcopy(self.items.get(action.place)))
        if made is None:
            self.items.pop(action.place, None)
        else:
            self.items[action.place] = made
        if action.place[0] == "usage":
            self.on_usage(action.place)


_ATTEMPTS = 4


def again(call: Read | Write) -> Steps[object]:
    """Repeat a call while its outcome is unknown; after the last attempt, stop the process (P3).

    Raises:
        RefusedError: A condition failed. An earlier attempt may have been applied.
        LateError: Still unknown.
    """
    for _ in range(_ATTEMPTS):
        try:
            return (yield call)
        except (UnknownError, ConflictError):
            continue
    raise LateError


def get(table: str, pk: str, sk: str) -> Steps[Item | None]:
    found = yield from again(Read(lambda world: copy.deepcopy(world.items.get((table, pk, sk)))))
    assert found is None or isinstance(found, dict)
    return found


def query(table: str, pk: str, prefix: str = "") -> Steps[list[tuple[str, Item]]]:
    """Items of a partition in order. Each item is a separate read (P2)."""
    found: list[tuple[str, Item]] = []
    last = ""

    def following(world: World) -> tuple[str, Item] | None:
        keys = [p[2] for p in world.items if p[:2] == (table, pk) and p[2] > last and p[2].startswith(prefix)]
        return (min(keys), copy.deepcopy(world.items[(table, pk, min(keys))])) if keys else None

    while True:
        entry = yield from again(Read(following))
        if entry is None:
            return found
        assert isinstance(entry, tuple)
        found.append(entry)
        last = entry[0]


def put_object(key: str, content: object) -> Steps[None]:
    """Put an object, unless its key exists. Puts take effect at once and never fail."""

    def store(world: World) -> object:
        world.ever.setdefault(key, content)
        return world.objects.setdefault(key, content)

    yield from again(Read(store))


def get_object(key: str) -> Steps[object]:
    return (yield from again(Read(lambda world: world.objects.get(key))))


def delete_object(key: str) -> Steps[None]:
    yield from again(Read(lambda world: world.objects.pop(key, None)))


def put_if_absent(table: str, pk: str, sk: str, item: Item) -> Action:
    return Action((table, pk, sk), lambda met: met is None, lambda _: dict(item))


def check(table: str, pk: str, sk: str) -> Action:
    return Action((table, pk, sk), lambda met: met is not None, lambda met: met)


def put(table: str, pk: str, sk: str, item: Item) -> Action:
    return Action((table, pk, sk), lambda _: True, lambda _: dict(item))


def delete(table: str, pk: str, sk: str) -> Action:
    return Action((table, pk, sk), lambda _: True, lambda _: None)
