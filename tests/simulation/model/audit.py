"""Model of the comparison, repair and refill of usage, and of reports (P25, P28, P37, P38)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.simulation.model.rollup import updates
from tests.simulation.model.rules import (
    RollupPlan,
    Setting,
    figure,
    figures,
    newest,
    numbers_of,
    odd,
    runs_in,
    text,
    usage_place,
    whole,
)
from tests.simulation.model.world import (
    Action,
    Item,
    LateError,
    Read,
    RefusedError,
    Steps,
    Write,
    again,
    get_object,
    query,
)

ACCOUNTS = ("a", "b")
_LOOKS = 6
UsagePlace = tuple[str, str]
# The function is called with the corrected item, and with the step at which the pass began.
Repaired = Callable[[UsagePlace, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A usage item as read, and what the item lacks according to the rows."""

    place: UsagePlace
    item: Item | None
    missing: dict[str, int]
    done: dict[int, int]
    begun: int

    @property
    def odd(self) -> Item:
        """Attributes that only a manual write creates."""
        return odd(self.item)

    @property
    def by_hand(self) -> bool:
        """Whether there was a manual write: odd attributes, or a missing revision or number."""
        return self.item is not None and (bool(self.odd) or "v" not in self.item or not runs_in(self.item))

    @property
    def settled(self) -> bool:
        """Whether all runs recorded in the item were done before the rows were read."""
        return all(self.done.get(shard, 0) >= number for shard, number in runs_in(self.item).items())


def rows_of(hour: int) -> Steps[dict[tuple[str, str], int]]:
    """Rows of an hour, from published files and pointers, summed by account and kind (P25 without waiting commits)."""
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


def done_runs(shards: int) -> Steps[dict[int, int]]:
    done: dict[int, int] = {}
    for shard in range(shards):
        run = yield from newest(f"U{shard}")
        done[shard] = 0 if run is None else run[0] - (run[1]["state"] != "done")
    return done


def look_at(hour: int, setting: Setting) -> Steps[list[Look]]:
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


def reconcile(hour: int, setting: Setting, found: Callable[[Look], None]) -> Steps[None]:
    """Report each settled usage item that differs from the rows."""
    for look in (yield from look_at(hour, setting)):
        if look.missing and (look.settled or not setting.keeps("P37 only settled items")):
            found(look)


def repair(hour: int, setting: Setting, found: Callable[[Look], None], repaired: Repaired) -> Steps[None]:
    """Repair differences (P38)."""
    looks = yield from look_at(hour, setting)
    busy: set[UsagePlace] = set()
    if setting.keeps("P38 no plan since") and looks:
        busy = yield from planned_since(looks[0].done)
    for look in looks:
        if look.missing or look.odd or (look.item is not None and "v" not in look.item):
            with suppress(RefusedError):
                yield from _put_right(look, busy, setting, found, repaired)


def _put_right(
    look: Look, busy: set[UsagePlace], setting: Setting, found: Callable[[Look], None], repaired: Repaired
) -> Steps[None]:
    """Correct a usage item (P38); remove its odd attributes at once, even if the correction must wait (P49)."""
    waits = not look.settled and setting.keeps("P38 number does not fall")
    waits = waits or (look.place in busy and (setting.keeps("P49 numbers wait for runs") or not look.by_hand))
    if waits or not look.odd.keys().isdisjoint({*look.missing, "v"}):
        if look.odd and setting.keeps("P49 odd figures do not wait"):
            yield from again(Write((take_away(look),)))
        return
    if look.settled and look.missing:
        found(look)
    numbers = dict(look.done)
    if not setting.keeps("P38 number of a done run"):
        numbers = {shard: number + 1 for shard, number in numbers.items()}
    yield from again(Write((correct(look, numbers, setting, repaired),)))


def planned_since(done: dict[int, int]) -> Steps[set[UsagePlace]]:
    """Usage items in plans of unfinished runs; the rows may or may not include the shares of these runs."""
    busy: set[UsagePlace] = set()
    for shard, number in done.items():
        for sk, run in (yield from query("ledger", f"RU{shard}")):
            if int(sk) > number:
                plan = yield from get_object(text(run, "plan"))
                if plan is None:
                    raise LateError
                assert isinstance(plan, RollupPlan)
                numbers = {}
                for account in {account for account, _ in plan.numbered}:
                    numbers[account] = yield from numbers_of(account)
                busy |= updates(plan, numbers).keys()
    return busy


def take_away(look: Look) -> Action:
    """An update that only removes the odd attributes (P49). Run numbers are kept."""
    gone = {name: value for name, value in look.odd.items() if not name.startswith("n")}

    def may(met: Item | None) -> bool:
        return bool(met and gone) and all((met or {}).get(name) == value for name, value in gone.items())

    def make(met: Item | None) -> Item:
        made = {name: value for name, value in (met or {}).items() if name not in gone}
        if isinstance(made.get("v"), int):
            made["v"] = whole(made, "v") + 1
        return made

    return Action(("usage", *look.place), may, make)


def correct(look: Look, numbers: dict[int, int], setting: Setting, repaired: Repaired) -> Action:
    def may(met: Item | None) -> bool:
        if not odd(met).keys().isdisjoint({*look.missing, "v"} | odd(met).keys() - look.odd.keys()):
            # An update fails if it adds to a value that is not a number.
            return False
        if setting.keeps("P38 revision") and (met or {}).get("v") != (look.item or {}).get("v"):
            return False
        keeps = setting.keeps("P38 number does not fall")
        return not keeps or all(numbers.get(shard, 0) >= number for shard, number in runs_in(met).items())

    def make(met: Item | None) -> Item:
        made = {name: value for name, value in (met or {}).items() if name not in look.odd}
        for name, value in look.missing.items():
            made[name] = value + whole(made, name) if name in made else value
        made["v"] = whole(made, "v") + 1 if "v" in made else 1
        if not setting.keeps("P49 numbers are kept") and look.by_hand:
            made = {name: value for name, value in made.items() if not name.startswith("n")}
        elif setting.keeps("P38 sets the number"):
            made |= {f"n{shard}": number for shard, number in numbers.items()}
        repaired(look.place, look.begun)
        return made

    return Action(("usage", *look.place), may, make)
