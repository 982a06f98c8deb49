"""Worker and roll-up: a commit waits, is booked by a run, and is placed (P16, P23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.chain import announce, finish, newest, stop_if_over
from tests.simulation.model.dictionary import claim, numbers_of
from tests.simulation.model.rules import RollupPlan, figure, odd, runs_in, summed, text, usage_place, whole
from tests.simulation.model.world import (
    Action,
    BrokenError,
    LateError,
    RefusedError,
    Write,
    again,
    check,
    delete,
    get,
    get_object,
    put,
    put_if_absent,
    put_object,
    query,
)

if TYPE_CHECKING:
    import random

    from tests.simulation.model.rules import Setting, Sums
    from tests.simulation.model.world import Item, Steps

_HOURS = "hours"


def commit(commit_id: str, sums: Sums, shard: int) -> Steps[None]:
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


def roll_up(shard: int, setting: Setting, rng: random.Random, token: str) -> Steps[None]:
    """One call of a shard's roll-up: resume the planned run or plan one, then work on it (P19 to P23)."""
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


def plan_rollup(shard: int, setting: Setting, rng: random.Random) -> Steps[RollupPlan | None]:
    """A plan of the commits that wait now; None if there are none."""
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
    """Additions of a plan to each usage item, by attribute.

    Raises:
        BrokenError: A number is missing that was certain before the plan was put.
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
        return not stops(met, sums, shard) and runs_in(met).get(shard, -1) < number

    def make(met: Item | None) -> Item:
        made = dict(met or {})
        for attribute, value in sums.items():
            made[attribute] = whole(made, attribute) + value if attribute in made else value
        made["v"] = whole(made, "v") + 1 if "v" in made else 1
        made[name] = number
        return made

    return Write((Action(("usage", *place), below, make),))


def stops(item: Item | None, sums: dict[str, int], shard: int) -> bool:
    """Whether a manual write left a non-number where the update adds."""
    return not odd(item).keys().isdisjoint({*sums, "v", f"n{shard}"})


def _check_landed(met: Item | None, place: tuple[str, str], sums: dict[str, int], run: tuple[int, int]) -> Steps[None]:
    shard, number = run
    if stops(met, sums, shard):
        # A manual write stops the chain until it is removed (P49).
        raise LateError
    if runs_in(met)[shard] > number:
        yield from stop_if_over(f"U{shard}", number, f"{place} has run {runs_in(met)[shard]}")


def work_rollup(shard: int, number: int, run: Item, setting: Setting, rng: random.Random) -> Steps[None]:
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
            yield from _check_landed(error.items[0], place, sums, (shard, number))
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
