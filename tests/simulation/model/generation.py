"""Processes of one ledger, for `search`: worker, roll-up, compactor, cleaners, orphan pass, close (P16 to P36).

Cells of a table t: (t, F) generation and state; (t, B, batch) marker; (t, X, batch, hash); (t, A, batch, hash) alias;
(t, C, commit); (t, W, commit) and (t, P, commit): hours that wait and are pending; (t, H2, hour, commit) pointer;
(t, H1, hour, number) published; (t, R, chain, number) run; (t, T) the month of hour 1; (t, N, name) note.
Objects: (staging, commit), (plan, chain, number, token), (lake, hour, number), (lines, hour, number), (q, batch, hash),
(kept, batch, hash), (hour-object,), (manifest,). Besides, (usage, hour) of the usage table, and (ack, batch, hash), the
answer to a message.
"""

# ruff: noqa: B023 (a stage stands still while its call is made, so a loop variable that a call uses stays as it is)

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

from tests.simulation.model.search import Call, Cells, Changes, Key, Outcome, Stage, Steps, Value
from tests.simulation.model.world import BrokenError

CLOSING_HOUR = 1  # the only hour of the month that is closed
NOW = 3  # the hour in which rows of a closed month are booked (P43)
WORTH = {
    ("b1", "A"): 1,
    ("b1", "B"): 8,
    ("b2", "A"): 64,
    ("b3", "A"): 512,
    ("b3", "B"): 4096,
    ("b4", "B"): 32768,
    ("b5", "B"): 262144,
}
HELD = "?"  # hash of a marker without hash


class Line(NamedTuple):
    """A batch in a staging object: its rows, one in each booked hour, and what its marker says."""

    batch: str
    hash: str
    hours: tuple[int, ...]
    retry_of: str = ""


class Run(NamedTuple):
    state: str
    token: str
    is_cleaned: bool = False


class LakePlan(NamedTuple):
    hours: tuple[tuple[int, tuple[str, ...]], ...]
    last: tuple[str, ...]


class UsagePlan(NamedTuple):
    commits: tuple[tuple[str, tuple[int, ...]], ...]
    sums: tuple[tuple[int, int], ...]


class Usage(NamedTuple):
    total: int = 0
    revision: int = 0
    number: int = 0


class Marker(NamedTuple):
    verdict: str
    hash: str
    commit: str = ""


def keys(cells: Cells, *prefix: Hashable) -> list[Key]:
    size = len(prefix)
    return sorted((key for key in cells if key[:size] == prefix), key=repr)


def at(cells: Cells, *key: Hashable) -> object:
    return cells.get(key)


def read(name: str, look: Callable[[Cells], Hashable], private: str = "") -> Call:
    return Call(name, lambda cells: [({}, look(cells))], private=private)


def change(name: str, make: Callable[[Cells], Outcome], *, late: bool = False, private: str = "") -> Call:
    return Call(name, lambda cells: [make(cells)], late=late, private=private)


def put_object(key: Key, content: Hashable) -> Call:
    """Put an object if its key is absent; it may land after its process was ended."""
    return change(f"put {key}", lambda cells: ({} if key in cells else {key: content}, None), late=True)


def delete_object(key: Key) -> Call:
    return change(f"delete {key}", lambda cells: ({key: None} if key in cells else {}, None), late=True)


def lines_of(cells: Cells, commit: str) -> tuple[Line, ...] | None:
    return cells.get(("staging", commit))


def hours_of(lines: Iterable[Line]) -> tuple[int, ...]:
    return tuple(sorted({hour for line in lines for hour in line.hours}))


def rows_in(lines: Iterable[Line], hour: int) -> tuple[tuple[str, str], ...]:
    """Rows that lines have in a booked hour, as batch and hash."""
    return tuple((line.batch, line.hash) for line in lines for booked in line.hours if booked == hour)


def worth(rows: Iterable[tuple[str, str]]) -> int:
    return sum(WORTH[row] for row in rows)


