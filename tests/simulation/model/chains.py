"""The processes that move commits: worker, roll-up, compactor and cleaner (P16, P19 to P24, P30, P31, P45)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.rules import (
    LakePlan,
    RollupPlan,
    Setting,
    Sums,
    figure,
    run_sk,
    runs_in,
    summed,
    text,
    usage_place,
    whole,
)
from tests.simulation.model.world import (
    Action,
    BrokenError,
    ConflictError,
    LateError,
    Read,
    RefusedError,
    UnknownError,
    Write,
    again,
    check,
    delete,
    delete_object,
    get,
    get_object,
    put,
    put_if_absent,
    put_object,
    query,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Generator

    from tests.simulation.model.world import Item

    Steps = Generator[Read | Write, object, None]

_HOURS = "hours"


# Worker ----------------------------------------------------------------------------------------------------------------


def commit(commit_id: str, sums: Sums, shard: int) -> Steps:
    """A worker's commit: the object, then commit and waiting entry in one transaction (P15, P16)."""
    yield from put_object(f"staging/{commit_id}", sums)
    hours = frozenset(hour for _, hour, _ in sums)
    write = Write(
        (
            put_if_absent("ledger", "C", commit_id, {"shard": shard}),
            put("ledger", f"W{shard}", commit_id, {_HOURS: hours}),
        )
    )
    try:
        yield from again(write)
    except RefusedError:
        # Our own attempt landed.
        return


# Chain -----------------------------------------------------------------------------------------------------------------


def newest(chain: str) -> Generator[Read | Write, object, tuple[int, Item] | None]:
    """The newest run of a chain, with its number."""

    def look(world: object) -> object:
        items = world.items  # type: ignore[attr-defined]  # the world is the only thing that is looked at
        sks = [place[2] for place in items if place[:2] == ("ledger", f"R{chain}")]
        return (int(max(sks)), dict(items[("ledger", f"R{chain}", max(sks))])) if sks else None

    found = yield from again(Read(look))
    assert found is None or isinstance(found, tuple)
    return found


def announce(chain: str, number: int, plan: object, token: str) -> Steps:
    """PUT a plan and announce it as the next run; refused if there is one (P20)."""
    key = f"runs/{chain}/{run_sk(number)}-{token}"
    yield from put_object(key, plan)
    run: Item = {"state": "planned", "plan": key}
    try:
        yield from again(Write((put_if_absent("ledger", f"R{chain}", run_sk(number), run),)))
    except RefusedError:
        return


def over(chain: str, number: int) -> Generator[Read | Write, object, bool]:
    """Whether a run is done, or a later one is there."""
    run = yield from newest(chain)
    return run is not None and (run[0] > number or run[1]["state"] == "done")


def stop_if_over(chain: str, number: int, what: str) -> Steps:
    """Go on only if nothing explains what was met.

    Raises:
        LateError: The run is over.
        BrokenError: It is not, so the chain is damaged.
    """
    if (yield from over(chain, number)):
        raise LateError
    raise BrokenError(f"{chain} {number}: {what}, and the run is not over")


def finish(chain: str, number: int) -> Steps:
    """Set a run to done (P21)."""

    def done(met: Item | None) -> Item:
        return {**(met or {}), "state": "done"}

    action = Action(
        ("ledger", f"R{chain}", run_sk(number)), lambda met: met is not None and met["state"] == "planned", done
    )
    try:
        yield from again(Write((action,)))
    except RefusedError:
        return


# Dictionary ------------------------------------------------------------------------------------------------------------


def numbers_of(account: str) -> Generator[Read | Write, object, dict[str, int]]:
    """An account's dictionary: number of each kind."""
    items = yield from query("ledger", f"D{account}", "N#")
    return {text(item, "kind"): int(sk[2:]) for sk, item in items}


def claim(account: str, kinds: set[str], setting: Setting) -> Generator[Read | Write, object, dict[str, int]]:
    """Numbers of kinds, claimed where they are missing; kinds beyond the cap get none (P45)."""
    for _ in range(8):
        known = yield from numbers_of(account)
        missing = sorted(kinds - known.keys())
        dense = len(known) == max(known.values(), default=-1) + 1
        block = missing[: max(0, min(2, setting.cap - len(known)))]
        if not missing or (dense and not block):
            return {kind: number for kind, number in known.items() if kind in kinds}
        if not dense:
            continue
        actions: list[Action] = []
        put_one = put_if_absent if setting.keeps("P45 claims if absent") else put
        for number, kind in enumerate(block, start=len(known)):
            actions += (
                put_one("ledger", f"D{account}", f"N#{number:03d}", {"kind": kind}),
                put_one("ledger", f"D{account}", f"K#{kind}", {"number": number}),
            )
        if not setting.keeps("P45 number and name in one transaction"):
            actions = actions[1::2]
        try:
            yield Write(tuple(actions))
        except (RefusedError, ConflictError, UnknownError):
            pass
        if not setting.keeps("P45 sure before the plan"):
            return {**known, **dict(zip(block, range(len(known), len(known) + len(block)), strict=True))}
    raise LateError


