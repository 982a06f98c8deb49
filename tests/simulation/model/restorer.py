"""Model of the restore of a ledger: the steps of a restorer, over a private new table that is opened last (P41)."""

# ruff: noqa: B023 (a stage stands still while its call is made, so a loop variable that a call uses stays as it is)

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

from tests.simulation.model import generation as ledger
from tests.simulation.model.generation import HELD, LakePlan, Line, Marker, Run, Usage, UsagePlan, keys
from tests.simulation.model.search import Call, Cells, Changes, Key, Outcome, Steps

_STOP = "stop"


class Work(NamedTuple):
    """One restorer, the new table (named by its generation), the table before, and the rules left out."""

    who: str
    table: str
    before: str
    off: frozenset[str]
    clock: int = 0
    old_is_readable: bool = True
    lands_slowly: bool = False

    def keeps(self, rule: str) -> bool:
        return rule not in self.off

    @property
    def generation(self) -> int:
        return int(self.table)


class File(NamedTuple):
    hour: int
    number: int
    token: str


class Decision(NamedTuple):
    lifts: tuple[tuple[str, int], ...]
    first: int  # runs of the lake from this number on are in `files`
    files: tuple[File, ...]
    staging: tuple[str, ...]
    month: str
    held: tuple[Line, ...]  # contents that an earlier restore kept
    touched: tuple[int, ...]  # hours that the newest plans of the roll-up add to


def restore(work: Work) -> Steps:
    """Steps 1 to 3: the new table is there; fence."""
    if not work.keeps("fence before the decision"):
        yield Call("there", lambda cells: [({}, None)] if (work.table, "F") in cells else [])
        return _decide, (work, False)
    yield _fence(work)
    return _decide, (work, True)


def _fence(work: Work) -> Call:
    def fence(cells: Cells) -> list[Outcome]:
        generation, state = cells.get((work.before, "F"), (0, "adopting"))
        if (work.table, "F") not in cells or state in {"adopting", "counting"}:
            return []
        conflicts = tuple(key[1:] for key in keys(cells, "q") if cells[key] == "conflict")
        changes: Changes = {(work.before, "F"): (generation, "fenced")}
        return [({**changes, ("known conflicts", work.table): conflicts} if state == "open" else {}, None)]

    return Call("fence", fence, is_rare=True, ends=work.before if work.keeps("the old table is denied") else "")


def _decide(work: Work, is_fenced: bool) -> Steps:
    """Step 4."""
    staging = yield ledger.read("list staging", lambda cells: tuple(str(key[1]) for key in keys(cells, "staging")))
    made = yield ledger.read("list plans and files", lambda cells: _decided(cells, work, staging))
    yield ledger.put_object(("decision", work.table), made)
    if not is_fenced:
        yield _fence(work)
    decision = made
    if work.keeps("decided once"):
        decision = yield ledger.read("decision", lambda cells: cells["decision", work.table])
    return _months, (work, decision)


def _decided(cells: Cells, work: Work, staging: tuple[str, ...]) -> Decision:
    runs = {int(str(key[3])): cells[key] for key in keys(cells, work.table, "R", "L")}
    uncleaned = [number for number, run in runs.items() if isinstance(run, Run) and not run.is_cleaned]
    first = min(uncleaned, default=max(runs, default=0) + 1)
    files: dict[tuple[int, int], File] = {}
    touched: set[int] = set()
    plans = keys(cells, "plan")
    highest = max((int(str(key[2])) for key in plans if key[1] == "U"), default=0)
    for key in plans:
        plan, number = cells[key], int(str(key[2]))
        if isinstance(plan, UsagePlan) and number == highest:
            touched |= {hour for hour, _ in plan.sums}
        if isinstance(plan, LakePlan) and number >= first:
            for hour, _ in plan.hours:
                stored = cells.get(("lake", hour, number))
                is_its = isinstance(stored, tuple) and (stored[0] == key[3] or not work.keeps("a file names its plan"))
                if is_its and not _was_late(cells, work, hour, number):
                    files.setdefault((hour, number), File(hour, number, str(key[3])))
    held = [cells[key] for key in keys(cells, "kept")] if work.keeps("held ids stay held") else []
    return Decision(
        lifts=tuple((chain, _lift(cells, work, chain)) for chain in "UL"),
        first=first,
        files=tuple(sorted(files.values())),
        staging=staging,
        month=_month(cells, work),
        held=tuple(held),
        touched=tuple(sorted(touched)),
    )


