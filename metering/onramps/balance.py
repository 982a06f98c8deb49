"""The balance of a log file: what became of each of its lines, and of each byte that they state (I1 for logs)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

# Lines are one of these, and of nothing else. The order is that of reports.
OUTCOMES = ("header", "metered", "rejected", "nodata", "skipdata", "shadowed", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Lines by what became of them, with the bytes that they state.

    Attributes:
        lines: All lines of the file, or rows of a Parquet file.
        header: Lines that name fields, and comments.
        metered: Lines that are metered.
        rejected: Lines of traffic that never crossed a boundary (action REJECT), or that moved nothing over the metered
            boundary by their own kind's rules (an S3 copy, the egress side of a transit gateway).
        nodata: Lines that say that there was no traffic.
        skipdata: Lines that say that the log lost records.
        shadowed: Lines that another log has the authority over.
        refused: Lines that cannot be metered, each with a reason.
        stated_bytes: Bytes that all lines state.
        metered_bytes: Bytes of metered lines; so for `rejected_bytes`, `shadowed_bytes` and `refused_bytes`.
    """

    lines: int = 0
    header: int = 0
    metered: int = 0
    rejected: int = 0
    nodata: int = 0
    skipdata: int = 0
    shadowed: int = 0
    refused: int = 0
    stated_bytes: int = 0
    metered_bytes: int = 0
    rejected_bytes: int = 0
    shadowed_bytes: int = 0
    refused_bytes: int = 0

    def __add__(self, other: Balance) -> Balance:
        return Balance(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})

    @property
    def holds(self) -> bool:
        """Whether every line, and every byte, has become exactly one thing."""
        lines = sum(getattr(self, outcome) for outcome in OUTCOMES)
        became = self.metered_bytes + self.rejected_bytes + self.shadowed_bytes + self.refused_bytes
        return lines == self.lines and became == self.stated_bytes


class Others(NamedTuple):
    """Lines of other accounts than the names of their files state.

    Attributes:
        lines, bytes: All of them that could be metered.
        billed_lines, billed_bytes: Those that are metered all the same; the others are refused.
    """

    lines: int = 0
    bytes: int = 0
    billed_lines: int = 0
    billed_bytes: int = 0

    def plus(self, other: Others) -> Others:
        """The sum of both."""
        return Others(*(one + each for one, each in zip(self, other, strict=True)))


NO_OTHERS = Others()
