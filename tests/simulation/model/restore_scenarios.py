"""Scenarios of the restore's model: first states, processes, and the guarantees at each end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from tests.simulation.model import generation as ledger
from tests.simulation.model.generation import HELD, Line, Marker, Run, Usage, keys
from tests.simulation.model.restore import Decision, Work, restore
from tests.simulation.model.search import Actor, Cells, Found, Key, Next, Search, Stage, State, play
from tests.simulation.model.world import BrokenError

HOURS = (1, 2, 3)
A1 = Line("b1", "A", (1, 2))
B1 = Line("b1", "B", (1,))
A2 = Line("b2", "A", (2,))
A3 = Line("b3", "A", (1,))
B3 = Line("b3", "B", (1,))
RETRY = Line("b4", "B", (1,), "b1")
RETRY5 = Line("b5", "B", (1,), "b1")
R3 = Line("b3", "R", (1,))


def old(name: str, stage: Stage, *args: Hashable, table: str = "1") -> Actor:
    return Actor(name, table, "old", (stage, (table, name, *args)))


def new(name: str, stage: Stage, *args: Hashable, table: str = "2") -> Actor:
    return Actor(name, table, "new", (ledger.when_open, (table, stage, (table, name, *args))))


def works(name: str, *lines: Line, table: str = "1", is_torn: bool = False) -> Actor:
    return old(name, ledger.worker, lines, 0, False, is_torn, table=table)


def works_new(name: str, *lines: Line, table: str = "2") -> Actor:
    return new(name, ledger.worker, lines, 0, False, False, table=table)


def moment(table: str = "2", source: str = "1", *, before: str = "", is_empty: bool = False) -> Actor:
    return Actor(f"T{table}", source, "event", (ledger.moment, (source, table, before, is_empty)))


_OF_THE_WORLD = {
    "nobody works before the opening": "early",
    "a second restore goes no further than the first": "any moment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A search.

    Attributes:
        before: Processes that have run to their end, one after the other, before the search begins.
        messages: What producers send; it is delivered again at the end.
        restorers: By table, how many.
    """

    name: str
    actors: tuple[Actor, ...]
    messages: tuple[Line, ...]
    before: tuple[Actor, ...] = ()
    restorers: tuple[str, ...] = ("2",)
    clock: int = 0
    old_is_readable: bool = True
    closes: bool = False
    lands_slowly: bool = False
    is_quick: bool = True
    cells: tuple[tuple[Key, Hashable], ...] = ()

    def search(self, off: frozenset[str] = frozenset()) -> Search:
        cells: dict[Key, Hashable] = {("1", "F"): (1, "open"), **dict(self.cells)}
        for rule, key in _OF_THE_WORLD.items():
            if rule in off:
                cells[key,] = 1
        for actor in self.before:
            cells = play(cells, actor.first)
        restorers = []
        for number, table in enumerate(self.restorers):
            work = Work(
                who=f"R{number}", table=table, before=str(int(table) - 1), off=off, clock=self.clock,
                old_is_readable=self.old_is_readable, lands_slowly=self.lands_slowly,
            )
            restorers.append(Actor(work.who, table, "restorer", (restore, (work,))))
        last = max(self.restorers)
        return Search((*self.actors, *restorers), cells, lambda state, search: _is_end(state, search, last), _Check(self, last))