def _was_late(cells: Cells, work: Work, hour: int, number: int) -> bool:
    """Whether a file was put after an earlier restore had decided without it."""
    if not work.keeps("a file that an earlier decision lacks is late"):
        return False
    for key in keys(cells, "decision"):
        decision = cells[key]
        assert isinstance(decision, Decision)
        if key[1] != work.table and decision.first <= number <= dict(decision.lifts)["L"]:
            return (hour, number) not in {(file.hour, file.number) for file in decision.files}
    return False


def _lift(cells: Cells, work: Work, chain: str) -> int:
    run = ledger.newest(cells, work.table, chain)
    highest = max(work.clock, run[0] + 1 if run else 1)
    if work.keeps("lift above the plans in S3"):
        highest = max([highest, *(int(str(key[2])) + 1 for key in keys(cells, "plan", chain))])
    return highest


def _month(cells: Cells, work: Work) -> str:
    if ("manifest",) in cells:
        return "closed"
    if not work.old_is_readable:
        return "closing" if work.keeps("a month that is due is closing if the old table is gone") else ""
    return "closing" if cells.get((work.before, "T")) == "closing" else ""


# Changes of the new table ---------------------------------------------------------------------------------------------


def _guarded(work: Work, name: str, make: Callable[[Cells], Outcome]) -> Call:
    """A transaction that checks that the new table is still to be opened."""

    def checked(cells: Cells) -> Outcome:
        if work.keeps("changes check the state") and cells[work.table, "F"] != (work.generation, "adopting"):
            return {}, _STOP
        return make(cells)

    return ledger.change(name, checked, private=work.table)


def _marker(work: Work, line: Line, commit: str, digest: str | None = None) -> Call:
    """Put a marker if absent or rejected, and the alias of a retry if absent."""
    place: Key = (work.table, "B", line.batch)

    def put(cells: Cells) -> Outcome:
        changes: Changes = {}
        met = cells.get(place)
        replaces = isinstance(met, Marker) and met.verdict == "rejected" and work.keeps("accepted replaces rejected")
        if met is None or replaces:
            changes[place] = Marker("accepted", digest or line.hash, commit)
        alias: Key = (work.table, "A", line.retry_of, line.hash)
        if line.retry_of and alias not in cells and work.keeps("aliases of lines"):
            changes[alias] = line.batch
        return changes, None

    return ledger.change(f"marker {line.batch} {digest or line.hash}", put, private=work.table)


def _months(work: Work, decision: Decision) -> Steps:
    """Step 5a: months as decided, notes of the old table."""

    def carry(cells: Cells) -> Outcome:
        changes: Changes = {}
        if decision.month:
            changes[work.table, "T"] = decision.month
        if work.keeps("notes are carried") and work.old_is_readable:
            changes |= dict.fromkeys(keys(cells, work.table, "N"))
            changes |= {(work.table, *key[1:]): cells[key] for key in keys(cells, work.before, "N")}
        elif work.keeps("notes are carried"):
            changes |= {(work.table, "N", key[1]): None for key in keys(cells, "notes")}
        return changes, None

    if (yield _guarded(work, "months and notes", carry)) == _STOP:
        return None
    return _files, (work, decision)


