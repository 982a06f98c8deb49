"""Numbers of an account's kinds of usage (P45)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tests.simulation.model.rules import text, whole
from tests.simulation.model.world import (
    Action,
    ConflictError,
    LateError,
    RefusedError,
    UnknownError,
    Write,
    again,
    get,
    put,
    put_if_absent,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.model.rules import Setting
    from tests.simulation.model.world import Item, Steps


def numbers_of(account: str) -> Steps[dict[str, int]]:
    """An account's dictionary: number of each kind."""
    items = yield from query("ledger", f"D{account}", "N#")
    return {text(item, "kind"): int(sk[2:]) for sk, item in items}


CAP = ("ledger", "S", "kinds")


def durable_cap(setting: Setting) -> Steps[int]:
    """The cap in force: the smallest that anybody was set to, and durable before it is used (P45)."""
    for _ in range(8):
        item = yield from get(*CAP)
        if item is not None and (
            whole(item, "cap") <= setting.cap or not setting.keeps("P45 the smaller cap is durable")
        ):
            return min(whole(item, "cap"), setting.cap)
        action = Action(CAP, _is(item), lambda _: {"cap": setting.cap})
        with suppress(RefusedError):
            yield from again(Write((action,)))
    raise LateError


def claim(account: str, kinds: set[str], setting: Setting) -> Steps[dict[str, int]]:
    """Numbers of kinds, claimed where they are missing; kinds beyond the cap get none (P45)."""
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
                yield Write(_claims(account, block, len(known), cap, setting))
            if not setting.keeps("P45 sure before the plan"):
                return {**known, **dict(zip(block, range(len(known), len(known) + len(block)), strict=True))}
    raise LateError


def _claims(account: str, kinds: list[str], first: int, cap: int, setting: Setting) -> tuple[Action, ...]:
    put_one = put_if_absent if setting.keeps("P45 claims if absent") else put
    numbers: list[Action] = []
    names: list[Action] = []
    for number, kind in enumerate(kinds, start=first):
        numbers.append(put_one("ledger", f"D{account}", f"N#{number:03d}", {"kind": kind}))
        names.append(put_one("ledger", f"D{account}", f"K#{kind}", {"number": number}))
    if not setting.keeps("P45 number and name in one transaction"):
        return tuple(names)
    if setting.keeps("P45 the cap is one") and setting.keeps("P45 a claim checks the cap"):
        names.append(Action(CAP, _is({"cap": cap}), lambda met: met))
    return (*numbers, *names)


def _is(wanted: Item | None) -> Callable[[Item | None], bool]:
    return lambda met: met == wanted