def rebooked(line: Line, *, is_closed: bool) -> Line:
    if not is_closed:
        return line
    return line._replace(hours=tuple(sorted(NOW if hour == CLOSING_HOUR else hour for hour in line.hours)))


def newest(cells: Cells, table: str, chain: str) -> tuple[int, Run] | None:
    runs = keys(cells, table, "R", chain)
    if not runs:
        return None
    number = max(int(str(key[3])) for key in runs)
    return number, cells[table, "R", chain, number]


def rows_of(cells: Cells, table: str, hour: int, *, waiting: bool = False) -> tuple[tuple[str, str], ...]:
    """Rows of an hour by the ledger (P25).

    Raises:
        BrokenError: An object is missing.
    """
    rows: list[tuple[str, str]] = []
    published = {key[3] for key in keys(cells, table, "H1", hour)}
    for number in published:
        rows += _object(cells, "lake", hour, number)[1]
    commits = {key[3] for key in keys(cells, table, "H2", hour) if cells[key] not in published}
    if waiting:
        commits |= {key[2] for key in keys(cells, table, "W") if hour in cells[key]}
        commits -= {key[3] for key in keys(cells, table, "H2", hour) if cells[key] in published}
    for commit in commits:
        rows += rows_in(_object(cells, "staging", commit), hour)
    return tuple(sorted(rows))


def _object(cells: Cells, *key: Hashable) -> Value:
    found = cells.get(key)
    if not isinstance(found, tuple):
        raise BrokenError(f"{key} is named and missing")
    return found


def when_open(table: str, stage: Stage, args: tuple[Hashable, ...]) -> Steps:
    """Begin a process as soon as its ledger is open; in a world that is `early`, as soon as it is there."""

    def begin(cells: Cells) -> list[Outcome]:
        opened = cells.get((table, "F")) == (int(table), "open")
        return [({}, None)] if opened or (("early",) in cells and (table, "F") in cells) else []

    yield Call("start", begin)
    return stage, args


# Worker --------------------------------------------------------------------------------------------------------------


def commit_changes(
    cells: Cells, table: str, commit: str, lines: tuple[Line, ...], *, is_copy: bool = False
) -> Changes | str:
    """Changes of T-COMMIT (P16), or the reason of its refusal. An alias of a copy may name the copy's own batch."""
    if (table, "C", commit) in cells:
        return "exists"
    hours = hours_of(lines)
    if CLOSING_HOUR in hours and (table, "T") in cells:
        return "month"
    changes: Changes = {(table, "C", commit): "committed", (table, "W", commit): hours}
    for line in lines:
        met = at(cells, table, "B", line.batch)
        if isinstance(met, Marker) and met.verdict == "accepted":
            return "marker"
        changes[table, "B", line.batch] = Marker("accepted", line.hash, commit)
        if line.retry_of:
            if cells.get((table, "A", line.retry_of, line.hash)) not in {None, line.batch if is_copy else None}:
                return "marker"
            changes[table, "A", line.retry_of, line.hash] = line.batch
    return changes


def verdict(cells: Cells, table: str, line: Line) -> str:
    """Say what the ledger already knows about a batch, as a worker that is refused reads it; empty: it can go on."""
    if line.retry_of and (table, "A", line.retry_of, line.hash) in cells:
        return "duplicate"
    met = at(cells, table, "B", line.batch)
    if not isinstance(met, Marker) or met.verdict != "accepted":
        return ""
    if met.hash == HELD:
        return "unverified"
    return "duplicate" if met.hash == line.hash else "conflict"


def _answer(cells: Cells, line: Line, answer: str) -> Changes:
    key: Key = ("ack", line.batch, line.hash)
    return {key: answer} if key not in cells else {}