def _files(work: Work, decision: Decision) -> Steps:
    """Steps 5c and 5b: published items and markers of adopted files, then refusals and conflicts."""
    for file in decision.files:
        place: Key = (work.table, "H1", file.hour, file.number)
        yield ledger.change(f"publish {file}", lambda _: ({place: 1}, None), private=work.table)
        lines = yield ledger.read("lines", lambda cells: cells.get(("lines", file.hour, file.number), ()))
        for commit, line in lines:
            if work.keeps("markers of lines"):
                yield _marker(work, line, commit)
    kept = yield ledger.read("quarantine", lambda cells: tuple((*key[1:], cells[key]) for key in keys(cells, "q")))
    for batch, digest, kind in kept:
        if kind == "conflict" and work.keeps("a losing conflict's object is not adopted"):
            conflict: Key = (work.table, "X", batch, digest)
            yield ledger.change(f"conflict {batch} {digest}", lambda _: ({conflict: 1}, None), private=work.table)
        elif kind == "refusal":
            refused: Key = (work.table, "B", batch)
            yield ledger.change(
                f"rejected {batch}",
                lambda cells: ({} if refused in cells else {refused: Marker("rejected", digest)}, None),
                private=work.table,
            )
    return _commits, (work, decision)


class Known(NamedTuple):
    """A commit as the new table and adopted files say it: hours that are left, None if it is to be left alone."""

    commit: str
    rest: tuple[int, ...] | None
    seen: tuple[Hashable, ...]  # its commit item and its entries that wait and are pending, as read


def _commits(work: Work, decision: Decision) -> Steps:
    """Step 5d."""
    waiting = yield ledger.read("waiting", lambda cells: _listed(cells, work.table, "W"), work.table)
    pending = yield ledger.read("pending", lambda cells: _listed(cells, work.table, "P"), work.table)
    known = yield ledger.read("commits", lambda cells: _known(cells, work, decision, waiting, pending))
    for commit, rest, seen in known:
        if rest is None:
            continue
        lines = yield ledger.read(f"lines of {commit}", lambda cells: ledger.lines_of(cells, commit))
        if lines is None and rest:
            yield ledger.change("alarm", lambda _: ({("alarm", f"{commit} has no object"): 1}, None))
            return None
        said = yield from _proven(work, Known(commit, rest, seen), lines or ())
        if said == "again":
            return _commits, (work, decision)
        if said == _STOP:
            return None
    return _batches, (work, decision, frozenset(commit for commit, _, _ in known))


def _proven(work: Work, known: Known, lines: tuple[Line, ...]) -> Steps:
    """Place a commit with the hours that are left, on its own staging object."""
    place = _placing(work, known)
    if work.lands_slowly:
        said = yield from _slowly(work, known.commit, place)
    else:
        said = yield _guarded(work, f"commit {known.commit} {known.rest}", place)
    if said is not None:
        return said
    for line in lines:
        yield _marker(work, line, known.commit)
    return None


def _slowly(work: Work, commit: str, make: Callable[[Cells], Outcome]) -> Steps:
    """A transaction that is decided, and of which readers then see one item after another (P2)."""
    mine: Key = ("landing", commit, work.who)

    def begin(cells: Cells) -> list[Outcome]:
        if any(key[:2] == mine[:2] for key in cells if key[0] == "landing"):
            return []
        if cells[work.table, "F"] != (work.generation, "adopting"):
            return [({}, _STOP)]
        changes, said = make(cells)
        left = frozenset((key, value) for key, value in changes.items() if cells.get(key) != value)
        return [({mine: left} if left else {}, said)]

    def land(cells: Cells) -> list[Outcome]:
        left = cells[mine]
        assert isinstance(left, frozenset)
        return [
            ({key: value, mine: left - {(key, value)} or None}, len(left) > 1) for key, value in sorted(left, key=repr)
        ]

    said = yield Call(f"commit {commit}", begin)
    is_landing = said != _STOP and (yield ledger.read("landing", lambda cells: mine in cells))
    while is_landing:
        is_landing = yield Call(f"land {commit}", land)
    return said


def _listed(cells: Cells, table: str, name: str) -> tuple[tuple[str, frozenset[int]], ...]:
    return tuple((str(key[2]), frozenset(cells[key])) for key in keys(cells, table, name))


