"""Basics of the model: items, rules (a test can disable each), chains of runs, and numbers of kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tests.simulation.model.world import (
    Action,
    BrokenError,
    ConflictError,
    Item,
    LateError,
    Read,
    RefusedError,
    Steps,
    UnknownError,
    World,
    Write,
    again,
    get,
    put,
    put_if_absent,
    put_object,
    query,
)

BUCKET = 2

# What a commit adds: (account, hour, kind) -> bytes. The bytes of each commit are a different octal digit, so a sum
# shows which commits it contains, and how often.
Sums = dict[tuple[str, int, str], int]
AccountHour = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    shards: int
    cap: int
    raised_cap: int = 0
    left_out: frozenset[str] = frozenset()

    def keeps(self, rule: str) -> bool:
        return rule not in self.left_out


@dataclass(frozen=True, slots=True)
class RollupPlan:
    commits: dict[str, tuple[int, ...]]
    numbered: dict[AccountHour, dict[str, int]]
    named: dict[AccountHour, dict[str, int]]


@dataclass(frozen=True, slots=True)
class LakePlan:
    hours: dict[int, tuple[str, ...]]
    last: tuple[str, ...]


def run_sk(number: int) -> str:
    return f"{number:012d}"


def usage_place(account: str, hour: int, kind: str, number: int | None) -> tuple[str, str]:
    return account, f"{hour}/={kind}" if number is None else f"{hour}/#{number // BUCKET}"


def figure(number: int | None) -> str:
    return "b" if number is None else f"b{number}"


def figures(item: Item | None) -> dict[str, int]:
    return {name: value for name, value in (item or {}).items() if isinstance(value, int) and name.startswith("b")}


def runs_in(item: Item | None) -> dict[int, int]:
    return {
        int(name[1:]): value for name, value in (item or {}).items() if isinstance(value, int) and name.startswith("n")
    }


def odd(item: Item | None) -> Item:
    """Attributes of a usage item that only a manual write creates (P49)."""
    return {
        name: value
        for name, value in (item or {}).items()
        if not (isinstance(value, int) and (name == "v" or name.startswith(("b", "n"))))
    }


def whole(item: Item, name: str) -> int:
    value = item[name]
    assert isinstance(value, int)
    return value


def text(item: Item, name: str) -> str:
    value = item[name]
    assert isinstance(value, str)
    return value


def added(into: dict[str, int], sums: Mapping[str, int]) -> None:
    for name, value in sums.items():
        into[name] = into.get(name, 0) + value


def summed(parts: Iterable[Sums]) -> Sums:
    total: Sums = {}
    for part in parts:
        for key, value in part.items():
            total[key] = total.get(key, 0) + value
    return total


def newest(chain: str) -> Steps[tuple[int, Item] | None]:
    def look(world: World) -> tuple[int, Item] | None:
        sks = [place[2] for place in world.items if place[:2] == ("ledger", f"R{chain}")]
        return (int(max(sks)), dict(world.items["ledger", f"R{chain}", max(sks)])) if sks else None

    found = yield from again(Read(look))
    assert found is None or isinstance(found, tuple)
    return found


def announce(chain: str, number: int, plan: object, token: str) -> Steps[None]:
    """PUT a plan and announce it as the next run; the announcement is refused if that run exists (P20)."""
    key = f"runs/{chain}/{run_sk(number)}-{token}"
    yield from put_object(key, plan)
    run: Item = {"state": "planned", "plan": key}
    try:
        yield from again(Write((put_if_absent("ledger", f"R{chain}", run_sk(number), run),)))
    except RefusedError:
        return


def over(chain: str, number: int) -> Steps[bool]:
    run = yield from newest(chain)
    return run is not None and (run[0] > number or run[1]["state"] == "done")


def stop_if_over(chain: str, number: int, what: str) -> Steps[None]:
    """If the run is over, which explains an unexpected state, stop.

    Raises:
        LateError: The run is over.
        BrokenError: The run is not over, so the unexpected state is damage.
    """
    if (yield from over(chain, number)):
        raise LateError
    raise BrokenError(f"{chain} {number}: {what}, and the run is not over")


def finish(chain: str, number: int) -> Steps[None]:
    def done(met: Item | None) -> Item:
        return {**(met or {}), "state": "done"}

    action = Action(
        ("ledger", f"R{chain}", run_sk(number)), lambda met: met is not None and met["state"] == "planned", done
    )
    try:
        yield from again(Write((action,)))
    except RefusedError:
        return


def numbers_of(account: str) -> Steps[dict[str, int]]:
    items = yield from query("ledger", f"D{account}", "N#")
    return {text(item, "kind"): int(sk[2:]) for sk, item in items}


CAP = ("ledger", "S", "kinds")


def durable_cap(setting: Setting) -> Steps[int]:
    """The cap in force, which is permanently the cap of the first claim (P45)."""
    item = yield from get(*CAP)
    if item is None:
        with suppress(RefusedError):
            yield from again(Write((put_if_absent(*CAP, {"cap": setting.cap}),)))
        item = yield from get(*CAP)
    if item is None:
        raise LateError
    return whole(item, "cap")


def claim(account: str, kinds: set[str], setting: Setting) -> Steps[dict[str, int]]:
    """Return the numbers of kinds, and claim missing numbers; kinds beyond the cap get no number (P45)."""
    for _ in range(8):
        cap = (yield from durable_cap(setting)) if setting.keeps("P45 the cap is one") else setting.cap
        known = yield from numbers_of(account)
        missing = sorted(kinds - known.keys())
        dense = len(known) == max(known.values(), default=-1) + 1
        block = missing[: max(0, min(2, cap - len(known)))]
        if not missing or (dense and not block):
            return {kind: number for kind, number in known.items() if kind in kinds}
        if dense:
            with suppress(RefusedError, ConflictError, UnknownError):
                yield Write(_claims(account, block, len(known), setting))
            if not setting.keeps("P45 sure before the plan"):
                return {**known, **dict(zip(block, range(len(known), len(known) + len(block)), strict=True))}
    raise LateError


def _claims(account: str, kinds: list[str], first: int, setting: Setting) -> tuple[Action, ...]:
    put_one = put_if_absent if setting.keeps("P45 claims if absent") else put
    numbers: list[Action] = []
    names: list[Action] = []
    for number, kind in enumerate(kinds, start=first):
        numbers.append(put_one("ledger", f"D{account}", f"N#{number:03d}", {"kind": kind}))
        names.append(put_one("ledger", f"D{account}", f"K#{kind}", {"number": number}))
    if not setting.keeps("P45 number and name in one transaction"):
        return tuple(names)
    return (*numbers, *names)
