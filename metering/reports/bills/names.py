"""What one side alone has, and what is not compared, by usage type: as JSON and as sentences."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.onramps.compare.bill import Bill
    from metering.onramps.compare.comparison import Comparison
    from metering.onramps.compare.named import Named
    from metering.reports.answer import Json

_DIFFERENCE = "a difference: the account has it on one side only"
_TOLD = 8


def named_values(found: Comparison, bill: Bill) -> dict[str, Json]:
    """Fields of the JSON answer, each list in the order of usage types."""
    billed_only, metered_only = found.one_sided
    apart = {name: each.bytes for name, each in found.billed_apart.items()}
    return {
        "billed_only": [
            {
                "usage_type": name,
                "bytes": str(size),
                "usd": _usd(bill, name),
                "why": found.billed_apart[name].why if name in apart else _DIFFERENCE,
            }
            for name, size in sorted({**billed_only, **apart}.items())
        ],
        "metered_here_only": [
            {"usage_type": name, "bytes": str(size), "usd": None} for name, size in sorted(metered_only.items())
        ],
        "left_out_usage_types": [
            {"usage_type": name, "lines": each.lines, "usd": _text(each.usd)}
            for name, each in sorted(bill.no_transfer.sums.items())
        ],
    }


def named_sentences(found: Comparison, bill: Bill) -> Iterator[str]:
    """The same for people."""
    by_why: dict[str, list[str]] = {}
    for name, each in sorted(found.billed_apart.items()):
        by_why.setdefault(each.why, []).append(_billed(name, each.bytes, bill))
    for why, names in by_why.items():
        yield f"Billed there only, and no difference: {', '.join(names)}. That is {why}."
    billed_only, metered_only = found.one_sided
    if billed_only:
        names = [_billed(name, size, bill) for name, size in sorted(billed_only.items())]
        yield f"Billed there only, a difference: {', '.join(names)}."
    if metered_only:
        names = [f"{name} {exact_and_size(size)}" for name, size in sorted(metered_only.items())]
        yield f"Metered here only, a difference: {', '.join(names)}. No line of the bill says what it would cost."
    if left_out := bill.no_transfer.sums:
        yield f"No data transfer, by usage type: {_left_out(left_out)}."


def _left_out(sums: Mapping[str, Named]) -> str:
    dearest = sorted(sums.items(), key=lambda each: (-abs(each[1].usd or Decimal(0)), each[0]))
    told = [
        f"{name} ({each.lines:,} line{'s' if each.lines > 1 else ''}{_money(each.usd)})"
        for name, each in dearest[:_TOLD]
    ]
    more = len(dearest) - _TOLD
    return ", ".join(told) + (f", and {more:,} more (--format json has all)" if more > 0 else "")


def _billed(name: str, size: int, bill: Bill) -> str:
    named = bill.compared.sums.get(name)
    return f"{name} {exact_and_size(size)}{_money(None if named is None else named.usd)}"


def _money(usd: Decimal | None) -> str:
    return "" if usd is None else f", {usd:f} USD"


def _usd(bill: Bill, name: str) -> str | None:
    named = bill.compared.sums.get(name)
    return None if named is None else _text(named.usd)


def _text(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"