def _known(
    cells: Cells,
    work: Work,
    decision: Decision,
    waiting: tuple[tuple[str, frozenset[int]], ...],
    pending: tuple[tuple[str, frozenset[int]], ...],
) -> tuple[Known, ...]:
    left = {**dict(waiting), **dict(pending)}
    taken = _taken(cells, decision)
    if not work.keeps("compacted since T is pending no more"):
        taken = {commit: hours for commit, hours in taken.items() if commit not in left}
    at_t = {str(key[2]): str(cells[key]) for key in keys(cells, work.table, "C")}
    made: list[Known] = []
    for commit in sorted(left.keys() | taken.keys() | at_t.keys()):
        hours = left.get(commit) if commit in left else _hours_left(cells, work, decision, commit, at_t.get(commit))
        rest = None if hours is None else tuple(sorted(hours - taken.get(commit, frozenset())))
        made.append(Known(commit, rest, (at_t.get(commit), dict(waiting).get(commit), dict(pending).get(commit))))
    return tuple(made)


def _taken(cells: Cells, decision: Decision) -> dict[str, frozenset[int]]:
    """Hours of each commit that are in adopted files."""
    taken: dict[str, frozenset[int]] = {}
    for file in decision.files:
        for commit in dict(cells["plan", "L", file.number, file.token].hours)[file.hour]:
            taken[commit] = taken.get(commit, frozenset()) | {file.hour}
    return taken


def _hours_left(cells: Cells, work: Work, decision: Decision, commit: str, at_t: str | None) -> frozenset[int] | None:
    """Hours at T of a commit that is neither waiting nor pending; None: leave it alone."""
    whole = frozenset(ledger.hours_of(ledger.lines_of(cells, commit) or ()))
    if at_t is None:
        return whole if work.keeps("half in staging") else frozenset()
    if at_t != "committed":
        return None
    is_compacted = _is_compacted(cells, work, decision, commit)
    return None if is_compacted is None else frozenset() if is_compacted else whole


def _is_compacted(cells: Cells, work: Work, decision: Decision, commit: str) -> bool | None:
    """Whether a commit of T that is not active was compacted at T; None: its run will be cleaned; False: torn (Z8)."""
    if not work.keeps("torn commits are found"):
        return None
    for key in keys(cells, "plan", "L"):
        plan, number = cells[key], int(str(key[2]))
        assert isinstance(plan, LakePlan)
        if number < decision.first:
            continue
        if not work.keeps("compacted at T: last of a run of T"):
            if any(commit in commits for _, commits in plan.hours):
                return None
            continue
        run = cells.get((work.table, "R", "L", number))
        if commit in plan.last and isinstance(run, Run) and run.token == key[3]:
            return None if run.state == "done" else True
    return False


def _placing(work: Work, known: Known) -> Callable[[Cells], Outcome]:
    commit, rest = known.commit, known.rest or ()

    def place(cells: Cells) -> Outcome:
        waits: object = cells.get((work.table, "W", commit))
        waits = frozenset(waits) if isinstance(waits, tuple) else None
        seen = (cells.get((work.table, "C", commit)), waits, cells.get((work.table, "P", commit)))
        if seen != known.seen and work.keeps("placed as it was read"):
            return {}, "again"
        pointers = {key for key in keys(cells, work.table, "H2") if key[3] == commit}
        if (work.table, "W", commit) in cells and not work.keeps("what waits is placed"):
            return {(work.table, "P", commit): None, **dict.fromkeys(pointers)}, None
        changes: Changes = {(work.table, "W", commit): None}
        changes[work.table, "C", commit] = "committed" if rest else "expires"
        changes[work.table, "P", commit] = frozenset(rest) or None
        if not rest or work.keeps("pointers of adopted hours go"):
            changes |= dict.fromkeys(pointers)
        changes |= {(work.table, "H2", hour, commit): "" for hour in rest}
        return changes, None

    return place