def worker(table: str, name: str, lines: tuple[Line, ...], attempt: int, is_closed: bool, is_torn: bool) -> Steps:
    """Stage and commit batches; the messages are answered with the transaction, as early as can be."""
    for line in (line for line in lines if line.retry_of and attempt == 0):
        first = yield read(f"marker of {line.retry_of}", lambda cells: _marker_of(cells, table, line))
        if first != "go":
            yield change(f"{first} {line}", lambda cells: (_answer(cells, line, first), None))
            return None
    commit = f"{name}.{attempt}"
    booked = tuple(rebooked(line, is_closed=is_closed) for line in lines)
    yield put_object(("staging", commit), booked)
    said = yield Call(f"commit {commit}", _committing(table, commit, lines, booked, is_torn=is_torn))
    if said == "month":
        return worker, (table, name, lines, attempt + 1, True, is_torn)
    for line, known in zip(lines, said, strict=True):
        if known in {"conflict", "unverified"}:
            yield put_object(("q", line.batch, line.hash), known)
        if known not in {"", "accepted"}:
            yield change(f"{known} {line}", lambda cells: (_refused(cells, table, line, known), None))
    left = tuple(line for line, known in zip(lines, said, strict=True) if not known)
    return (worker, (table, name, left, attempt + 1, is_closed, is_torn)) if left else None


def _committing(
    table: str, commit: str, lines: tuple[Line, ...], booked: tuple[Line, ...], *, is_torn: bool
) -> Callable[[Cells], list[Outcome]]:
    def transaction(cells: Cells) -> list[Outcome]:
        made = commit_changes(cells, table, commit, booked)
        if isinstance(made, str):
            return [({}, made if made == "month" else tuple(verdict(cells, table, line) for line in lines))]
        answered = dict(made)
        for line in lines:
            answered |= _answer(cells, line, "accepted")
        moments = torn_moments(cells, table, made) if is_torn else []
        accepted = ("accepted",) * len(lines)
        return [(answered, accepted), *(({**answered, **torn}, accepted) for torn in moments)]

    return transaction


def _refused(cells: Cells, table: str, line: Line, known: str) -> Changes:
    conflict: Changes = {(table, "X", line.batch, line.hash): 1} if known == "conflict" else {}
    return {**conflict, **_answer(cells, line, known)}


def stage(table: str, name: str, lines: tuple[Line, ...]) -> Steps:
    """A worker that ends before its transaction."""
    yield put_object(("staging", f"{name}.0"), lines)
    return None


def _marker_of(cells: Cells, table: str, line: Line) -> str:
    """Read the marker of a retry's first id (P46)."""
    met = at(cells, table, "B", line.retry_of)
    if not isinstance(met, Marker) or met.verdict != "accepted" or met.hash == HELD:
        return "retry_without_conflict"
    return "duplicate" if met.hash == line.hash else "go"


def refuse(table: str, name: str, line: Line) -> Steps:
    """Refuse a whole batch (P9)."""
    yield put_object(("q", line.batch, line.hash), "refusal")
    place: Key = (table, "B", line.batch)

    def put(cells: Cells) -> Outcome:
        if place in cells:
            return _answer(cells, line, "duplicate"), None
        return {place: Marker("rejected", line.hash), **_answer(cells, line, "rejected")}, None

    yield change(f"refuse {line}", put)
    return None


def revoke(table: str, name: str) -> Steps:
    """Revoke a token: first the line in S3, then the item."""
    yield put_object(("notes", "token"), "revoked")
    yield change("revoke", lambda _: ({(table, "N", "token"): None, ("revoked",): 1}, None))
    return None


def allow(table: str, name: str) -> Steps:
    """Add a token."""
    yield change("allow", lambda _: ({(table, "N", "added"): 1, ("added",): 1}, None))
    return None


# A moment of a table -------------------------------------------------------------------------------------------------


def moment(source: str, target: str, before: str, is_empty: bool) -> Steps:
    """Take the moment T, if need be before that of another table: the target is what a restore will be."""

    def take(cells: Cells) -> list[Outcome]:
        _, state = cells.get((source, "F"), (0, ""))
        if state != "open" or (target, "F") in cells or ((before, "F") in cells and ("any moment",) not in cells):
            return []
        return [(copied(cells, source, target, int(target), is_empty), None)]

    yield Call(f"T of {target}", take, is_rare=True)
    return None


