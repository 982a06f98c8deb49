"""Interrupts a process of the roll-up at one of its calls: it dies, its reply is lost, or others work meanwhile."""

from collections.abc import Callable
from typing import Self

from metering.errors import UnavailableError
from tests.unit.rollup.small_region import SmallRegion


class KilledError(Exception):
    """The process died."""


class AtCall:
    """In its context, does something at call number `number` (from 0) of a region's stores, once.

    What it does may call the stores itself: those calls are not counted. `done` says whether there was such a call.
    """

    def __init__(self, region: SmallRegion, number: int, do: Callable[[], object], *, reply: bool = False) -> None:
        self._stores = (region.items, region.objects)
        self._left = number
        self._do = do
        self._reply = reply
        self._busy = False
        self.done = False

    def __enter__(self) -> Self:
        self._listen(self._on)
        return self

    def __exit__(self, *error: object) -> None:
        self._listen(_ignore)

    def _listen(self, on: Callable[[str], None]) -> None:
        for store in self._stores:
            if self._reply:
                store.on_reply = on
            else:
                store.on_call = on

    def _on(self, call: str) -> None:
        del call
        if self._busy or self.done:
            return
        if self._left:
            self._left -= 1
            return
        self.done = True
        self._busy = True
        try:
            self._do()
        finally:
            self._busy = False


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


def die() -> None:
    raise KilledError


def lose() -> None:
    raise UnavailableError("test", "no reply")
