"""Limits of the work for reading one delivery.

Too much counted work refuses a batch. The count follows from the object alone, so every copy gets the same verdict on
every machine. The clock only stops a read and decides nothing, because a slow machine is not the object's fault. It
refuses a batch only under a final allowance, after enough earlier attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import BatchRefusedError, OutOfTimeError
from metering.intake.reasons import Reason, problem
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from metering.intake.ports import Allowance

# Most records of a batch (docs/contract.md).
MAX_RECORDS = 50_000
# A stored byte that unpacks to nothing is work, too. Twice the unpacked bytes may be stored, and this many more.
_IDLE_BYTES = 4 * MIB
# Bytes for the patient parser between two looks at the clock. It takes 0.1 s for a megabyte.
_LOOK_EVERY_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkLimits:
    """Most work for one delivery.

    Attributes:
        stored_bytes: Bytes of objects as stored.
        members: gzip members and zstd frames.
        blank_lines: Lines without a record.
        patient_bytes: Bytes of lines that the fast parser does not take.
        head_bytes: Bytes that are kept of distinct heads. Valid heads have 410 bytes at most, so 50,000 of them fit.
        hashed_bytes: Bytes of distinct heads with texts that are longer than any valid one.
        group_bytes: Unpacked bytes of one Parquet row group in the columns that are read. 50,000 valid records have
            126 MB at most, with resource ids of 512 characters of 4 bytes each.
        pages: Parquet pages.
        page_header_bytes: Bytes of the headers of Parquet pages.
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
"""Limits of docs/contract.md, equal on every stage: a verdict must not depend on the stage that reads a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Limits of one batch and of one delivery.

    Attributes:
        batch_records: Most records in a batch, in any form (docs/contract.md).
        object_bytes: Greatest size of an object's records after decompression (setting `object_bytes`).
        work: Most work for one delivery.
    """

    batch_records: int = MAX_RECORDS
    object_bytes: int
    work: WorkLimits = CONTRACT_WORK


class Work:
    """Work that was done for one delivery, counted against its limits.

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
            BatchRefusedError: The time is over, and the allowance is final.
        """
        if self._allowance.until.remaining_ms() > 0:
            return
        if self._allowance.final:
            raise _too_slow("it takes more time than a worker has, also alone")
        raise OutOfTimeError

    def store(self, size_bytes: int) -> None:
        """Count stored bytes that were read."""
        self._stored_bytes += size_bytes
        if self._stored_bytes > self.limits.stored_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {self.limits.stored_bytes} bytes as stored")

    def unpack(self, packed_bytes: int, unpacked_bytes: int) -> None:
        """Count bytes that a decompressor took, and bytes that it made of them."""
        self._unpacked_bytes += 2 * unpacked_bytes - packed_bytes
        if self._unpacked_bytes < -_IDLE_BYTES:
            raise _too_slow("stored bytes that unpack to next to nothing")

    def member(self) -> None:
        """Count a further gzip member or zstd frame."""
        self._members += 1
        if self._members > self.limits.members:
            raise _too_slow(f"more than {self.limits.members} compressed members")

    def skip(self, blank_lines: int) -> None:
        """Count lines without a record."""
        self._blank_lines += blank_lines
        if self._blank_lines > self.limits.blank_lines:
            raise _too_slow(f"more than {self.limits.blank_lines} blank lines")

    def take_pains(self, size_bytes: int) -> None:
        """Count a line that needs the patient parser, and look at the clock now and then."""
        self._patient_bytes += size_bytes
        if self._patient_bytes > self.limits.patient_bytes:
            raise _too_slow(f"more than {self.limits.patient_bytes} bytes of records that are hard to parse")
        if self._patient_bytes - self._looked_at_bytes >= _LOOK_EVERY_BYTES:
            self._looked_at_bytes = self._patient_bytes
            self.look()

    def hash(self, size_bytes: int) -> None:
        """Count the bytes of a head with texts that are too long, which is hashed but not kept."""
        self._hashed_bytes += size_bytes
        if self._hashed_bytes > self.limits.hashed_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"distinct heads of more than {self.limits.hashed_bytes} bytes")

    def page(self, header_bytes: int) -> None:
        """Count a Parquet page and the bytes of its header."""
        self._pages += 1
        self._page_header_bytes += header_bytes
        if self._pages > self.limits.pages or self._page_header_bytes > self.limits.page_header_bytes:
            limits = f"{self.limits.pages} pages, or {self.limits.page_header_bytes} bytes of their headers"
            raise refusal(Reason.PARQUET_UNSUPPORTED, f"more than {limits}")
        if self._pages % 256 == 0:
            self.look()


def refusal(reason: Reason, detail: str) -> BatchRefusedError:
    """Refusal of a batch for one problem."""
    return BatchRefusedError([problem(reason, detail)])


def _too_slow(detail: str) -> BatchRefusedError:
    return refusal(Reason.TOO_SLOW, detail)