def _is_end(state: State, search: Search, table: str) -> bool:
    if state.cells.get((table, "F")) != (int(table), "open") or any(key[0] == "landing" for key in state.cells):
        return False
    return not any(
        number > 0 and actor.kind in {"old", "new"} and search.call(number).outcomes(state.cells)
        for number, actor in zip(state.at, search.actors, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Check:
    """Let everything that is left be done, then look; then deliver all again, and look again."""

    scenario: Scenario
    table: str

    def __call__(self, cells: dict[Key, Hashable]) -> None:
        left = tuple(line for line in self.scenario.messages if ("ack", line.batch, line.hash) not in cells)
        cells = self._drained(cells, left, "d")
        self._look(cells)
        cells = self._drained(cells, self.scenario.messages, "e")
        self._look(cells)

    def _drained(self, cells: dict[Key, Hashable], lines: tuple[Line, ...], name: str) -> dict[Key, Hashable]:
        table = self.table
        for number, line in enumerate(lines):
            cells = play(cells, (ledger.worker, (table, f"{name}{number}", (line,), 0, False, False)))
        jobs: tuple[tuple[str, Stage, tuple[Hashable, ...]], ...] = (
            ("roll-up", ledger.roll_up, ()),
            ("compact", ledger.compact, (HOURS,)),
            ("clean", ledger.clean, ()),
            ("orphans", ledger.orphans, ()),
        )
        if self.scenario.closes:
            jobs = (*jobs, ("close", ledger.close, ()))
        for turn in range(9):
            before = cells
            for job, stage, args in jobs:
                cells = play(cells, (stage, (table, f"{name}-{job}{turn}", *args)))
            if cells == before:
                return cells
        raise BrokenError("the jobs do not come to an end")

    def _look(self, cells: Cells) -> None:
        table = self.table
        for key in cells:
            if key[0] == "alarm":
                raise BrokenError(str(key[1]))
        for name in "WP":
            for key in keys(cells, table, name):
                raise BrokenError(f"{key} is left")
        counted: Counter[tuple[str, str]] = Counter()
        for hour in HOURS:
            rows = ledger.rows_of(cells, table, hour, waiting=True)
            counted.update(rows)
            usage = cells.get(("usage", hour), Usage())
            assert isinstance(usage, Usage)
            if usage.total != ledger.worth(rows):
                raise BrokenError(f"hour {hour}: usage {usage.total:o}, rows {ledger.worth(rows):o}")
        self._look_at_batches(cells, counted)
        self._look_at_objects(cells)
        if ("revoked",) in cells and (table, "N", "token") in cells:
            raise BrokenError("a revoked token works again")
        if ("added",) in cells and (table, "N", "added") not in cells:
            raise BrokenError("a token that was added is gone")

    def _look_at_batches(self, cells: Cells, counted: Counter[tuple[str, str]]) -> None:
        size = {(line.batch, line.hash): len(line.hours) for line in self.scenario.messages}
        for content, number in counted.items():
            if number != size[content]:
                raise BrokenError(f"{content}: {number} of {size[content]} rows")
            met = cells.get((self.table, "B", content[0]))
            if not isinstance(met, Marker) or (met.verdict, met.hash) != ("accepted", content[1]):
                raise BrokenError(f"{content} is counted, its marker says {met}")
        retried = Counter((line.retry_of, line.hash) for line in self.scenario.messages if (line.batch, line.hash) in counted)
        for first_id, number in retried.items():
            if first_id[0] and number > 1:
                raise BrokenError(f"retries of {first_id}: {number} are counted")
        for line in self.scenario.messages:
            first = cells.get((self.table, "A", line.retry_of, line.hash), "")
            if line.retry_of and (line.retry_of, line.hash) in counted and (line.batch, line.hash) in counted:
                raise BrokenError(f"{line} is counted under both ids")
            met = cells.get((self.table, "B", line.batch))
            if cells.get(("ack", line.batch, line.hash)) == "accepted" and (line.batch, line.hash) not in counted:
                if (first, line.hash) not in counted:
                    self._look_at_held(cells, line, met)
            if isinstance(met, Marker) and met.verdict == "accepted" and met.hash != HELD:
                if (line.batch, met.hash) not in counted:
                    raise BrokenError(f"{line.batch}: marker {met}, and no rows")

    def _look_at_held(self, cells: Cells, line: Line, met: object) -> None:
        if not isinstance(met, Marker) or met.hash != HELD:
            raise BrokenError(f"{line} was accepted, and is not counted")
        known = cells.get(("known conflicts", "2"), ())
        assert isinstance(known, tuple)
        rivals = {each.hash for each in self.scenario.messages if each.batch == line.batch}
        if len({digest for digest in rivals if (line.batch, digest) not in known}) < 2:
            raise BrokenError(f"{line} is held, and nothing else can be meant")
        if ("kept", line.batch, line.hash) not in cells:
            raise BrokenError(f"{line} is held, and its content is not kept")

    def _look_at_objects(self, cells: Cells) -> None:
        table = self.table
        decision = cells["decision", table]
        assert isinstance(decision, Decision)
        for key in keys(cells, "lake"):
            if (table, "H1", *key[1:]) not in cells and int(str(key[2])) >= dict(decision.lifts)["L"]:
                raise BrokenError(f"{key} is not named, and not below the lift")
        for key in keys(cells, "staging"):
            raise BrokenError(f"{key} is left for ever")
        manifest = cells.get(("manifest",))
        if isinstance(manifest, tuple) and manifest[1] != ledger.rows_of(cells, table, 1):
            raise BrokenError(f"the month is closed with {manifest[1]}")


# -------------------------------------------------------------------------------------------------------------------

_PLACED = (works("a", A1), old("up", ledger.roll_up))

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="two workers, competing contents",
            actors=(works("x", A1), works("y", B1), moment()),
            messages=(A1, B1),
        ),
        Scenario(
            name="two workers, orphan pass",
            actors=(works("x", A1), works("y", B1), old("orphans", ledger.orphans), moment()),
            messages=(A1, B1),
        ),
        Scenario(
            name="commits of two batches",
            actors=(works("x", A3, A2), works("y", B3, A1), moment()),
            messages=(A3, A2, B3, A1),
        ),
        Scenario(
            name="roll-up",
            actors=(works("x", A1), old("up", ledger.roll_up), moment(), new("up2", ledger.roll_up)),
            before=(works("a", A2),),
            messages=(A1, A2),
        ),
        Scenario(
            name="compaction",
            actors=(old("lake", ledger.compact, (1,)), old("lake2", ledger.compact, (1, 2)), moment(), new("lake3", ledger.compact, (1, 2))),
            before=_PLACED,
            messages=(A1,),
        ),
        Scenario(
            name="compaction and cleaner",
            actors=(old("lake", ledger.compact, (2,)), old("clean", ledger.clean), moment()),
            before=(*_PLACED, old("lake0", ledger.compact, (1,)), old("clean0", ledger.clean)),
            messages=(A1,),
        ),
        Scenario(
            name="waiting, placed and compacted",
            actors=(old("up", ledger.roll_up), old("lake", ledger.compact, (1,)), moment()),
            before=(works("a", A1),),
            messages=(A1,),
        ),
        Scenario(
            name="close",
            actors=(old("lake", ledger.compact, (1, 2)), old("close", ledger.close), works("x", A3), moment()),
            before=_PLACED,
            messages=(A1, A3),
            closes=True,
        ),
        Scenario(
            name="torn",
            actors=(works("x", A1, A2, is_torn=True), old("up", ledger.roll_up), old("lake", ledger.compact, (1,))),
            messages=(A1, A2),
        ),
        Scenario(
            name="torn retry",
            actors=(works("x", RETRY, A2, is_torn=True), old("up", ledger.roll_up), old("lake", ledger.compact, (1,))),
            before=(works("a", A1), works("b", B1)),
            messages=(A1, B1, RETRY, A2),
        ),
        Scenario(
            name="from nothing",
            actors=(works("x", B1), old("lake", ledger.compact, (1,)), moment(is_empty=True)),
            before=_PLACED,
            messages=(A1, B1),
            old_is_readable=False,
        ),
        Scenario(
            name="retries",
            actors=(works("x", RETRY), works("y", RETRY5), moment()),
            before=(works("a", A1), works("b", B1)),
            messages=(A1, B1, RETRY, RETRY5),
        ),
        Scenario(
            name="retry of a batch that is not rolled up",
            actors=(works("y", B1), works("x", RETRY), moment(), works_new("z", B1)),
            before=(works("a", A1),),
            messages=(A1, B1, RETRY),
        ),
        Scenario(
            name="a retry compacted",
            actors=(old("lake", ledger.compact, (1, 2)), old("clean", ledger.clean), works_new("z", RETRY5)),
            before=(works("a", A1), works("b", B1), moment(), works("x", RETRY), old("up", ledger.roll_up)),
            messages=(A1, B1, RETRY, RETRY5),
        ),
        Scenario(
            name="rejected, then accepted",
            actors=(works("x", A3), old("up", ledger.roll_up), old("lake", ledger.compact, (1,)), moment()),
            before=(old("r", ledger.refuse, R3),),
            messages=(A3,),
        ),
        Scenario(
            name="a token is revoked",
            actors=(old("revoke", ledger.revoke), moment(), new("allow", ledger.allow)),
            cells=((("1", "N", "token"), 1),),
            restorers=("2", "2"),
            messages=(),
        ),
        Scenario(
            name="a close, the old table is gone",
            actors=(old("close", ledger.close), works("x", A3), moment()),
            before=(*_PLACED, old("lake", ledger.compact, (1, 2))),
            messages=(A1, A3),
            old_is_readable=False,
            closes=True,
        ),
        Scenario(
            name="the roll-up cleans its plans",
            actors=(works("x", A2), old("up", ledger.roll_up), old("plans", ledger.clean_plans, True), moment()),
            before=_PLACED,
            messages=(A1, A2),
        ),
        Scenario(
            name="two restorers, compaction",
            actors=(old("lake", ledger.compact, (1,)), moment()),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, competing contents",
            actors=(works("y", B1), moment(), new("orphans", ledger.orphans)),
            before=(works("x", A1),),
            messages=(A1, B1),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two compactors of one number",
            actors=(old("up", ledger.roll_up), old("lake", ledger.compact, (1,)), old("lake2", ledger.compact, (1,))),
            before=(*_PLACED, moment(), works("b", A3)),
            messages=(A1, A3),
        ),
        Scenario(
            name="two restorers, roll-up",
            actors=(old("up", ledger.roll_up), new("up2", ledger.roll_up)),
            before=(works("a", A2), moment(), works("x", A3)),
            messages=(A2, A3),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, orphan passes",
            actors=(old("orphans", ledger.orphans), new("orphans2", ledger.orphans)),
            before=(moment(), works("x", A3), old("y", ledger.stage, (B3, A2))),
            messages=(A3, B3, A2),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, slow reads",
            actors=(old("lake", ledger.compact, (2,)), moment()),
            before=(*_PLACED, old("lake0", ledger.compact, (1,)), old("clean0", ledger.clean)),
            messages=(A1,),
            restorers=("2", "2"),
            lands_slowly=True,
        ),
        Scenario(
            name="second restore, compaction",
            actors=(old("lake", ledger.compact, (1,)), moment("3", before="2"), moment(), new("lake2", ledger.compact, (1, 2)), new("orphans", ledger.orphans)),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "3"),
        ),
        Scenario(
            name="second restore, competing contents",
            actors=(works("x", A3), works("y", B3), moment("3", before="2"), moment(), new("orphans", ledger.orphans)),
            messages=(A3, B3),
            restorers=("2", "3"),
        ),
        Scenario(
            name="a restore of the restored, compaction",
            actors=(old("lake", ledger.compact, (1,)), moment(), moment("3", "2"), new("lake2", ledger.compact, (1, 2)), new("clean2", ledger.clean)),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "3"),
        ),
        Scenario(
            name="a restore of the restored, competing contents",
            actors=(works("x", A3), works("y", B3), moment(), moment("3", "2"), new("orphans", ledger.orphans)),
            messages=(A3, B3),
            restorers=("2", "3"),
        ),
        Scenario(
            name="a second restore, orphan pass",
            actors=(works("x", A3), moment("3", before="2"), moment(), new("orphans", ledger.orphans)),
            messages=(A3,),
            restorers=("2", "3"),
        ),
        Scenario(
            name="from nothing, compacted and cleaned",
            actors=(old("clean", ledger.clean), works("x", B1), moment(is_empty=True)),
            before=(*_PLACED, old("lake", ledger.compact, (1, 2))),
            messages=(A1, B1),
            old_is_readable=False,
        ),
    )
}


