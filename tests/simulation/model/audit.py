"""The processes that compare, repair, fill anew and report (P25, P28, P37, P38, P41)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.model.chains import claim, compact, newest, numbers_of, updates
from tests.simulation.model.rules import (
    RollupPlan,
    Setting,
    figure,
    figures,
    run_sk,
    runs_in,
    text,
    usage_place,
    whole,
)
from tests.simulation.model.world import (
    Action,
    LateError,
    Read,
    RefusedError,
    Write,
    again,
    delete,
    get_object,
    put_if_absent,
    query,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Generator

    from tests.simulation.model.world import Item

    Steps = Generator[Read | Write, object, None]

ACCOUNTS = ("a", "b")
_LOOKS = 6
UsagePlace = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a usage item: what it holds, and what it should hold by the rows."""

    place: UsagePlace
    item: Item | None
    missing: dict[str, int]
    done: dict[int, int]
    begun: int

    @property
    def settled(self) -> bool:
        """Whether every run that is in it was over before the rows were collected."""
        return all(self.done.get(shard, 0) >= number for shard, number in runs_in(self.item).items())


def rows_of(hour: int) -> Generator[Read | Write, object, dict[tuple[str, str], int]]:
    """Rows of an hour from published files and pointers, summed by account and kind (P25 without what waits)."""
    for _ in range(_LOOKS):
        files = yield from query("ledger", f"H{hour}", "1#")
        pointers = yield from query("ledger", f"H{hour}", "2#")
        if [sk for sk, _ in files] != [sk for sk, _ in (yield from query("ledger", f"H{hour}", "1#"))]:
            continue
        runs = {sk[2:] for sk, _ in files}
        keys = [text(item, "file") for _, item in files]
        keys += [f"staging/{sk[2:]}" for sk, item in pointers if item.get("run") not in runs]
        rows: dict[tuple[str, str], int] = {}
        for key in keys:
            found = yield from get_object(key)
            if found is None:
                break
            assert isinstance(found, dict)
            for (account, its_hour, kind), value in found.items():
                if its_hour == hour:
                    rows[account, kind] = rows.get((account, kind), 0) + value
        else:
            return rows
    raise LateError


def done_runs(shards: int) -> Generator[Read | Write, object, dict[int, int]]:
    """Number of each shard's newest done run."""
    done: dict[int, int] = {}
    for shard in range(shards):
        run = yield from newest(f"U{shard}")
        done[shard] = 0 if run is None else run[0] - (run[1]["state"] != "done")
    return done


def look_at(hour: int, setting: Setting) -> Generator[Read | Write, object, list[Look]]:
    """Compare each usage item of an hour with the rows (P37)."""
    begun = yield from again(Read(lambda world: world.steps))
    assert isinstance(begun, int)
    first = setting.keeps("P37 done runs before the rows")
    done = (yield from done_runs(setting.shards)) if first else {}
    rows = yield from rows_of(hour)
    if not first:
        done = yield from done_runs(setting.shards)
    looks: list[Look] = []
    for account in ACCOUNTS:
        items = {(account, sk): item for sk, item in (yield from query("usage", account, f"{hour}/"))}
        numbers = yield from numbers_of(account)
        expected: dict[UsagePlace, dict[str, int]] = {place: {} for place in items}
        for (its_account, kind), value in rows.items():
            if its_account == account:
                number = numbers.get(kind)
                expected.setdefault(usage_place(account, hour, kind, number), {})[figure(number)] = value
        for place, sums in expected.items():
            held = figures(items.get(place))
            missing = {name: sums.get(name, 0) - held.get(name, 0) for name in sums.keys() | held.keys()}
            looks.append(
                Look(
                    place=place,
                    item=items.get(place),
                    missing={name: value for name, value in missing.items() if value},
                    done=done,
                    begun=begun,
                )
            )
    return looks


def reconcile(hour: int, setting: Setting, found: Callable[[Look], None]) -> Steps:
    """Report each settled item that differs from the rows."""
    for look in (yield from look_at(hour, setting)):
        if look.missing and (look.settled or not setting.keeps("P37 only settled items")):
            found(look)


def repair(hour: int, setting: Setting, found: Callable[[Look], None], repaired: Callable[[UsagePlace], None]) -> Steps:
    """Put right what differs (P38)."""
    looks = yield from look_at(hour, setting)
    busy: set[UsagePlace] = set()
    if setting.keeps("P38 no plan since") and looks:
        busy = yield from planned_since(looks[0].done)
    for look in looks:
        if not look.missing or not (look.settled or not setting.keeps("P38 number does not fall")):
            continue
        if look.settled:
            found(look)
        if look.place in busy:
            continue
        numbers = dict(look.done)
        if not setting.keeps("P38 number of a done run"):
            numbers = {shard: number + 1 for shard, number in numbers.items()}
        try:
            yield from again(Write((correct(look, numbers, setting, repaired),)))
        except RefusedError:
            continue


def planned_since(done: dict[int, int]) -> Generator[Read | Write, object, set[UsagePlace]]:
    """Usage items that a run names which was not done yet: the rows may have its share, whether they have it or not."""
    busy: set[UsagePlace] = set()
    for shard, number in done.items():
        for sk, run in (yield from query("ledger", f"RU{shard}")):
            if int(sk) > number and run["plan"]:
                plan = yield from get_object(text(run, "plan"))
                if plan is None:
                    raise LateError
                assert isinstance(plan, RollupPlan)
                numbers = {}
                for account in {account for account, _ in plan.numbered}:
                    numbers[account] = yield from numbers_of(account)
                busy |= updates(plan, numbers).keys()
    return busy


