"""`BatchReader`: from a delivery to the batches that it holds."""

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
    """Time that reading one delivery may take.

    Attributes:
        until: When reading has to end.
        final: What is not read by then is refused as `too_slow`; else nothing is decided.
    """

    until: Deadline
    final: bool


class BatchReader(Protocol):
    """Reads a delivery into the batch it holds: envelope, location, records, hash, admission and totals."""

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        Never raises for what a sender could have caused: that is a `RefusedBatch`.

        Raises:
            OutOfTimeError: It takes longer than it may, and the allowance is not the final one.
            UnavailableError: The object that it points to cannot be read now.
        """
        ...
