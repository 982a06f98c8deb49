"""Addresses that are alike for the judge of flow logs, so that a reader can add up their lines before they are judged.

Most peers on the internet are alike, and so are most of one subnet. A judge asks of an address only what is compared
here, so it judges all addresses of a class alike; a test compares both ways of judging whole networks. Measured, a
million lines with 40,000 addresses become some ten thousand subjects instead of several hundred thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.context.prefixes import address_of, is_public
from metering.onramps.rules.other_side import kind_in, zone_in

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from metering.onramps.context.prefixes import Address
    from metering.onramps.rules.knowledge import Knowledge

# Addresses that are remembered. They are forgotten together, which costs time only.
_REMEMBERED = 200_000


class _Known(dict[str, str]):
    """What is alike, by address. A known address is found without a call of Python."""

    def __init__(self, first: Callable[[str], str]) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, text: str) -> str:
        found = self[text] = self._first(text)
        return found


class AddressClasses:
    """Classes of addresses that several contexts tell apart.

    Args:
        knowledges: What is known in the hours of the lines.
        directed: Whether every line says its direction. If not, an interface's own addresses tell it, and each of them
            is a class of its own.
    """

    def __init__(self, knowledges: Iterable[Knowledge], *, directed: bool) -> None:
        self._knowledges = tuple(knowledges)
        self._own: frozenset[Address | None] = frozenset()
        if not directed:
            self._own = frozenset(
                address_of(text)
                for knowledge in self._knowledges
                for interface in knowledge.interfaces.values()
                for text in interface.addresses
            )
        self._firsts: dict[Hashable, str] = {}
        self._known = _Known(self._first)

    def alike(self, addresses: Sequence[str]) -> list[str]:
        """For each address one that is judged alike, the same one for all of a class."""
        if len(self._known) > _REMEMBERED:
            self._known.clear()
            self._firsts.clear()
        return list(map(self._known.__getitem__, addresses))

    def _first(self, text: str) -> str:
        address = address_of(text)
        if address is None or address in self._own:
            return text
        key = (address.version, is_public(address), *(_asked(address, each) for each in self._knowledges))
        return self._firsts.setdefault(key, text)


def _asked(address: Address, knowledge: Knowledge) -> Hashable:
    """All that the judge asks of an address: see `peer_of`, and the directions of `flow_classifier`."""
    vpc_ids = knowledge.blocks.at(address) or ()
    inside = tuple((zone_in(address, each, knowledge), kind_in(address, each, knowledge)) for each in vpc_ids)
    return vpc_ids, inside, knowledge.ranges.at(address), knowledge.public.get(address, "")