def copied(cells: Cells, source: str, target: str, generation: int, is_empty: bool) -> Changes:
    kept: Changes = {} if is_empty else {(target, *key[1:]): cells[key] for key in keys(cells, source)}
    return {**kept, (target, "F"): (generation, "adopting")}


def torn_moments(cells: Cells, table: str, made: Changes) -> list[Changes]:
    """Each way in which the moment T could have only a part of a transaction that lands just now."""
    if ("2", "F") in cells:
        return []
    before = copied(cells, table, "2", 2, is_empty=False)
    places = sorted(made, key=repr)
    parts = [[place for i, place in enumerate(places) if bits >> i & 1] for bits in range(1, 2 ** len(places) - 1)]
    return [{**before, **{("2", *place[1:]): made[place] for place in part}} for part in parts]


# Roll-up -------------------------------------------------------------------------------------------------------------


def roll_up(table: str, name: str) -> Steps:
    run = yield read("newest U", lambda cells: newest(cells, table, "U"))
    if isinstance(run, tuple) and run[1].state == "planned":
        return _book, (table, name, run[0], run[1].token)

    def plan(cells: Cells) -> UsagePlan | None:
        waiting = [(str(key[2]), cells[key]) for key in keys(cells, table, "W")]
        lines = [line for commit, _ in waiting for line in lines_of(cells, commit) or ()]
        sums = tuple((hour, worth(rows_in(lines, hour))) for hour in hours_of(lines))
        return UsagePlan(tuple(waiting), sums) if waiting else None

    planned = yield read("plan U", plan)
    if planned is None:
        return None
    number = run[0] + 1 if isinstance(run, tuple) else 1
    yield put_object(("plan", "U", number, name), planned)
    token = yield change(f"announce U {number}", lambda cells: _announced(cells, (table, "R", "U", number), name))
    return _book, (table, name, number, token)


def _announced(cells: Cells, place: Key, token: str) -> Outcome:
    met = cells.get(place)
    return ({}, met.token) if isinstance(met, Run) else ({place: Run("planned", token)}, token)


def _book(table: str, name: str, number: int, token: str) -> Steps:
    """Add, place, done (P23)."""
    plan = yield read("plan", lambda cells: cells.get(("plan", "U", number, token)))
    if not isinstance(plan, UsagePlan):
        return None
    for hour, value in plan.sums:
        yield change(f"add {hour} under {number}", _adding(hour, value, number), late=True)
    for commit, hours in plan.commits:
        yield change(f"place {commit}", _placing(table, commit, hours))
        yield change(f"waits no more {commit}", lambda _: ({(table, "W", commit): None}, None))
    yield change(f"done U {number}", lambda cells: (_done(cells, (table, "R", "U", number)), None))
    return None


def _adding(hour: int, value: int, number: int) -> Callable[[Cells], Outcome]:
    def add(cells: Cells) -> Outcome:
        met = cells.get(("usage", hour), Usage())
        assert isinstance(met, Usage)
        if met.number >= number:
            return {}, "landed"
        return {("usage", hour): Usage(met.total + value, met.revision + 1, number)}, "added"

    return add


def _placing(table: str, commit: str, hours: tuple[int, ...]) -> Callable[[Cells], Outcome]:
    def place(cells: Cells) -> Outcome:
        if (table, "W", commit) not in cells:
            return {}, "waits not"
        pointers: Changes = {(table, "H2", hour, commit): "" for hour in hours}
        return {(table, "P", commit): frozenset(hours), **pointers}, "placed"

    return place


def _done(cells: Cells, place: Key) -> Changes:
    met = cells.get(place)
    return {place: met._replace(state="done")} if isinstance(met, Run) and met.state == "planned" else {}


# Compactor -----------------------------------------------------------------------------------------------------------