def _batches(work: Work, decision: Decision, known: frozenset[str]) -> Steps:
    """Step 5e: judge each batch of the other staging objects, and of what earlier restores held."""
    objects: dict[str, tuple[Line, ...]] = {}
    for commit in decision.staging:
        if commit in known:
            continue
        lines = yield ledger.read(f"lines of {commit}", lambda cells: ledger.lines_of(cells, commit))
        if lines is None:
            continue
        said = yield ledger.read(f"marker of T of {commit}", lambda cells: _proves(cells, work, commit, lines))
        if said == "proven":
            whole = Known(commit, ledger.hours_of(lines), (None, None, None))
            said = yield from _proven(work, whole, lines)
        else:
            objects[commit] = lines
        if said == "again":
            return _commits, (work, decision)
        if said == _STOP:
            return None
    return _judge, (work, decision, tuple(objects.items()))


def _proves(cells: Cells, work: Work, commit: str, lines: tuple[Line, ...]) -> str | None:
    """Whether a marker of T names this commit, although the table has no other item of it (Z8)."""
    if (work.table, "C", commit) in cells:
        return "again" if work.keeps("a commit that is known now is placed") else None
    markers = [cells.get((work.table, "B", line.batch)) for line in lines]
    named = any(isinstance(met, Marker) and met.verdict == "accepted" and met.commit == commit for met in markers)
    return "proven" if named and work.keeps("a marker of T alone proves") else None


def _judge(work: Work, decision: Decision, objects: tuple[tuple[str, tuple[Line, ...]], ...]) -> Steps:
    kept = tuple((f"kept {line.batch}{line.hash}", (line,)) for line in decision.held)
    contents = {line for _, lines in (*objects, *kept) for line in lines}
    for commit, lines in (*objects, *kept):
        whole = lines if not work.keeps("each batch is judged") else ()
        for line in lines:
            said = yield ledger.read(f"judge {line}", lambda cells: _judged(cells, work, line, contents))
            if said == "copy":
                said = yield from _copied(work, commit, whole or (line,))
            elif said == "hold":
                said = yield from _held(work, line, contents)
            if said == _STOP:
                return None
    return _lifts, (work, decision)


def _judged(cells: Cells, work: Work, line: Line, contents: set[Line]) -> str:
    met = cells.get((work.table, "B", line.batch))
    if isinstance(met, Marker) and met.verdict == "accepted":
        return ""
    if (work.table, "X", line.batch, line.hash) in cells:
        return ""
    others = {each.hash for each in contents if each.batch == line.batch and each.hash != line.hash}
    rivals = {digest for digest in others if (work.table, "X", line.batch, digest) not in cells}
    if not rivals or not work.keeps("a losing conflict's object is not adopted"):
        return "copy"
    return "hold" if work.keeps("an undecided id is held") else ""


def _held(work: Work, line: Line, contents: set[Line]) -> Steps:
    """Keep every content of an undecided id, then put its marker, which has no hash."""
    mine = sorted(each for each in contents if each.batch == line.batch)
    for each in mine if work.keeps("contents are kept before the id is held") else (line,):
        yield ledger.put_object(("kept", each.batch, each.hash), each)
    place: Key = (work.table, "B", line.batch)

    def hold(cells: Cells) -> Outcome:
        met = cells.get(place)
        if isinstance(met, Marker) and met.verdict == "accepted":
            return {}, None
        return {place: Marker("accepted", HELD)}, None

    return (yield _guarded(work, f"hold {line.batch}", hold))


def _copied(work: Work, commit: str, lines: tuple[Line, ...]) -> Steps:
    """Copy batches to a new staging object and commit, as a worker does (P16, P43)."""
    new = f"{commit}~{work.who}{lines[0].batch}"
    closed = yield ledger.read("month", lambda cells: bool(cells.get((work.table, "T"))))
    is_closed = bool(closed) and work.keeps("copies book a closed month now")
    booked = tuple(ledger.rebooked(line, is_closed=is_closed) for line in lines)
    yield ledger.put_object(("staging", new), booked)

    def put(cells: Cells) -> Outcome:
        is_copy = work.keeps("a copy is not refused by its own alias")
        made = ledger.commit_changes(cells, work.table, new, booked, is_copy=is_copy)
        if made == "month" and not work.keeps("copies book a closed month now"):
            opened = {key: value for key, value in cells.items() if key != (work.table, "T")}
            made = ledger.commit_changes(opened, work.table, new, booked)
        if isinstance(made, str) and len(lines) > 1:
            made = {(work.table, "C", new): "committed", (work.table, "W", new): ledger.hours_of(booked)}
        return ({}, made) if isinstance(made, str) else (made, "copied")

    return (yield _guarded(work, f"copy {new}", put))


