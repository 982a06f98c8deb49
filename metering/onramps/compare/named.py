"""Lines and money of a bill by usage type, so that what is not compared stands by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

# A name takes some 300 bytes. AWS has some thousand usage types in a region.
MOST_NAMES = 5_000
OTHERS = "(others)"
_NO_NAME = "(no usage type)"
_NAME = re.compile(r"[A-Za-z0-9 .:/_()+-]{1,130}")
_LONGEST = 40
_EXACT = Context(prec=100)


class Named(NamedTuple):
    """What a bill has under a usage type.

    Attributes:
        usd: What it billed for these lines; None if it does not say so of each of them.
    """

    lines: int
    usd: Decimal | None


_NOTHING = Named(0, Decimal(0))


@dataclass(slots=True)
class Names:
    """Sums by usage type. Mutable; names beyond `MOST_NAMES` become one sum."""

    _sums: dict[str, Named] = field(default_factory=dict)

    @property
    def sums(self) -> Mapping[str, Named]:
        """All of them, by usage type."""
        return self._sums

    def add(self, usage_type: str, usd: Decimal | None) -> None:
        """Count a line."""
        name = usage_type if usage_type in self._sums else printable(usage_type)
        if name not in self._sums and len(self._sums) >= MOST_NAMES:
            name = OTHERS
        lines, before = self._sums.get(name, _NOTHING)
        total = None if before is None or usd is None else _EXACT.add(before, usd)
        self._sums[name] = Named(lines + 1, total)


def printable(usage_type: str) -> str:
    """A usage type as people may see it: a file can say anything in its place."""
    if _NAME.fullmatch(usage_type):
        return usage_type
    return ascii(usage_type[:_LONGEST]) if usage_type else _NO_NAME
