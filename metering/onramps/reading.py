"""What every reader of log files is given, and what it promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, runtime_checkable

from metering.units import GIB, KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from metering.onramps.names import FileName
    from metering.onramps.observations import Block


@runtime_checkable
class Folding(Protocol):
    """A classifier that can say which addresses it does not tell apart, so that a reader can add up more lines."""

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each address one that is judged alike.

        Args:
            addresses: Distinct addresses.
            hours: Hours of the lines that have them, in epoch seconds.
            directed: Whether all of these lines say their direction.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Limits and hints of reading one file.

    Attributes:
        fields: Names of the fields of a text file without a header line; empty if it has one.
        max_text_bytes: Most bytes that a file may have once it is decompressed.
        max_expansion: Most times that a file may grow when it is decompressed. Flow logs grow 5 to 30 times; gzip
            can make 1,032 bytes of one.
        max_line_bytes: Longest line that is read; a longer one is refused.
        max_bad_lines: Most lines of a file that name fields, say nothing or cannot be read, for each is looked at by
            itself. Empty lines do not count, nor do lines that can be read and may not be metered.
        kept_refusals: Refused lines that are kept of one file; all are counted.
        folding: Says which addresses are alike for the rules; then a subject has one of them for all. None keeps each.
        block_bytes: Text that is read at once. Memory grows with it; no answer depends on it.
    """

    fields: tuple[str, ...] = ()
    max_text_bytes: int = 64 * GIB
    max_expansion: int = 250
    max_line_bytes: int = 64 * KIB
    max_bad_lines: int = 100_000
    kept_refusals: int = 1_000
    folding: Folding | None = None
    block_bytes: int = 8 * MIB


class LogReader(Protocol):
    """Reads one file as a stream of blocks. Memory is that of a block, whatever the size of the file."""

    def __call__(
        self,
        stream: BinaryIO,
        name: FileName,
        settings: ReadSettings,
        *,
        digest: Callable[[bytes], object] = ...,
    ) -> Iterator[Block[Any]]:
        """Read a file.

        Args:
            stream: The file as stored. It is read once, forwards (a Parquet file by ranges), and not closed.
            name: What its name says.
            settings: Limits and hints.
            digest: Is called with each piece of the decompressed content, in order, for its hash. Of a Parquet file it
                gets the file as stored.

        Raises:
            LogFileRefusedError: The file as a whole cannot be read; blocks before are void.
        """
        ...
