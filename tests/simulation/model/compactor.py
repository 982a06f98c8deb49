"""Compactor and cleaner (P24, P30, P31)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.chain import announce, finish, newest, stop_if_over
from tests.simulation.model.rules import LakePlan, run_sk, summed, text
from tests.simulation.model.world import (
    Action,
    BrokenError,
    RefusedError,
    Write,
    again,
    delete,
    delete_object,
    get,
    get_object,
    put_if_absent,
    put_object,
    query,
)

if TYPE_CHECKING:
    import random

    from tests.simulation.model.rules import Sums
    from tests.simulation.model.world import Item, Steps

_HOURS = "hours"


def compact(shard: int, rng: random.Random, token: str) -> Steps[None]:
    """One call of a shard's compactor (P24)."""
    chain = f"L{shard}"
    run = yield from newest(chain)
    if run is None or run[1]["state"] == "done":
        plan = yield from _plan(shard, rng)
        if not plan.hours:
            return
        yield from announce(chain, run[0] + 1 if run else 1, plan, token)
        run = yield from newest(chain)
    if run is not None and run[1]["state"] == "planned":
        yield from finish_compaction(shard, run[0], run[1])


def _plan(shard: int, rng: random.Random) -> Steps[LakePlan]:
    """Some of the pairs that are pending and not waiting."""
    pending = yield from query("ledger", f"P{shard}")
    waiting = {sk for sk, _ in (yield from query("ledger", f"W{shard}"))}
    hours: dict[int, tuple[str, ...]] = {}
    last: list[str] = []
    for commit_id, item in pending:
        left = _left(item) if commit_id not in waiting else frozenset()
        chosen = [hour for hour in sorted(left) if rng.random() < 0.7]
        for hour in chosen:
            hours[hour] = (*hours.get(hour, ()), commit_id)
        if left and len(chosen) == len(left):
            last.append(commit_id)
    return LakePlan(hours, tuple(last))


def _left(item: Item | None) -> frozenset[int]:
    left = (item or {}).get(_HOURS, frozenset())
    assert isinstance(left, frozenset)
    return left


def finish_compaction(shard: int, number: int, run: Item) -> Steps[None]:
    """Mark, put and publish each hour of a run, then remove its pairs from the pending list."""
    plan = yield from get_object(text(run, "plan"))
    assert isinstance(plan, LakePlan)
    for hour, commits in plan.hours.items():
        yield from _publish(shard, number, hour, commits)
    yield from _shrink(shard, plan)
    yield from finish(f"L{shard}", number)


def _publish(shard: int, number: int, hour: int, commits: tuple[str, ...]) -> Steps[None]:
    chain, name = f"L{shard}", f"{shard}#{run_sk(number)}"

    def markable(met: Item | None) -> bool:
        return met is not None and met.get("run", name) == name

    for commit_id in commits:
        pointer = ("ledger", f"H{hour}", f"2#{commit_id}")
        try:
            yield from again(Write((Action(pointer, markable, lambda met: {**(met or {}), "run": name}),)))
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


def _shrink(shard: int, plan: LakePlan) -> Steps[None]:
    for commit_id in sorted({commit_id for commits in plan.hours.values() for commit_id in commits}):
        gone = frozenset(hour for hour, commits in plan.hours.items() if commit_id in commits)
        place = ("ledger", f"P{shard}", commit_id)

        def shrink(met: Item | None, gone: frozenset[int] = gone) -> Item:
            kept = {name: value for name, value in (met or {}).items() if name != _HOURS}
            return {**kept, _HOURS: _left(met) - gone} if _left(met) - gone else kept

        try:
            yield from again(Write((Action(place, lambda met: met is not None, shrink),)))
            yield from again(Write((Action(place, lambda met: not _left(met), lambda _: None),)))
        except RefusedError:
            continue


def clean(shard: int) -> Steps[None]:
    """The cleaner of a shard's lake runs, and of its roll-up plans (P30, P31)."""
    for sk, run in (yield from query("ledger", f"RL{shard}")):
        if run["state"] == "done" and run["plan"] and "cleaned" not in run:
            yield from _clean_run(shard, sk, run)
    for _, run in (yield from query("ledger", f"RU{shard}"))[:-1]:
        if run["state"] == "done" and run["plan"]:
            yield from delete_object(text(run, "plan"))


def _clean_run(shard: int, sk: str, run: Item) -> Steps[None]:
    plan = yield from get_object(text(run, "plan"))
    assert isinstance(plan, LakePlan)
    for hour, commits in plan.hours.items():
        for commit_id in commits:
            yield from again(Write((delete("ledger", f"H{hour}", f"2#{commit_id}"),)))
    for commit_id in plan.last:
        for list_name in ("P", "W"):
            if (yield from get("ledger", f"{list_name}{shard}", commit_id)) is not None:
                raise BrokenError(f"{commit_id} is cleaned, and listed in {list_name}{shard}")
        yield from delete_object(f"staging/{commit_id}")
    place = ("ledger", f"RL{shard}", sk)
    yield from again(Write((Action(place, lambda met: met is not None, lambda met: {**(met or {}), "cleaned": 1}),)))
