"""Model of the region's totals beside an account's (P51): roll-ups of two releases on one chain, and a reader.

| cell         | value                                                                           |
|--------------|---------------------------------------------------------------------------------|
| `W`, commit  | waits                                                                           |
| `R`, number  | state of a run, and its commit                                                  |
| `A`, `G`     | usage item of the account and of the region: newest run, and the commits in it   |
| `S`          | newest run that the region's totals have, with all before it                    |

In every state that can be reached, a roll-up of this release runs alone until nothing is left to do: then both items
have every commit once, whatever the others had done. The others go on in other orders of the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from tests.simulation.model.search import Actor, Call, Cells, Found, Key, Outcome, Search, State, Steps, Value, play
from tests.simulation.model.world import BrokenError

COMMITS = ("c1", "c2", "c3")
RULES = (
    "runs before it are added before a run",
    "missing runs are added oldest first",
    "an update has a condition",
    "a reader asks which runs the totals have",
    "a reader looks twice",
)


@dataclass(frozen=True, slots=True)
class Work:
    """A roll-up or reader: of this release or of an earlier one, and the rules that it leaves out."""

    is_new: bool = True
    off: frozenset[str] = frozenset()
    commits: tuple[str, ...] = COMMITS


def _read(name: str, *key: str | int) -> Call:
    return Call(f"read {name}", lambda cells: [({}, cells.get(key))])


def _newest(cells: Cells) -> int:
    return max((int(key[1]) for key in cells if key[0] == "R"), default=0)  # type: ignore[call-overload]  # a number


def _waiting(cells: Cells) -> tuple[str, ...]:
    return tuple(sorted(str(key[1]) for key in cells if key[0] == "W"))


def _chain() -> Call:
    def look(cells: Cells) -> list[Outcome]:
        number = _newest(cells)
        return [({}, (number, *(cells["R", number] if number else ("done", ""))))]

    return Call("read the newest run", look)


def _list() -> Call:
    return Call("list what waits", lambda cells: [({}, _waiting(cells))])


def _put_run(number: int, commit: str) -> Call:
    def put(cells: Cells) -> list[Outcome]:
        return [({}, False)] if ("R", number) in cells else [({("R", number): ("planned", commit)}, True)]

    return Call(f"put run {number}", put)


def _add(item: str, number: int, commit: str, work: Work) -> Call:
    def add(cells: Cells) -> list[Outcome]:
        newest, commits = cells.get((item,), (0, ()))
        if newest >= number and "an update has a condition" not in work.off:
            return [({}, False)]
        return [({(item,): (max(newest, number), tuple(sorted((*commits, commit))))}, True)]

    return Call(f"add run {number} to {item}", add)


def _mark(number: int) -> Call:
    return Call(f"mark {number}", lambda cells: [({("S",): max(number, cells.get(("S",), 0))}, True)])


def _place(commit: str) -> Call:
    return Call(f"place {commit}", lambda _: [({("W", commit): None}, True)])


def _finish(number: int) -> Call:
    def finish(cells: Cells) -> list[Outcome]:
        return [({("R", number): ("done", cells["R", number][1])}, True)]

    return Call(f"finish {number}", finish)


def _complete(number: int, work: Work) -> Steps:
    """Add the done runs up to a number that the region's totals lack."""
    if not work.is_new or "runs before it are added before a run" in work.off:
        return
    known = (yield _read("the start", "S")) or 0
    missing = range(known + 1, number + 1)
    for each in missing if "missing runs are added oldest first" not in work.off else reversed(missing):
        _, commit = yield _read(f"run {each}", "R", each)
        yield _add("G", each, commit, work)
    if missing:
        yield _mark(number)


def roll_up(work: Work) -> Steps:
    """One step of a roll-up: plan a run, or work on the newest one (P19 to P23)."""
    number, state, commit = yield _chain()
    if state == "done":
        yield from _complete(number, work)
        waiting = yield _list()
        if not waiting:
            return None
        yield _put_run(number + 1, waiting[0])
        return (roll_up, (work,))
    yield from _complete(number - 1, work)
    yield _add("A", number, commit, work)
    if work.is_new:
        yield _add("G", number, commit, work)
        yield _mark(number)
    yield _place(commit)
    yield _finish(number)
    return (roll_up, (work,))


def read(work: Work) -> Steps:
    """The region's totals as of now (P28): nothing if they lack a done run, else every commit once."""
    number, state, commit = yield _chain()
    known = (yield _read("the start", "S")) or 0
    if number - (state == "planned") > known and "a reader asks which runs the totals have" not in work.off:
        return None
    waiting = yield _list()
    newest, commits = (yield _read("the region's item", "G")) or (0, ())
    if (yield _chain())[:2] != (number, state) and "a reader looks twice" not in work.off:
        return None
    planned = (commit,) if state == "planned" and newest < number else ()
    told = (*commits, *planned, *(each for each in waiting if state != "planned" or each != commit))
    if tuple(sorted(told)) != work.commits:
        raise BrokenError(f"a reader was told {told}")
    return None


def _check(commits: tuple[str, ...], cells: dict[tuple[Value, ...], Value]) -> None:
    cells = play(cells, (roll_up, (Work(),)))
    for item in ("A", "G"):
        found = cells.get((item,), (0, ()))[1]
        if found != commits:
            raise BrokenError(f"{item} has {found}")


def search(news: int = 2, olds: int = 1, readers: int = 1, rule: str = "", *, commits: int = 3) -> Found:
    """Search all orders of the calls of some processes; `rule` is left out."""
    work = Work(off=frozenset({rule} if rule else ()), commits=COMMITS[:commits])
    cells: dict[Key, Value] = {("W", commit): 1 for commit in work.commits}
    actors = [Actor(f"N{n}", "1", "new", (roll_up, (work,))) for n in range(news)]
    actors += [Actor(f"O{n}", "1", "old", (roll_up, (replace(work, is_new=False),))) for n in range(olds)]
    actors += [Actor(f"R{n}", "1", "reader", (read, (work,))) for n in range(readers)]

    def always(_state: State, _search: Search) -> bool:
        return True

    return Search(tuple(actors), cells, always, partial(_check, work.commits)).breadth_first(limit=3_000_000)
