"""Scenarios of the restore's model: first states, processes, and the guarantees at each end.

`python -m tests.simulation.model.restore` searches each scenario completely, walks through larger worlds, and looks for
the violation that each rule prevents; it prints the number of states.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from tests.simulation.model import generation as ledger
from tests.simulation.model.generation import HELD, Line, Marker, Usage, keys
from tests.simulation.model.restorer import Decision, Work, restore
from tests.simulation.model.search import Actor, Cells, Found, Key, Search, Stage, State, Value, play
from tests.simulation.model.world import BrokenError

HOURS = (1, 2, 3)
WALKS = 1_000
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


# Rules of other processes than the restorer, and what the world is like without them.
OF_THE_WORLD = {
    "nobody works before the opening": "early",
    "the roll-up's newest plan stays": "all plans go",
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
        cells: dict[Key, Value] = {("1", "F"): (1, "open"), **dict(self.cells)}
        for rule, key in OF_THE_WORLD.items():
            if rule in off:
                cells[key,] = 1
        for actor in self.before:
            cells = play(cells, actor.first)
        restorers = []
        for number, table in enumerate(self.restorers):
            work = Work(
                who=f"R{number}",
                table=table,
                before=str(int(table) - 1),
                off=off,
                clock=self.clock,
                old_is_readable=self.old_is_readable,
                lands_slowly=self.lands_slowly,
            )
            restorers.append(Actor(work.who, table, "restorer", (restore, (work,))))
        last = max(self.restorers)
        return Search(
            (*self.actors, *restorers), cells, lambda state, search: _is_end(state, search, last), _Check(self, last)
        )


def _is_end(state: State, search: Search, table: str) -> bool:
    for key in state.cells:
        if key[0] == "alarm":
            raise BrokenError(str(key[1]))
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

    def __call__(self, cells: dict[Key, Value]) -> None:
        left = tuple(line for line in self.scenario.messages if ("ack", line.batch, line.hash) not in cells)
        cells = self._drained(cells, left, "d")
        self._look(cells)
        cells = self._drained(cells, self.scenario.messages, "e")
        self._look(cells)

    def _drained(self, cells: dict[Key, Value], lines: tuple[Line, ...], name: str) -> dict[Key, Value]:
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
            for key in cells:
                if key[0] == "alarm":
                    raise BrokenError(str(key[1]))
            if cells == before:
                return cells
        raise BrokenError("the jobs do not come to an end")

    def _look(self, cells: Cells) -> None:
        table = self.table
        for name in "WP":
            for key in keys(cells, table, name):
                raise BrokenError(f"{key} is left")
        counted: Counter[tuple[str, str]] = Counter()
        for hour in HOURS:
            rows = ledger.rows_of(cells, table, hour, waiting=True)
            counted.update(rows)
            usage = cells.get(("usage", hour), Usage())
            if hour != ledger.NOW and len(set(rows)) < len(rows):
                raise BrokenError(f"hour {hour}: {rows}")
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
        contents = [(line.retry_of or line.batch, line.hash) for line in self.scenario.messages if line[:2] in counted]
        for content, number in Counter(contents).items():
            if number > 1:
                raise BrokenError(f"{content} is counted under {number} ids")
        for line in self.scenario.messages:
            self._look_at_verdict(cells, line, counted)

    def _look_at_verdict(self, cells: Cells, line: Line, counted: Counter[tuple[str, str]]) -> None:
        met = cells.get((self.table, "B", line.batch))
        first = cells.get((self.table, "A", line.retry_of, line.hash), line.batch)
        is_counted = line[:2] in counted or (first, line.hash) in counted
        if cells.get(("ack", line.batch, line.hash)) == "accepted" and not is_counted:
            self._look_at_held(cells, line, met)
        if (
            isinstance(met, Marker)
            and met.verdict == "accepted"
            and met.hash not in {HELD, *self._hashes(line, counted)}
        ):
            raise BrokenError(f"{line.batch}: marker {met}, and no rows")

    @staticmethod
    def _hashes(line: Line, counted: Counter[tuple[str, str]]) -> set[str]:
        return {digest for batch, digest in counted if batch == line.batch}

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
            is_quick=False,
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
            is_quick=False,
            actors=(
                old("lake", ledger.compact, (1,)),
                old("lake2", ledger.compact, (1, 2)),
                moment(),
                new("lake3", ledger.compact, (1, 2)),
            ),
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
            is_quick=False,
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
            name="torn retry, alone",
            actors=(works("x", RETRY, A2, is_torn=True),),
            before=(works("a", A1), works("b", B1)),
            messages=(A1, B1, RETRY, A2),
        ),
        Scenario(
            name="torn retry",
            is_quick=False,
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
            is_quick=False,
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
            actors=(works("x", A2), old("up", ledger.roll_up), old("plans", ledger.clean_plans), moment()),
            before=_PLACED,
            messages=(A1, A2),
        ),
        Scenario(
            name="from nothing, plans are cleaned",
            actors=(old("up", ledger.roll_up), old("plans", ledger.clean_plans), moment(is_empty=True)),
            before=(works("a", A1), old("up0", ledger.roll_up), works("b", A2)),
            messages=(A1, A2),
            old_is_readable=False,
        ),
        Scenario(
            name="usage of a held batch",
            actors=(old("up", ledger.roll_up),),
            before=(
                moment(),
                works("x", A3),
                old("up0", ledger.roll_up),
                works("b", A2),
                old("y", ledger.stage, (B3,)),
            ),
            messages=(A3, B3, A2),
        ),
        Scenario(
            name="two restorers, compaction",
            is_quick=False,
            actors=(old("lake", ledger.compact, (1,)), moment()),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, two workers",
            is_quick=False,
            actors=(works("x", A1), works("y", B1), moment()),
            messages=(A1, B1),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, two batches in a commit",
            is_quick=False,
            actors=(works("x", A3, A2), moment(), new("orphans", ledger.orphans)),
            before=(old("y", ledger.stage, (B3, A1)), works("z", A1)),
            messages=(A3, A2, B3, A1),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, close",
            is_quick=False,
            actors=(old("close", ledger.close), moment(), new("close2", ledger.close)),
            before=(*_PLACED, works("x", A3), old("up2", ledger.roll_up), old("lake", ledger.compact, (1,))),
            messages=(A1, A3),
            restorers=("2", "2"),
            closes=True,
        ),
        Scenario(
            name="two restorers, torn",
            actors=(works("x", A1, A2, is_torn=True),),
            messages=(A1, A2),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, competing contents",
            is_quick=False,
            actors=(works("y", B1), moment(), new("orphans", ledger.orphans)),
            before=(works("x", A1),),
            messages=(A1, B1),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two compactors of one number",
            is_quick=False,
            actors=(old("up", ledger.roll_up), old("lake", ledger.compact, (1,)), old("lake2", ledger.compact, (1,))),
            before=(*_PLACED, moment(), works("b", A3)),
            messages=(A1, A3),
        ),
        Scenario(
            name="two restorers, roll-up",
            is_quick=False,
            actors=(old("up", ledger.roll_up), new("up2", ledger.roll_up)),
            before=(works("a", A2), moment(), works("x", A3)),
            messages=(A2, A3),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, orphan passes",
            is_quick=False,
            actors=(old("orphans", ledger.orphans), new("orphans2", ledger.orphans)),
            before=(moment(), works("x", A3), old("y", ledger.stage, (B3, A2))),
            messages=(A3, B3, A2),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, slow reads",
            is_quick=False,
            actors=(old("lake", ledger.compact, (2,)), moment()),
            before=(*_PLACED, old("lake0", ledger.compact, (1,)), old("clean0", ledger.clean)),
            messages=(A1,),
            restorers=("2", "2"),
            lands_slowly=True,
        ),
        Scenario(
            name="two restorers, two workers, orphan pass",
            is_quick=False,
            actors=(works("x", A3, A2), works("y", B3), moment(), new("orphans", ledger.orphans)),
            messages=(A3, A2, B3),
            restorers=("2", "2"),
        ),
        Scenario(
            name="two restorers, compaction and cleaner, slow reads",
            is_quick=False,
            actors=(
                old("lake", ledger.compact, (1,)),
                old("clean", ledger.clean),
                moment(),
                new("clean2", ledger.clean),
            ),
            before=(*_PLACED, works("b", A3), old("up2", ledger.roll_up)),
            messages=(A1, A3),
            restorers=("2", "2"),
            lands_slowly=True,
        ),
        Scenario(
            name="second restore, compaction",
            is_quick=False,
            actors=(
                old("lake", ledger.compact, (1,)),
                moment("3", before="2"),
                moment(),
                new("lake2", ledger.compact, (1, 2)),
                new("orphans", ledger.orphans),
            ),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "3"),
        ),
        Scenario(
            name="second restore, competing contents",
            is_quick=False,
            actors=(works("x", A3), works("y", B3), moment("3", before="2"), moment(), new("orphans", ledger.orphans)),
            messages=(A3, B3),
            restorers=("2", "3"),
        ),
        Scenario(
            name="a restore of the restored, compaction",
            is_quick=False,
            actors=(
                old("lake", ledger.compact, (1,)),
                moment(),
                moment("3", "2"),
                new("lake2", ledger.compact, (1, 2)),
                new("clean2", ledger.clean),
            ),
            before=_PLACED,
            messages=(A1,),
            restorers=("2", "3"),
        ),
        Scenario(
            name="a restore of the restored, competing contents",
            is_quick=False,
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
        old(f"lake{number}", ledger.compact, rng.choice(((1,), (2,), (1, 2), (1, 2, 3))))
        for number in range(rng.randint(0, 3))
    ]
    jobs: list[tuple[str, Stage, tuple[Hashable, ...]]] = [
        ("clean", ledger.clean, ()),
        ("orphans", ledger.orphans, ()),
        ("plans", ledger.clean_plans, ()),
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


# Each rule with a scenario that is violated without it.
TRAPS = (
    ("lift above the plans in S3", "roll-up"),
    ("the roll-up's newest plan stays", "from nothing, plans are cleaned"),
    ("decided once", "two restorers, compaction"),
    ("a file names its plan", "two compactors of one number"),
    ("changes check the state", "a token is revoked"),
    ("fence before the decision", "two workers, competing contents"),
    ("the old table is denied", "two workers, competing contents"),
    ("each batch is judged", "commits of two batches"),
    ("a losing conflict's object is not adopted", "two workers, competing contents"),
    ("an undecided id is held", "two workers, competing contents"),
    ("contents are kept before the id is held", "two restorers, two workers"),
    ("a commit that is known now is placed", "two restorers, torn"),
    ("held ids stay held", "second restore, competing contents"),
    ("usage of staging objects is corrected", "usage of a held batch"),
    ("what waits is placed", "waiting, placed and compacted"),
    ("corrected items get the lift", "waiting, placed and compacted"),
    ("numbers of items that the newest plan names", "roll-up"),
    ("accepted replaces rejected", "rejected, then accepted"),
    ("compacted since T is pending no more", "compaction and cleaner"),
    ("pointers of adopted hours go", "waiting, placed and compacted"),
    ("half in staging", "from nothing"),
    ("markers of lines", "from nothing, compacted and cleaned"),
    ("aliases of lines", "a retry compacted"),
    ("torn commits are found", "torn"),
    ("compacted at T: last of a run of T", "torn"),
    ("a marker of T alone proves", "torn"),
    ("a copy is not refused by its own alias", "torn retry, alone"),
    ("notes are carried", "a token is revoked"),
    ("copies book a closed month now", "a close, the old table is gone"),
    ("a month that is due is closing if the old table is gone", "a close, the old table is gone"),
    ("nobody works before the opening", "a second restore, orphan pass"),
    ("placed as it was read", "two restorers, slow reads"),
    ("usage is counted when all has landed", "two restorers, slow reads"),
    ("a file that an earlier decision lacks is late", "second restore, compaction"),
    ("a second restore goes no further than the first", "a second restore, orphan pass"),
)


def search(name: str, *off: str) -> Found:
    """Search a scenario completely, without the rules that are `off`."""
    return SCENARIOS[name].search(frozenset(off)).breadth_first()


def walk(seeds: range) -> Found:
    """Walk through larger worlds, one for each seed, until a guarantee does not hold."""
    found = Found(is_complete=False)
    for seed in seeds:
        one = larger(seed).search().walks(range(1))
        found.states, found.ends = found.states + one.states, found.ends + one.ends
        if one.error:
            found.error, found.trace = one.error, [f"world {seed}", *one.trace]
            return found
    return found


def _tell(name: str, found: Found, begun_s: float) -> bool:
    how = "complete" if found.is_complete else "not complete"
    said = found.error or f"{how}, holds at {found.ends:,} ends"
    sys.stdout.write(f"{found.states:>10,} states  {time.monotonic() - begun_s:>5.1f} s  {name}: {said}\n")
    sys.stdout.flush()
    return not found.error


def main() -> int:
    """Search everything; the result is 1 if a guarantee does not hold, or a rule is not missed."""
    is_right = True
    for name in SCENARIOS:
        begun_s = time.monotonic()
        found = search(name)
        is_right &= _tell(name, found, begun_s) and found.is_complete and bool(found.ends)
        sys.stdout.writelines(f"    {line}\n" for line in found.trace)
    begun_s = time.monotonic()
    found = walk(range(WALKS))
    is_right &= _tell(f"{WALKS:,} walks", found, begun_s)
    sys.stdout.writelines(f"    {line}\n" for line in found.trace)
    for rule, name in TRAPS:
        begun_s = time.monotonic()
        is_right &= not _tell(f"{name}, without '{rule}'", search(name, rule), begun_s)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
