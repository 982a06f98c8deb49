"""Port of this room: `BatchReader` reads the batches of a delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.intake.batches import BatchReading
    from metering.stores.clock import Deadline
    from metering.stores.deliveries import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Time for reading one delivery.

    Attributes:
        until: End of the time.
        final: Whether a batch that is not read by then is refused as `too_slow`; else it stays without a verdict.
    """

    until: Deadline
    final: bool


class BatchReader(Protocol):
    """Reads the batches of a delivery: envelope, location, records, hash, admission and totals."""

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        A fault that a sender can cause raises nothing: it becomes a `RefusedBatch`.

        Raises:
            OutOfTimeError: The time is over, and the allowance is not final.
            UnavailableError: The object that the message points to cannot be read now.
        """
        ...
