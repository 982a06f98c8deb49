"""`BatchSizer`: how large the accepted batches would be as objects of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metering.lake.view import LakeView


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """The accepted records, each batch written as one object.

    Attributes:
        json_bytes: As docs/contract.md's message, without white space.
        gzip_bytes: The same, each object compressed by itself at level 6.
    """

    batches: int
    records: int
    json_bytes: int
    gzip_bytes: int


class BatchSizer(Protocol):
    """Writes batches as JSON, only to see how large they are."""

    def measure(self, view: LakeView) -> BatchSizes:
        """Sizes over everything that the view has, counted from the rows."""
        ...