# Roll-up ---------------------------------------------------------------------------------------------------------------


def roll_up(shard: int, setting: Setting, rng: random.Random, token: str) -> Steps:
    """One call of the roll-up of a shard: resume what is planned, or plan; then work on it (P19 to P23)."""
    chain = f"U{shard}"
    run = yield from newest(chain)
    if run is None or run[1]["state"] == "done":
        number = run[0] + 1 if run else 1
        plan = yield from plan_rollup(shard, setting, rng)
        if plan is None:
            return
        yield from announce(chain, number, plan, token)
        run = yield from newest(chain)
        if run is None or run[1]["state"] == "done":
            return
    yield from work_rollup(shard, run[0], run[1], setting, rng)


def plan_rollup(shard: int, setting: Setting, rng: random.Random) -> Generator[Read | Write, object, RollupPlan | None]:
    """A plan of what waits now; None if nothing does."""
    waiting = yield from query("ledger", f"W{shard}")
    taken = waiting[: rng.randint(1, 4)]
    sums: list[Sums] = []
    for commit_id, _ in taken:
        staged = yield from get_object(f"staging/{commit_id}")
        if staged is None:
            if (yield from get("ledger", f"W{shard}", commit_id)) is not None:
                raise BrokenError(f"{commit_id} waits, and its object is gone")
            raise LateError
        assert isinstance(staged, dict)
        sums.append(staged)
    if not taken:
        return None
    plan = RollupPlan({}, {}, {})
    for commit_id, item in taken:
        hours = item[_HOURS]
        assert isinstance(hours, frozenset)
        plan.commits[commit_id] = tuple(sorted(hours))
    total = summed(sums)
    numbers = {}
    for account in {key[0] for key in total}:
        numbers[account] = yield from claim(account, {key[2] for key in total if key[0] == account}, setting)
    for (account, hour, kind), value in total.items():
        place = plan.numbered if kind in numbers[account] else plan.named
        place.setdefault((account, hour), {})[kind] = value
    return plan


def updates(plan: RollupPlan, numbers: dict[str, dict[str, int]]) -> dict[tuple[str, str], dict[str, int]]:
    """What a plan adds to each usage item, by attribute.

    Raises:
        BrokenError: A number is missing that was sure before the plan was put.
    """
    made: dict[tuple[str, str], dict[str, int]] = {}
    for (account, hour), kinds in plan.numbered.items():
        for kind, value in kinds.items():
            if kind not in numbers[account]:
                raise BrokenError(f"{account} {kind}: no number")
            number = numbers[account][kind]
            made.setdefault(usage_place(account, hour, kind, number), {})[figure(number)] = value
    for (account, hour), kinds in plan.named.items():
        for kind, value in kinds.items():
            made[usage_place(account, hour, kind, None)] = {figure(None): value}
    return made


def add(place: tuple[str, str], sums: dict[str, int], shard: int, number: int) -> Write:
    """The update that books a run's share in a usage item (P23.1)."""
    name = f"n{shard}"

    def below(met: Item | None) -> bool:
        return runs_in(met).get(shard, -1) < number

    def make(met: Item | None) -> Item:
        made = dict(met or {})
        for attribute, value in sums.items():
            made[attribute] = whole(made, attribute) + value if attribute in made else value
        made["v"] = whole(made, "v") + 1 if "v" in made else 1
        made[name] = number
        return made

    return Write((Action(("usage", *place), below, make),))


def work_rollup(shard: int, number: int, run: Item, setting: Setting, rng: random.Random) -> Steps:
    """Add, place, done (P23)."""
    chain = f"U{shard}"
    plan = yield from get_object(text(run, "plan"))
    if plan is None:
        yield from stop_if_over(chain, number, "the plan is gone")
    assert isinstance(plan, RollupPlan)
    numbers = {}
    for account in {account for account, _ in plan.numbered}:
        numbers[account] = yield from numbers_of(account)
    todo = list(updates(plan, numbers).items())
    rng.shuffle(todo)
    for place, sums in todo:
        try:
            yield from again(add(place, sums, shard, number))
        except RefusedError as error:
            met = runs_in(error.items[0])[shard]
            if met > number:
                yield from stop_if_over(chain, number, f"{place} has run {met}")
    commits = list(plan.commits.items())
    rng.shuffle(commits)
    for commit_id, hours in commits:
        actions = [check("ledger", f"W{shard}", commit_id)]
        actions.append(put("ledger", f"P{shard}", commit_id, {_HOURS: frozenset(hours)}))
        actions += (put("ledger", f"H{hour}", f"2#{commit_id}", {"shard": shard}) for hour in hours)
        try:
            yield from again(Write(tuple(actions)))
        except RefusedError:
            continue
        yield from again(Write((delete("ledger", f"W{shard}", commit_id),)))
    yield from finish(chain, number)


