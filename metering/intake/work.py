"""What reading one delivery may cost.

Work that is counted refuses a batch: the count follows from the object alone, so every copy of it gets the same
verdict on every machine. The clock stops the reading, and nothing is decided: a slow machine is no fault of an object.
Only a final allowance refuses, after chances enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import BatchRefusedError, OutOfTimeError
from metering.intake.messages import MAX_RECORDS
from metering.intake.reasons import Reason, problem
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from metering.intake.ports import Allowance

# A stored byte that unpacks to nothing is work all the same: up to twice what comes out, and so many besides.
_IDLE_BYTES = 4 * MIB
# The patient parser takes 0.1 s for a megabyte: so much of it between two looks at the clock.
_LOOK_EVERY_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """Work for one delivery at most.

    Attributes:
        stored_bytes: Bytes of objects as stored.
        members: gzip members and zstd frames.
        blank_lines: Lines without a record.
        patient_bytes: Bytes of lines that the fast parser does not take.
        head_bytes: What is kept of distinct heads. Right heads have 410 bytes at most, so 50,000 of them fit.
        hashed_bytes: Bytes of heads with texts that are too long for a right one, each distinct head written out.
        group_bytes: Unpacked bytes of one Parquet row group, of the columns that are read. 50,000 right records have
            126 MB at most, with resource ids of 512 characters of 4 bytes each.
        pages: Parquet pages.
        page_header_bytes: Bytes of their headers.
    """

    stored_bytes: int
    members: int
    blank_lines: int
    patient_bytes: int
    head_bytes: int
    hashed_bytes: int
    group_bytes: int
    pages: int
    page_header_bytes: int


CONTRACT_WORK = WorkLimits(
    stored_bytes=600_000_000,
    members=100_000,
    blank_lines=5_000_000,
    patient_bytes=64 * MIB,
    head_bytes=32 * MIB,
    hashed_bytes=512 * MIB,
    group_bytes=128 * MIB,
    pages=100_000,
    page_header_bytes=4 * MIB,
)
"""The limits of docs/contract.md, the same on every stage: a verdict must not depend on where a copy is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Limits of one batch and of one delivery.

    Attributes:
        batch_records: Records in a batch at most (CONTRACT), in whatever form they come.
        object_bytes: Size of an object's records after decompression at most (setting `object_bytes`).
        work: Work for one delivery at most.
    """

    batch_records: int = MAX_RECORDS
    object_bytes: int
    work: WorkLimits = CONTRACT_WORK


class Work:
    """Counts the work for one delivery.

    Each method raises BatchRefusedError beyond its limit, and `look` raises OutOfTimeError beyond the deadline.
    """

    def __init__(self, limits: WorkLimits, allowance: Allowance) -> None:
        self.limits = limits
        self._allowance = allowance
        self._stored_bytes = 0
        self._unpacked_bytes = 0
        self._members = 0
        self._blank_lines = 0
        self._patient_bytes = 0
        self._looked_at_bytes = 0
        self._hashed_bytes = 0
        self._pages = 0
        self._page_header_bytes = 0

    def look(self) -> None:
        """Look at the clock.

        Raises:
            OutOfTimeError: The time is over.
            BatchRefusedError: The time is over, and the allowance is the final one.
        """
        if self._allowance.until.remaining_ms() > 0:
            return
        if self._allowance.final:
            raise _too_slow("it takes more time than a worker has, also alone")
        raise OutOfTimeError

    def store(self, size_bytes: int) -> None:
        """So many stored bytes were read."""
        self._stored_bytes += size_bytes
        if self._stored_bytes > self.limits.stored_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {self.limits.stored_bytes} bytes as stored")

    def unpack(self, packed_bytes: int, unpacked_bytes: int) -> None:
        """So many stored bytes were given to a decompressor, which made so many of them."""
        self._unpacked_bytes += 2 * unpacked_bytes - packed_bytes
        if self._unpacked_bytes < -_IDLE_BYTES:
            raise _too_slow("stored bytes that unpack to next to nothing")

    def member(self) -> None:
        """A gzip member or zstd frame begins."""
        self._members += 1
        if self._members > self.limits.members:
            raise _too_slow(f"more than {self.limits.members} compressed members")

    def skip(self, blank_lines: int) -> None:
        """So many lines hold no record."""
        self._blank_lines += blank_lines
        if self._blank_lines > self.limits.blank_lines:
            raise _too_slow(f"more than {self.limits.blank_lines} blank lines")

    def take_pains(self, size_bytes: int) -> None:
        """A line of this size needs the patient parser."""
        self._patient_bytes += size_bytes
        if self._patient_bytes > self.limits.patient_bytes:
            raise _too_slow(f"more than {self.limits.patient_bytes} bytes of records that are hard to parse")
        if self._patient_bytes - self._looked_at_bytes >= _LOOK_EVERY_BYTES:
            self._looked_at_bytes = self._patient_bytes
            self.look()

    def hash(self, size_bytes: int) -> None:
        """A head with texts that are too long is hashed."""
        self._hashed_bytes += size_bytes
        if self._hashed_bytes > self.limits.hashed_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"distinct heads of more than {self.limits.hashed_bytes} bytes")

    def page(self, header_bytes: int) -> None:
        """A page's header of this size was read."""
        self._pages += 1
        self._page_header_bytes += header_bytes
        if self._pages > self.limits.pages or self._page_header_bytes > self.limits.page_header_bytes:
            limits = f"{self.limits.pages} pages, or {self.limits.page_header_bytes} bytes of their headers"
            raise refusal(Reason.PARQUET_UNSUPPORTED, f"more than {limits}")
        if self._pages % 256 == 0:
            self.look()


def refusal(reason: Reason, detail: str) -> BatchRefusedError:
    """An error with one problem."""
    return BatchRefusedError([problem(reason, detail)])


def _too_slow(detail: str) -> BatchRefusedError:
    return refusal(Reason.TOO_SLOW, detail)