def correct(look: Look, numbers: dict[int, int], setting: Setting, repaired: Callable[[UsagePlace], None]) -> Action:
    """The update that adds what an item is short of."""

    def may(met: Item | None) -> bool:
        if setting.keeps("P38 revision") and (met or {}).get("v") != (look.item or {}).get("v"):
            return False
        keeps = setting.keeps("P38 number does not fall")
        return not keeps or all(numbers.get(shard, 0) >= number for shard, number in runs_in(met).items())

    def make(met: Item | None) -> Item:
        made = dict(met or {})
        for name, value in look.missing.items():
            made[name] = value + whole(made, name) if name in made else value
        made["v"] = whole(made, "v") + 1 if "v" in made else 1
        if setting.keeps("P38 sets the number"):
            made |= {f"n{shard}": number for shard, number in numbers.items()}
        repaired(look.place)
        return made

    return Action(("usage", *look.place), may, make)


# As of now -------------------------------------------------------------------------------------------------------------


def as_of_now(account: str, setting: Setting, report: Callable[[dict[tuple[int, str], int]], None]) -> Steps:
    """An account's usage as of now (P28)."""
    for _ in range(_LOOKS):
        answer = yield from _report(account, setting)
        if answer is not None:
            report(answer)
            return


def _states(shards: int) -> Generator[Read | Write, object, list[tuple[int, Item] | None]]:
    states = []
    for shard in range(shards):
        states.append((yield from newest(f"U{shard}")))
    return states


def _report(account: str, setting: Setting) -> Generator[Read | Write, object, dict[tuple[int, str], int] | None]:
    before = yield from _states(setting.shards)
    waiting: list[list[str]] = []
    for shard in range(setting.shards):
        waiting.append([sk for sk, _ in (yield from query("ledger", f"W{shard}"))])
    items = {(account, sk): item for sk, item in (yield from query("usage", account))}
    if setting.keeps("P28 second look") and (yield from _states(setting.shards)) != before:
        return None
    numbers = yield from numbers_of(account)
    names = {number: kind for kind, number in numbers.items()}
    total: dict[tuple[int, str], int] = {}

    def count(place: UsagePlace, sums: dict[str, int]) -> None:
        hour, _, kind = place[1].partition("/")
        for name, value in sums.items():
            key = int(hour), kind[1:] if name == "b" else names[int(name[1:])]
            total[key] = total.get(key, 0) + value

    for place, item in items.items():
        count(place, figures(item))
    for shard, run in enumerate(before):
        planned: set[str] = set()
        if run is not None and run[1]["state"] == "planned":
            plan = yield from get_object(text(run[1], "plan"))
            if plan is None:
                return None
            assert isinstance(plan, RollupPlan)
            planned |= plan.commits.keys()
            own = RollupPlan(
                {},
                {key: sums for key, sums in plan.numbered.items() if key[0] == account},
                {key: sums for key, sums in plan.named.items() if key[0] == account},
            )
            for place, sums in updates(own, {account: numbers}).items():
                landed = runs_in(items.get(place)).get(shard, 0) >= run[0]
                if not (landed and setting.keeps("P28 asks the item's number")):
                    count(place, sums)
        for commit_id in waiting[shard]:
            if commit_id in planned:
                continue
            staged = yield from get_object(f"staging/{commit_id}")
            if staged is None:
                return None
            assert isinstance(staged, dict)
            for (its_account, hour, kind), value in staged.items():
                if its_account == account:
                    total[hour, kind] = total.get((hour, kind), 0) + value
    return total


# Restore ---------------------------------------------------------------------------------------------------------------


def restore(hours: int, setting: Setting, epoch: int, rng: random.Random) -> Steps:
    """After a restore of the ledger: raise the numbers, and fill a new, empty usage table (P41)."""
    for shard in range(setting.shards):
        if setting.keeps("P41 compaction that was planned is finished"):
            run = yield from newest(f"L{shard}")
            if run is not None and run[1]["state"] == "planned":
                yield from compact(shard, rng, "none")
        yield from _take_back(shard, setting)
        if setting.keeps("P41 a run above all"):
            for chain in (f"U{shard}", f"L{shard}"):
                run = yield from newest(chain)
                if run is None or run[0] < epoch:
                    made: Item = {"state": "done", "plan": ""}
                    try:
                        yield from again(Write((put_if_absent("ledger", f"R{chain}", run_sk(epoch), made),)))
                    except RefusedError:
                        continue
    for hour in range(hours):
        yield from fill(hour, setting)


def _take_back(shard: int, setting: Setting) -> Steps:
    run = yield from newest(f"U{shard}")
    if run is None or run[1]["state"] != "planned":
        return
    if setting.keeps("P41 what waits is placed nowhere"):
        for commit_id, item in (yield from query("ledger", f"W{shard}")):
            hours = item["hours"]
            assert isinstance(hours, frozenset)
            for hour in sorted(hours):
                yield from again(Write((delete("ledger", f"H{hour}", f"2#{commit_id}"),)))
            yield from again(Write((delete("ledger", f"P{shard}", commit_id),)))


def fill(hour: int, setting: Setting) -> Steps:
    """Fill an hour of an empty usage table: a repair, whose kinds get their numbers first."""
    rows = yield from rows_of(hour)
    for account in ACCOUNTS:
        yield from claim(account, {kind for its_account, kind in rows if its_account == account}, setting)
    yield from repair(hour, setting, lambda _: None, lambda _: None)