def _lifts(work: Work, decision: Decision) -> Steps:
    """Step 5f."""
    for chain, number in decision.lifts:
        done = Run("done", "", is_cleaned=True)
        lifted: Changes = {(work.table, "R", chain, number): done}
        if (yield _guarded(work, f"lift {chain} to {number}", lambda _: (dict(lifted), None))) == _STOP:
            return None
    if (
        work.keeps("usage is counted when all has landed")
        and (yield Call("count", lambda cells: _counting(cells, work))) == _STOP
    ):
        return None
    hours = yield ledger.read("hours", lambda cells: _hours(cells, work, decision))
    return _usage, (work, decision, hours)


def _counting(cells: Cells, work: Work) -> list[Outcome]:
    """From now on nothing is adopted, and every transaction that checked `adopting` has landed."""
    if cells[work.table, "F"] != (work.generation, "adopting"):
        return [({}, None if cells[work.table, "F"] == (work.generation, "counting") else _STOP)]
    if any(key[0] == "landing" for key in cells):
        return []
    return [({(work.table, "F"): (work.generation, "counting")}, None)]


def _hours(cells: Cells, work: Work, decision: Decision) -> tuple[int, ...]:
    """Hours whose usage the lost time can have changed."""
    hours = {file.hour for file in decision.files}
    hours |= {hour for name in "WP" for key in keys(cells, work.table, name) for hour in cells[key]}
    if work.keeps("usage of staging objects is corrected"):
        for commit in decision.staging:
            hours |= set(ledger.hours_of(ledger.lines_of(cells, commit) or ()))
    return tuple(sorted(hours | set(decision.touched)))


def _usage(work: Work, decision: Decision, hours: tuple[int, ...]) -> Steps:
    """Step 7: correct usage (P38), with the number of the lift."""
    number = dict(decision.lifts)["U"]
    for hour in hours:
        said: Hashable = "again"
        while said == "again":
            rows = yield ledger.read(
                f"rows of {hour}", lambda cells: ledger.rows_of(cells, work.table, hour), work.table
            )
            met = yield ledger.read(f"usage {hour}", lambda cells: cells.get(("usage", hour), Usage()))
            said = yield ledger.change(
                f"correct {hour}", _correcting(work, hour, rows, met, number, hour in decision.touched)
            )
            if said == _STOP:
                return None
    return _open, (work,)


def _correcting(
    work: Work, hour: int, rows: tuple[tuple[str, str], ...], seen: Usage, number: int, is_touched: bool
) -> Callable[[Cells], Outcome]:
    difference = ledger.worth(rows) - seen.total

    def correct(cells: Cells) -> Outcome:
        met = cells.get(("usage", hour), Usage())
        assert isinstance(met, Usage)
        sets = is_touched and work.keeps("numbers of items that the newest plan names")
        if not difference and not (sets and met.number < number):
            return {}, "right"
        if met.number > number:
            opened = cells[work.table, "F"] == (work.generation, "open")
            return (
                {} if opened else {("alarm", f"usage of {hour} has number {met.number}, the lift is {number}"): 1}
            ), _STOP
        if met.revision != seen.revision:
            return {}, "again"
        new = number if work.keeps("corrected items get the lift") else met.number
        return {("usage", hour): Usage(met.total + difference, met.revision + 1, new)}, "corrected"

    return correct


def _open(work: Work) -> Steps:
    """Step 8."""

    def open_(cells: Cells) -> Outcome:
        if cells[work.table, "F"] not in {(work.generation, "adopting"), (work.generation, "counting")}:
            return {}, _STOP
        return {(work.table, "F"): (work.generation, "open")}, None

    yield Call("open", lambda cells: [open_(cells)])
    return None
