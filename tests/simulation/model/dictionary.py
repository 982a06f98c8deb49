"""Numbers of an account's usage kinds (P45)."""

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
    from tests.simulation.model.rules import Setting
    from tests.simulation.model.world import Steps


def numbers_of(account: str) -> Steps[dict[str, int]]:
    """An account's dictionary: the number of each kind."""
    items = yield from query("ledger", f"D{account}", "N#")
    return {text(item, "kind"): int(sk[2:]) for sk, item in items}


CAP = ("ledger", "S", "kinds")


def durable_cap(setting: Setting) -> Steps[int]:
    """The cap in force: permanently that of the first claim (P45)."""
    item = yield from get(*CAP)
    if item is None:
        with suppress(RefusedError):
            yield from again(Write((put_if_absent(*CAP, {"cap": setting.cap}),)))
        item = yield from get(*CAP)
    if item is None:
        raise LateError
    return whole(item, "cap")


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
