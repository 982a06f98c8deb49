"""Reader of S3 server access logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.reasons import LineReason
from metering.onramps.rows.line_reader import read_lines
from metering.onramps.rows.tally import Moved
from metering.onramps.s3_access.lines import Misfit, parse
from metering.onramps.s3_access.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from metering.onramps.names import FileName
    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings
    from metering.onramps.rows.tally import Tally


class BucketTransfer(NamedTuple):
    """What lines of an S3 server access log say of a transfer, but for time and size.

    Attributes:
        bucket: The bucket.
        region: Region that the Host header named; empty if it named none.
        remote_ip: Address of the client; `-` if the log has none.
        direction: `out` of the bucket, or `in`.
        copy: Whether it is one side of a copy inside S3.
    """

    bucket: str
    region: str
    remote_ip: str
    direction: str
    copy: bool


def read_s3_access_log(
    stream: BinaryIO, _name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[BucketTransfer]]:
    """Read a file (`LogReader`)."""
    return read_lines(stream, settings, digest, _Lines())


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def judge(self, number: int, line: str, tally: Tally[BucketTransfer]) -> None:
        found = parse(line)
        if isinstance(found, Misfit):
            tally.refuse(number, found.reason, found.detail, line, found.bytes)
            return
        stated_bytes = found.sent_bytes + found.received_bytes
        if self._repeats.seen(line):
            tally.refuse(number, LineReason.REPEATED_LINE, "the same line came before in this file", line, stated_bytes)
            return
        moves = [
            Moved(BucketTransfer(found.bucket, found.region, found.remote_ip, direction, found.copy), size_bytes)
            for direction, size_bytes in (("out", found.sent_bytes), ("in", found.received_bytes))
            if size_bytes
        ]
        if moves:
            tally.metered(moves, found.time_s, found.time_s)
        elif found.copy:
            tally.rejected()
        else:
            tally.nodata()
