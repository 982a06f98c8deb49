"""Port `BatchSizer`: the size of all accepted batches, each written as one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metering.lake.view import LakeView


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSizes:
    """Size of the accepted records, with each batch as one object.

    Attributes:
        json_bytes: Each batch as the message of docs/contract.md, without white space.
        gzip_bytes: The same objects, each compressed by itself at level 6.
    """

    batches: int
    records: int
    json_bytes: int
    gzip_bytes: int


class BatchSizer(Protocol):
    """Measures accepted batches as JSON; stores nothing."""

    def measure(self, view: LakeView, *, from_s: int) -> BatchSizes:
        """Sizes of the rows of the view's hours from `from_s` on."""
        ...