# Compactor -------------------------------------------------------------------------------------------------------------


def compact(shard: int, rng: random.Random, token: str) -> Steps:
    """One call of the compactor of a shard (P24)."""
    chain = f"L{shard}"
    run = yield from newest(chain)
    if run is None or run[1]["state"] == "done":
        pending = yield from query("ledger", f"P{shard}")
        waiting = {sk for sk, _ in (yield from query("ledger", f"W{shard}"))}
        plan: dict[int, list[str]] = {}
        last: list[str] = []
        for commit_id, item in pending:
            left = item.get(_HOURS, frozenset())
            assert isinstance(left, frozenset)
            if commit_id in waiting or not left:
                continue
            chosen = [hour for hour in sorted(left) if rng.random() < 0.7]
            for hour in chosen:
                plan.setdefault(hour, []).append(commit_id)
            if len(chosen) == len(left):
                last.append(commit_id)
        if not plan:
            return
        made = LakePlan({hour: tuple(commits) for hour, commits in plan.items()}, tuple(last))
        yield from announce(chain, run[0] + 1 if run else 1, made, token)
        run = yield from newest(chain)
        if run is None or run[1]["state"] == "done":
            return
    plan_object = yield from get_object(text(run[1], "plan"))
    assert isinstance(plan_object, LakePlan)
    for hour in plan_object.hours:
        yield from _publish(shard, run[0], hour, plan_object.hours[hour])
    yield from _shrink(shard, plan_object)
    yield from finish(chain, run[0])


def _publish(shard: int, number: int, hour: int, commits: tuple[str, ...]) -> Steps:
    chain, name = f"L{shard}", f"{shard}#{run_sk(number)}"
    for commit_id in commits:

        def markable(met: Item | None) -> bool:
            return met is not None and met.get("run", name) == name

        def mark(met: Item | None) -> Item:
            return {**(met or {}), "run": name}

        try:
            yield from again(Write((Action(("ledger", f"H{hour}", f"2#{commit_id}"), markable, mark),)))
        except RefusedError as error:
            yield from stop_if_over(chain, number, f"{commit_id} in {hour} cannot be marked: {error.items[0]}")
    key = f"lake/{hour}/{name}"
    if (yield from get_object(key)) is None:
        rows: list[Sums] = []
        for commit_id in commits:
            staged = yield from get_object(f"staging/{commit_id}")
            if staged is None:
                yield from stop_if_over(chain, number, f"{commit_id} has no object")
            assert isinstance(staged, dict)
            rows.append({sums_key: value for sums_key, value in staged.items() if sums_key[1] == hour})
        yield from put_object(key, summed(rows))
    try:
        yield from again(Write((put_if_absent("ledger", f"H{hour}", f"1#{name}", {"file": key}),)))
    except RefusedError:
        return


def _shrink(shard: int, plan: LakePlan) -> Steps:
    for commit_id in sorted({commit_id for commits in plan.hours.values() for commit_id in commits}):
        gone = frozenset(hour for hour, commits in plan.hours.items() if commit_id in commits)
        place = ("ledger", f"P{shard}", commit_id)

        def shrink(met: Item | None, gone: frozenset[int] = gone) -> Item:
            left = (met or {}).get(_HOURS, frozenset())
            assert isinstance(left, frozenset)
            kept = {name: value for name, value in (met or {}).items() if name != _HOURS}
            return {**kept, _HOURS: left - gone} if left - gone else kept

        def empty(met: Item | None) -> bool:
            return met is None or _HOURS not in met

        try:
            yield from again(Write((Action(place, lambda met: met is not None, shrink),)))
            yield from again(Write((Action(place, empty, lambda _: None),)))
        except RefusedError:
            continue


def clean(shard: int) -> Steps:
    """The cleaner of a shard's lake runs, and of the plans of its roll-up (P30, P31)."""
    for sk, run in (yield from query("ledger", f"RL{shard}")):
        if run["state"] != "done" or "cleaned" in run:
            continue
        plan = yield from get_object(text(run, "plan"))
        if plan is None:
            continue
        assert isinstance(plan, LakePlan)
        for hour, commits in plan.hours.items():
            for commit_id in commits:
                yield from again(Write((delete("ledger", f"H{hour}", f"2#{commit_id}"),)))
        for commit_id in plan.last:
            for list_name in ("P", "W"):
                if (yield from get("ledger", f"{list_name}{shard}", commit_id)) is not None:
                    raise BrokenError(f"{commit_id} is cleaned, and listed in {list_name}{shard}")
            yield from delete_object(f"staging/{commit_id}")
        cleaned = Action(
            ("ledger", f"RL{shard}", sk), lambda met: met is not None, lambda met: {**(met or {}), "cleaned": 1}
        )
        yield from again(Write((cleaned,)))
    for _, run in (yield from query("ledger", f"RU{shard}"))[:-1]:
        if run["state"] == "done" and run["plan"]:
            yield from delete_object(text(run, "plan"))
