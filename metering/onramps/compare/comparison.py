"""Billed bytes beside metered ones. Pure: it knows of no files and no region."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import OperationFailedError
from metering.onramps.compare.usage_types import is_metered_only, is_transfer, why_billed_only
from metering.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.onramps.compare.lines import LineKey

_EXACT = Context(prec=100)
_PERCENT_PLACES = Decimal("0.0001")
_HUNDRED = 100
_PERCENT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,10})?) ?%")
_SIZE = re.compile(r"([0-9]{1,30}) ?(|bytes?|KB|MB|GB|TB)", re.IGNORECASE)
_SIZES = {"": 1, "byte": 1, "bytes": 1, "kb": KIB, "mb": MIB, "gb": GIB, "tb": KIB * GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far a row may be off. A difference within one of the two is tolerated.

    Attributes:
        bytes: At most so many bytes; None if nothing was said.
        percent: At most so much of what was billed; None if nothing was said.
    """

    bytes: int | None = None
    percent: Decimal | None = None

    def holds(self, row: ComparedRow) -> bool:
        """Whether a row is close enough."""
        off = abs(row.difference)
        if off <= (self.bytes or 0):
            return True
        if self.percent is None:
            return False
        numerator, denominator = self.percent.as_integer_ratio()
        return off * _HUNDRED * denominator <= numerator * abs(row.billed)


def tolerance_of(texts: Iterable[str]) -> Tolerance | None:
    """What was said in words: `0.5%`, `1000`, `10 MB`. None if nothing was.

    Raises:
        OperationFailedError: It is neither a percentage nor a number of bytes, or one of them is said twice.
    """
    size: int | None = None
    percent: Decimal | None = None
    said = list(texts)
    for text in said:
        if (found := _PERCENT.fullmatch(text.strip())) and percent is None:
            percent = Decimal(found[1])
        elif (found := _SIZE.fullmatch(text.strip())) and size is None:
            size = int(found[1]) * _SIZES[found[2].lower()]
        else:
            raise OperationFailedError(
                f"{text!r} is no tolerance, or the second of its kind.",
                "Give a percentage such as 0.5%, a number of bytes such as 1000 or 10MB, or one of each.",
            )
    return Tolerance(bytes=size, percent=percent) if said else None


class ComparedRow(NamedTuple):
    """A row of the comparison; what one of the two does not have is 0 there."""

    key: LineKey
    billed: int
    metered: int

    @property
    def difference(self) -> int:
        """What was metered and not billed; negative if more was billed."""
        return self.metered - self.billed

    @property
    def percent(self) -> Decimal | None:
        """The difference in percent of what was billed, with 4 places; None if nothing was billed."""
        if not self.billed:
            return None
        share = _EXACT.divide(Decimal(self.difference * _HUNDRED), Decimal(abs(self.billed)))
        return share.quantize(_PERCENT_PLACES, ROUND_HALF_EVEN, _EXACT)


class BilledOnly(NamedTuple):
    """What is billed under a usage type of which nothing is metered, and the reason in words."""

    bytes: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        rows: All rows, in the order of their keys.
        apart: Metered bytes by usage type that no bill has: within a zone, unclassified.
        own: Metered bytes by usage type that is none of AWS's data transfer: senders may name types of their own.
        billed_apart: Billed bytes by usage type that no account of the bill meters, and why that is no difference.
        tolerance: What is tolerated; None if nothing is judged.
    """

    rows: Sequence[ComparedRow]
    apart: Mapping[str, int]
    own: Mapping[str, int]
    billed_apart: Mapping[str, BilledOnly]
    tolerance: Tolerance | None

    @property
    def billed(self) -> int:
        """Sum of what was billed."""
        return sum(row.billed for row in self.rows)

    @property
    def metered(self) -> int:
        """Sum of what was metered, without what stands apart."""
        return sum(row.metered for row in self.rows)

    @property
    def one_sided(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Bytes of rows by usage type that only the bill has, and that only the meter has. They are differences."""
        sums: dict[str, tuple[int, int]] = {}
        for key, billed, metered in self.rows:
            before = sums.get(key.usage_type, (0, 0))
            sums[key.usage_type] = (before[0] + billed, before[1] + metered)
        billed_only = {name: billed for name, (billed, metered) in sums.items() if billed and not metered}
        metered_only = {name: metered for name, (billed, metered) in sums.items() if metered and not billed}
        return billed_only, metered_only

    @property
    def beyond(self) -> int | None:
        """Rows beyond the tolerance; None if nothing is judged."""
        if self.tolerance is None:
            return None
        return sum(not self.tolerance.holds(row) for row in self.rows)


def compare(
    billed: Mapping[LineKey, int], metered: Mapping[LineKey, int], tolerance: Tolerance | None = None
) -> Comparison:
    """Put both beside each other, key by key. What no bill can have is no difference, and stands apart."""
    apart: dict[str, int] = {}
    own: dict[str, int] = {}
    beside: dict[LineKey, int] = {}
    for key, size in metered.items():
        if key not in billed and is_metered_only(key.usage_type):
            apart[key.usage_type] = apart.get(key.usage_type, 0) + size
        elif key not in billed and not is_transfer(key.usage_type):
            own[key.usage_type] = own.get(key.usage_type, 0) + size
        else:
            beside[key] = size
    left, billed_apart = _billed_apart(billed, beside)
    rows = [ComparedRow(key, left.get(key, 0), beside.get(key, 0)) for key in sorted(left.keys() | beside.keys())]
    return Comparison(rows=rows, apart=apart, own=own, billed_apart=billed_apart, tolerance=tolerance)


def _billed_apart(
    billed: Mapping[LineKey, int], metered: Mapping[LineKey, int]
) -> tuple[dict[LineKey, int], dict[str, BilledOnly]]:
    """Billed lines that are compared, and those under usage types that their account does not meter."""
    known = {(key.account_id, key.usage_type) for key in metered}
    left: dict[LineKey, int] = {}
    apart: dict[str, BilledOnly] = {}
    for key, size in billed.items():
        why = "" if key[:2] in known else why_billed_only(key.usage_type)
        if why:
            before = apart.get(key.usage_type)
            apart[key.usage_type] = BilledOnly(size + (before.bytes if before else 0), why)
        else:
            left[key] = size
    return left, apart
