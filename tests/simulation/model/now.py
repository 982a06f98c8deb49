"""The reader of an account's usage as of now (P28)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.chain import newest
from tests.simulation.model.dictionary import numbers_of
from tests.simulation.model.rollup import updates
from tests.simulation.model.rules import RollupPlan, Setting, figures, runs_in, text
from tests.simulation.model.world import get_object, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.model.audit import UsagePlace
    from tests.simulation.model.world import Item, Steps

_LOOKS = 6
Answer = dict[tuple[int, str], int]


def as_of_now(account: str, setting: Setting, report: Callable[[Answer], None]) -> Steps[None]:
    """An account's usage as of now."""
    for _ in range(_LOOKS):
        answer = yield from _look(account, setting)
        if answer is not None:
            report(answer)
            return


def _look(account: str, setting: Setting) -> Steps[Answer | None]:
    before = yield from _states(setting.shards)
    waiting = yield from _waiting(setting.shards)
    items = {(account, sk): item for sk, item in (yield from query("usage", account))}
    if setting.keeps("P28 second look") and (yield from _states(setting.shards)) != before:
        return None
    numbers = yield from numbers_of(account)
    return (yield from _sum(account, setting, before, waiting, items, numbers))


def _sum(
    account: str,
    setting: Setting,
    before: list[tuple[int, Item] | None],
    waiting: list[list[str]],
    items: dict[UsagePlace, Item],
    numbers: dict[str, int],
) -> Steps[Answer | None]:
    total: Answer = {}
    for place, item in items.items():
        _count(total, place, figures(item), numbers)
    for shard, run in enumerate(before):
        planned: set[str] = set()
        if run and run[1]["state"] == "planned":
            plan = yield from get_object(text(run[1], "plan"))
            if not isinstance(plan, RollupPlan):
                return None
            planned |= plan.commits.keys()
            adds = updates(_of_account(plan, account), {account: numbers})
            left = {at: sums for at, sums in adds.items() if not _has_landed(items.get(at), shard, run[0], setting)}
            for place, sums in left.items():
                _count(total, place, sums, numbers)
        if not (yield from _count_staged(total, account, sorted(set(waiting[shard]) - planned))):
            return None
    return total


def _has_landed(item: Item | None, shard: int, number: int, setting: Setting) -> bool:
    return runs_in(item).get(shard, 0) >= number and setting.keeps("P28 asks the item's number")


def _count_staged(total: Answer, account: str, commits: list[str]) -> Steps[bool]:
    for commit_id in commits:
        staged = yield from get_object(f"staging/{commit_id}")
        if staged is None:
            return False
        assert isinstance(staged, dict)
        for (its_account, hour, kind), value in staged.items():
            if its_account == account:
                total[hour, kind] = total.get((hour, kind), 0) + value
    return True


def _waiting(shards: int) -> Steps[list[list[str]]]:
    waiting = []
    for shard in range(shards):
        waiting.append([sk for sk, _ in (yield from query("ledger", f"W{shard}"))])
    return waiting


def _states(shards: int) -> Steps[list[tuple[int, Item] | None]]:
    states = []
    for shard in range(shards):
        states.append((yield from newest(f"U{shard}")))
    return states


def _count(total: Answer, place: UsagePlace, sums: dict[str, int], numbers: dict[str, int]) -> None:
    names = {number: kind for kind, number in numbers.items()}
    hour, _, kind = place[1].partition("/")
    for name, value in sums.items():
        key = int(hour), kind[1:] if name == "b" else names[int(name[1:])]
        total[key] = total.get(key, 0) + value


def _of_account(plan: RollupPlan, account: str) -> RollupPlan:
    return RollupPlan(
        {},
        {key: sums for key, sums in plan.numbered.items() if key[0] == account},
        {key: sums for key, sums in plan.named.items() if key[0] == account},
    )