def compact(table: str, name: str, hours: tuple[int, ...]) -> Steps:
    """One run over some hours (P24)."""
    run = yield read("newest L", lambda cells: newest(cells, table, "L"))
    if isinstance(run, tuple) and run[1].state == "planned":
        return _file, (table, name, run[0], run[1].token)
    pending = yield read("pending", lambda cells: tuple((str(key[2]), cells[key]) for key in keys(cells, table, "P")))
    waiting = yield read("waiting", lambda cells: tuple(str(key[2]) for key in keys(cells, table, "W")))
    left = {commit: its for commit, its in pending if commit not in waiting}
    chosen = tuple(
        (hour, commits) for hour in hours if (commits := tuple(commit for commit, its in left.items() if hour in its))
    )
    if not chosen:
        return None
    plan = LakePlan(chosen, tuple(commit for commit, its in left.items() if its <= set(hours)))
    number = run[0] + 1 if isinstance(run, tuple) else 1
    yield put_object(("plan", "L", number, name), plan)
    token = yield change(f"announce L {number}", lambda cells: _announced(cells, (table, "R", "L", number), name))
    return _file, (table, name, number, token)


def _file(table: str, name: str, number: int, token: str) -> Steps:
    plan = yield read("plan", lambda cells: cells.get(("plan", "L", number, token)))
    assert isinstance(plan, LakePlan)
    for hour, commits in plan.hours:
        marked = yield change(f"mark {hour} for {number}", _marking(table, hour, commits, number))
        if marked == "late":
            return None
        lines = yield read("staging", lambda cells: tuple(lines_of(cells, commit) for commit in commits))
        assert isinstance(lines, tuple)
        if None not in lines:
            rows = tuple(sorted(row for each in lines for row in rows_in(each, hour)))
            markers = _markers(plan, hour, dict(zip(commits, lines, strict=True)))
            if markers:
                yield put_object(("lines", hour, number), markers)
            yield put_object(("lake", hour, number), (token, rows))
        yield change(f"publish {hour} {number}", lambda _: ({(table, "H1", hour, number): 1}, None))
    for commit in sorted({commit for _, commits in plan.hours for commit in commits}):
        yield change(f"taken {commit}", _taking(table, commit, plan))
    yield change(f"done L {number}", lambda cells: (_done(cells, (table, "R", "L", number)), None))
    return None


def _markers(plan: LakePlan, hour: int, lines: dict[str, tuple[Line, ...]]) -> tuple[tuple[str, Line], ...]:
    """Markers of commits whose latest planned hour this is, and of which the plan takes everything left (P50)."""
    latest = {commit: its for its, commits in sorted(plan.hours) for commit in commits}
    return tuple(
        (commit, line)
        for commit in sorted(lines)
        if commit in plan.last and latest[commit] == hour
        for line in lines[commit]
    )


def _marking(table: str, hour: int, commits: tuple[str, ...], number: int) -> Callable[[Cells], Outcome]:
    def mark(cells: Cells) -> Outcome:
        changes: Changes = {}
        for commit in commits:
            place: Key = (table, "H2", hour, commit)
            if cells.get(place) not in {"", number}:
                alarm: Changes = {("alarm", f"{commit} cannot be marked in {hour} by {number}"): 1}
                return ({} if _is_over(cells, table, number) else alarm), "late"
            changes[place] = number
        return changes, None

    return mark


def _is_over(cells: Cells, table: str, number: int) -> bool:
    last = newest(cells, table, "L")
    return last is None or last[0] > number or last[1].state == "done"


def _taking(table: str, commit: str, plan: LakePlan) -> Callable[[Cells], Outcome]:
    gone = {hour for hour, commits in plan.hours if commit in commits}

    def take(cells: Cells) -> Outcome:
        met = cells.get((table, "P", commit))
        if not isinstance(met, frozenset):
            return {}, None
        return {(table, "P", commit): met - gone or None}, None

    return take


# Cleaners ------------------------------------------------------------------------------------------------------------


