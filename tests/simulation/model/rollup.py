"""Worker, roll-up, compactor and cleaner: a commit waits, is booked, placed and published (P16, P23, P24, P30, P31)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model import rules, world

if TYPE_CHECKING:
    import random

_HOURS = "hours"


def commit(commit_id: str, sums: rules.Sums, shard: int) -> world.Steps[None]:
    """A worker's commit: first the object, then commit and waiting entry in one transaction (P15, P16)."""
    yield from world.put_object(f"staging/{commit_id}", sums)
    hours = frozenset(hour for _, hour, _ in sums)
    write = world.Write(
        (
            world.put_if_absent("ledger", "C", commit_id, {"shard": shard}),
            world.put("ledger", f"W{shard}", commit_id, {_HOURS: hours}),
        )
    )
    try:
        yield from world.again(write)
    except world.RefusedError:
        # Our own attempt landed.
        return


def roll_up(shard: int, setting: rules.Setting, rng: random.Random, token: str) -> world.Steps[None]:
    """One call of a shard's roll-up: resume the planned run or plan a new run, then execute the run (P19 to P23)."""
    chain = f"U{shard}"
    run = yield from rules.newest(chain)
    if run is None or run[1]["state"] == "done":
        number = run[0] + 1 if run else 1
        plan = yield from plan_rollup(shard, setting, rng)
        if plan is None:
            return
        yield from rules.announce(chain, number, plan, token)
        run = yield from rules.newest(chain)
        if run is None or run[1]["state"] == "done":
            return
    yield from work_rollup(shard, run[0], run[1], setting, rng)


def plan_rollup(shard: int, setting: rules.Setting, rng: random.Random) -> world.Steps[rules.RollupPlan | None]:
    """A plan for some of the commits that wait now; None if no commit waits."""
    waiting = yield from world.query("ledger", f"W{shard}")
    taken = waiting[: rng.randint(1, 4)]
    sums: list[rules.Sums] = []
    for commit_id, _ in taken:
        staged = yield from world.get_object(f"staging/{commit_id}")
        if staged is None:
            if (yield from world.get("ledger", f"W{shard}", commit_id)) is not None:
                raise world.BrokenError(f"{commit_id} waits, and its object is gone")
            raise world.LateError
        assert isinstance(staged, dict)
        sums.append(staged)
    if not taken:
        return None
    plan = rules.RollupPlan({}, {}, {})
    for commit_id, item in taken:
        hours = item[_HOURS]
        assert isinstance(hours, frozenset)
        plan.commits[commit_id] = tuple(sorted(hours))
    total = rules.summed(sums)
    numbers = {}
    for account in {key[0] for key in total}:
        numbers[account] = yield from rules.claim(account, {key[2] for key in total if key[0] == account}, setting)
    for (account, hour, kind), value in total.items():
        place = plan.numbered if kind in numbers[account] else plan.named
        place.setdefault((account, hour), {})[kind] = value
    return plan


def updates(plan: rules.RollupPlan, numbers: dict[str, dict[str, int]]) -> dict[tuple[str, str], dict[str, int]]:
    """The additions of a plan to each usage item, by attribute.

    Raises:
        BrokenError: A kind in the plan's numbered part has no number.
    """
    made: dict[tuple[str, str], dict[str, int]] = {}
    for (account, hour), kinds in plan.numbered.items():
        for kind, value in kinds.items():
            if kind not in numbers[account]:
                raise world.BrokenError(f"{account} {kind}: no number")
            number = numbers[account][kind]
            made.setdefault(rules.usage_place(account, hour, kind, number), {})[rules.figure(number)] = value
    for (account, hour), kinds in plan.named.items():
        for kind, value in kinds.items():
            made[rules.usage_place(account, hour, kind, None)] = {rules.figure(None): value}
    return made


