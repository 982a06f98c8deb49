"""A chain of runs, shared by the roll-up and the compactor (P19 to P22)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.model.rules import run_sk
from tests.simulation.model.world import (
    Action,
    BrokenError,
    LateError,
    Read,
    RefusedError,
    Write,
    again,
    put_if_absent,
    put_object,
)

if TYPE_CHECKING:
    from tests.simulation.model.world import Item, Steps, World


def newest(chain: str) -> Steps[tuple[int, Item] | None]:
    """The newest run of a chain, with its number."""

    def look(world: World) -> tuple[int, Item] | None:
        sks = [place[2] for place in world.items if place[:2] == ("ledger", f"R{chain}")]
        return (int(max(sks)), dict(world.items["ledger", f"R{chain}", max(sks)])) if sks else None

    found = yield from again(Read(look))
    assert found is None or isinstance(found, tuple)
    return found


def announce(chain: str, number: int, plan: object, token: str) -> Steps[None]:
    """PUT a plan and announce it as the next run; refused if that run exists (P20)."""
    key = f"runs/{chain}/{run_sk(number)}-{token}"
    yield from put_object(key, plan)
    run: Item = {"state": "planned", "plan": key}
    try:
        yield from again(Write((put_if_absent("ledger", f"R{chain}", run_sk(number), run),)))
    except RefusedError:
        return


def over(chain: str, number: int) -> Steps[bool]:
    """Whether a run is done, or a later one exists."""
    run = yield from newest(chain)
    return run is not None and (run[0] > number or run[1]["state"] == "done")


def stop_if_over(chain: str, number: int, what: str) -> Steps[None]:
    """Stop if the run is over, which would explain the unexpected state.

    Raises:
        LateError: The run is over.
        BrokenError: The run is not over, so the chain is damaged.
    """
    if (yield from over(chain, number)):
        raise LateError
    raise BrokenError(f"{chain} {number}: {what}, and the run is not over")


def finish(chain: str, number: int) -> Steps[None]:
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