def clean(table: str, name: str) -> Steps:
    """Clean the oldest run that is done and not cleaned (P30)."""

    def due(cells: Cells) -> tuple[int, str, Hashable] | None:
        for key in sorted(keys(cells, table, "R", "L"), key=lambda key: int(str(key[3]))):
            run = cells[key]
            if isinstance(run, Run) and run.state == "done" and not run.is_cleaned:
                return int(str(key[3])), run.token, cells["plan", "L", key[3], run.token]
        return None

    found = yield read("due", due)
    if not isinstance(found, tuple):
        return None
    number, _, plan = found
    assert isinstance(plan, LakePlan)
    gone: Changes = {(table, "H2", hour, commit): None for hour, commits in plan.hours for commit in commits}
    yield change(f"pointers of {number}", lambda _: (dict(gone), None))
    for commit in plan.last:
        listed = yield read(f"guard {commit}", lambda cells: any((table, lst, commit) in cells for lst in "PW"))
        if listed:
            yield change("alarm", lambda _: ({("alarm", f"{commit} is cleaned and listed"): 1}, None))
            return None
        yield delete_object(("staging", commit))
        yield change(
            f"expires {commit}",
            lambda cells: (
                {(table, "C", commit): "expires"} if (table, "C", commit) in cells else {},
                None,
            ),
        )
    yield change(
        f"cleaned {number}",
        lambda cells: (
            {(table, "R", "L", number): cells[table, "R", "L", number]._replace(is_cleaned=True)},
            None,
        ),
    )
    return None


def clean_plans(table: str, name: str) -> Steps:
    """Delete plans of the roll-up's done runs, except the newest (P31)."""

    def due(cells: Cells) -> tuple[Key, ...]:
        run = newest(cells, table, "U")
        over = 0 if run is None else run[0] - (run[1].state != "done")
        plans = keys(cells, "plan", "U")
        highest = max((int(str(key[2])) for key in plans), default=0)
        return tuple(
            key for key in plans if int(str(key[2])) <= over and (key[2] != highest or ("all plans go",) in cells)
        )

    found = yield read("plans due", due)
    assert isinstance(found, tuple)
    for key in found:
        yield delete_object(key)
    return None


def orphans(table: str, name: str) -> Steps:
    """Fence and delete staging objects without a commit, and delete those of commits that expire (P32)."""
    found = yield read("staging objects", lambda cells: tuple(str(key[1]) for key in keys(cells, "staging")))
    assert isinstance(found, tuple)
    for commit in found:

        def fence(cells: Cells) -> Outcome:
            met = cells.get((table, "C", commit))
            if met is None:
                return {(table, "C", commit): "aborted"}, "delete"
            return {}, "keep" if met == "committed" else "delete"

        if (yield change(f"fence {commit}", fence)) == "delete":
            yield delete_object(("staging", commit))
    return None


# Close ---------------------------------------------------------------------------------------------------------------


def close(table: str, name: str) -> Steps:
    """Close the month of hour 1 (P33 to P36)."""

    def closing(cells: Cells) -> Outcome:
        met = cells.get((table, "T"))
        return {} if met else {(table, "T"): "closing"}, met

    if (yield change("closing", closing)) == "closed":
        return None

    measured = yield Call("measure", lambda cells: _measured(cells, table))
    if not isinstance(measured, tuple):
        return None
    for key, content in ((("hour-object",), measured[1]), (("manifest",), measured)):
        yield put_object(key, content)
        same = yield read("compare", lambda cells: cells.get(key) == content)
        if not same:
            yield change("alarm", lambda _: ({("alarm", f"close: {key} says something else"): 1}, None))
            return None
    yield change("closed", lambda _: ({(table, "T"): "closed"}, None))
    return None


def _measured(cells: Cells, table: str) -> list[Outcome]:
    """Files and rows of the month; waits until no list has one of its hours (P34, P35)."""
    if any(CLOSING_HOUR in cells[key] for listed in "WP" for key in keys(cells, table, listed)):
        return []
    files = tuple(key[3] for key in keys(cells, table, "H1", CLOSING_HOUR))
    rows = rows_of(cells, table, CLOSING_HOUR)
    usage = cells.get(("usage", CLOSING_HOUR), Usage())
    if usage.total != worth(rows):
        return [({("alarm", f"close: usage {usage.total:o}, rows {rows}"): 1}, None)]
    return [({}, (files, rows))]