def add(place: tuple[str, str], sums: dict[str, int], shard: int, number: int) -> world.Write:
    """The update that books a run's share in a usage item (P23.1)."""
    name = f"n{shard}"

    def below(met: world.Item | None) -> bool:
        return not stops(met, sums, shard) and rules.runs_in(met).get(shard, -1) < number

    def make(met: world.Item | None) -> world.Item:
        made = dict(met or {})
        for attribute, value in sums.items():
            made[attribute] = rules.whole(made, attribute) + value if attribute in made else value
        made["v"] = rules.whole(made, "v") + 1 if "v" in made else 1
        made[name] = number
        return made

    return world.Write((world.Action(("usage", *place), below, make),))


def stops(item: world.Item | None, sums: dict[str, int], shard: int) -> bool:
    """Whether a manual write left a non-number in an attribute that the update would change."""
    return not rules.odd(item).keys().isdisjoint({*sums, "v", f"n{shard}"})


def _check_landed(
    met: world.Item | None, place: tuple[str, str], sums: dict[str, int], run: tuple[int, int]
) -> world.Steps[None]:
    shard, number = run
    if stops(met, sums, shard):
        # A manual write stops the chain until it is removed (P49).
        raise world.LateError
    if rules.runs_in(met)[shard] > number:
        yield from rules.stop_if_over(f"U{shard}", number, f"{place} has run {rules.runs_in(met)[shard]}")


def work_rollup(
    shard: int, number: int, run: world.Item, setting: rules.Setting, rng: random.Random
) -> world.Steps[None]:
    """Add, place, done (P23)."""
    chain = f"U{shard}"
    plan = yield from world.get_object(rules.text(run, "plan"))
    if plan is None:
        yield from rules.stop_if_over(chain, number, "the plan is gone")
    assert isinstance(plan, rules.RollupPlan)
    numbers = {}
    for account in {account for account, _ in plan.numbered}:
        numbers[account] = yield from rules.numbers_of(account)
    todo = list(updates(plan, numbers).items())
    rng.shuffle(todo)
    for place, sums in todo:
        try:
            yield from world.again(add(place, sums, shard, number))
        except world.RefusedError as error:
            yield from _check_landed(error.items[0], place, sums, (shard, number))
    commits = list(plan.commits.items())
    rng.shuffle(commits)
    for commit_id, hours in commits:
        actions = [world.check("ledger", f"W{shard}", commit_id)]
        actions.append(world.put("ledger", f"P{shard}", commit_id, {_HOURS: frozenset(hours)}))
        actions += (world.put("ledger", f"H{hour}", f"2#{commit_id}", {"shard": shard}) for hour in hours)
        try:
            yield from world.again(world.Write(tuple(actions)))
        except world.RefusedError:
            continue
        yield from world.again(world.Write((world.delete("ledger", f"W{shard}", commit_id),)))
    yield from rules.finish(chain, number)


_LEFT = "hours"


def compact(shard: int, rng: random.Random, token: str) -> world.Steps[None]:
    """One call of a shard's compactor (P24)."""
    chain = f"L{shard}"
    run = yield from rules.newest(chain)
    if run is None or run[1]["state"] == "done":
        plan = yield from _plan(shard, rng)
        if not plan.hours:
            return
        yield from rules.announce(chain, run[0] + 1 if run else 1, plan, token)
        run = yield from rules.newest(chain)
    if run is not None and run[1]["state"] == "planned":
        yield from _finish_compaction(shard, run[0], run[1])


def _plan(shard: int, rng: random.Random) -> world.Steps[rules.LakePlan]:
    """A random plan of pairs (commit and hour) that are pending and do not wait for the roll-up."""
    pending = yield from world.query("ledger", f"P{shard}")
    waiting = {sk for sk, _ in (yield from world.query("ledger", f"W{shard}"))}
    hours: dict[int, tuple[str, ...]] = {}
    last: list[str] = []
    for commit_id, item in pending:
        left = _left(item) if commit_id not in waiting else frozenset()
        chosen = [hour for hour in sorted(left) if rng.random() < 0.7]
        for hour in chosen:
            hours[hour] = (*hours.get(hour, ()), commit_id)
        if left and len(chosen) == len(left):
            last.append(commit_id)
    return rules.LakePlan(hours, tuple(last))


def _left(item: world.Item | None) -> frozenset[int]:
    left = (item or {}).get(_LEFT, frozenset())
    assert isinstance(left, frozenset)
    return left