def larger(seed: int) -> Scenario:
    """A larger world, chosen at random, to be walked through at random."""
    rng = random.Random(seed)
    lines = (A1, B1, A2, A3, B3, RETRY, RETRY5)
    sets = [(A1,), (A1, A2), (B1,), (B1, A3), (A3,), (B3, A2), (A2,), (RETRY,), (RETRY5, A3), (B3,)]
    actors: list[Actor] = []
    for number in range(rng.randint(2, 4)):
        actors.append(works(f"w{number}", *rng.choice(sets), is_torn=rng.random() < 0.2))
    actors += [old(f"up{number}", ledger.roll_up) for number in range(rng.randint(1, 3))]
    actors += [
        old(f"lake{number}", ledger.compact, rng.choice(((1,), (2,), (1, 2), (1, 2, 3)))) for number in range(rng.randint(0, 3))
    ]
    jobs: list[tuple[str, Stage, tuple[Hashable, ...]]] = [
        ("clean", ledger.clean, ()),
        ("orphans", ledger.orphans, ()),
        ("plans", ledger.clean_plans, (True,)),
        ("close", ledger.close, ()),
        ("revoke", ledger.revoke, ()),
        ("refuse", ledger.refuse, (R3,)),
    ]
    actors += [old(name, stage, *args) for name, stage, args in jobs if rng.random() < 0.5]
    third = rng.choice(("", "", "1", "2"))
    if third == "1":
        actors.append(moment("3", before="2"))
    actors.append(moment("2", is_empty=third != "1" and rng.random() < 0.15))
    if third == "2":
        actors.append(moment("3", "2"))
    actors += [new(f"{name}'", stage, *args) for name, stage, args in jobs[:5] if rng.random() < 0.4]
    actors += [new("up'", ledger.roll_up), new("lake'", ledger.compact, (1, 2, 3))]
    actors += [works_new("w'", *rng.choice(sets))]
    before = [works("a", *rng.choice(sets)), works("b", *rng.choice(sets))][: rng.randint(0, 2)]
    if before and rng.random() < 0.6:
        before.append(old("up", ledger.roll_up))
    if rng.random() < 0.4:
        before += [old("lake", ledger.compact, rng.choice(((1,), (2,), (1, 2))))]
    if rng.random() < 0.5:
        before += [old("clean", ledger.clean)]
    return Scenario(
        name=f"larger {seed}",
        actors=tuple(actors),
        before=tuple(before),
        messages=lines,
        restorers=(*("2",) * rng.randint(1, 2), *(("3",) * rng.randint(1, 2) if third else ())),
        clock=rng.choice((0, 100)),
        old_is_readable=rng.random() < 0.7,
        closes=True,
        lands_slowly=rng.random() < 0.3,
        cells=((("1", "N", "token"), 1),),
    )


def run(scenario: Scenario, off: str = "", limit: int = 5_000_000) -> Found:
    return scenario.search(frozenset({off} if off else ())).breadth_first(limit)