def _finish_compaction(shard: int, number: int, run: world.Item) -> world.Steps[None]:
    """Mark, put and publish each hour of a run, then remove the run's pairs from the pending list."""
    plan = yield from world.get_object(rules.text(run, "plan"))
    assert isinstance(plan, rules.LakePlan)
    for hour, commits in plan.hours.items():
        yield from _publish(shard, number, hour, commits)
    yield from _shrink(shard, plan)
    yield from rules.finish(f"L{shard}", number)


def _publish(shard: int, number: int, hour: int, commits: tuple[str, ...]) -> world.Steps[None]:
    chain, name = f"L{shard}", f"{shard}#{rules.run_sk(number)}"

    def markable(met: world.Item | None) -> bool:
        return met is not None and met.get("run", name) == name

    for commit_id in commits:
        pointer = ("ledger", f"H{hour}", f"2#{commit_id}")
        try:
            yield from world.again(
                world.Write((world.Action(pointer, markable, lambda met: {**(met or {}), "run": name}),))
            )
        except world.RefusedError as error:
            yield from rules.stop_if_over(chain, number, f"{commit_id} in {hour} cannot be marked: {error.items[0]}")
    key = f"lake/{hour}/{name}"
    if (yield from world.get_object(key)) is None:
        rows: list[rules.Sums] = []
        for commit_id in commits:
            staged = yield from world.get_object(f"staging/{commit_id}")
            if staged is None:
                yield from rules.stop_if_over(chain, number, f"{commit_id} has no object")
            assert isinstance(staged, dict)
            rows.append({sums_key: value for sums_key, value in staged.items() if sums_key[1] == hour})
        yield from world.put_object(key, rules.summed(rows))
    try:
        yield from world.again(world.Write((world.put_if_absent("ledger", f"H{hour}", f"1#{name}", {"file": key}),)))
    except world.RefusedError:
        return


def _shrink(shard: int, plan: rules.LakePlan) -> world.Steps[None]:
    for commit_id in sorted({commit_id for commits in plan.hours.values() for commit_id in commits}):
        gone = frozenset(hour for hour, commits in plan.hours.items() if commit_id in commits)
        place = ("ledger", f"P{shard}", commit_id)

        def shrink(met: world.Item | None, gone: frozenset[int] = gone) -> world.Item:
            kept = {name: value for name, value in (met or {}).items() if name != _LEFT}
            return {**kept, _LEFT: _left(met) - gone} if _left(met) - gone else kept

        try:
            yield from world.again(world.Write((world.Action(place, lambda met: met is not None, shrink),)))
            yield from world.again(world.Write((world.Action(place, lambda met: not _left(met), lambda _: None),)))
        except world.RefusedError:
            continue


def clean(shard: int) -> world.Steps[None]:
    """Clean a shard's lake runs and roll-up plans (P30, P31)."""
    for sk, run in (yield from world.query("ledger", f"RL{shard}")):
        if run["state"] == "done" and "cleaned" not in run:
            yield from _clean_run(shard, sk, run)
    for _, run in (yield from world.query("ledger", f"RU{shard}"))[:-1]:
        if run["state"] == "done":
            yield from world.delete_object(rules.text(run, "plan"))


def _clean_run(shard: int, sk: str, run: world.Item) -> world.Steps[None]:
    plan = yield from world.get_object(rules.text(run, "plan"))
    assert isinstance(plan, rules.LakePlan)
    for hour, commits in plan.hours.items():
        for commit_id in commits:
            yield from world.again(world.Write((world.delete("ledger", f"H{hour}", f"2#{commit_id}"),)))
    for commit_id in plan.last:
        for list_name in ("P", "W"):
            if (yield from world.get("ledger", f"{list_name}{shard}", commit_id)) is not None:
                raise world.BrokenError(f"{commit_id} is cleaned, and listed in {list_name}{shard}")
        yield from world.delete_object(f"staging/{commit_id}")
    place = ("ledger", f"RL{shard}", sk)
    yield from world.again(
        world.Write((world.Action(place, lambda met: met is not None, lambda met: {**(met or {}), "cleaned": 1}),))
    )
