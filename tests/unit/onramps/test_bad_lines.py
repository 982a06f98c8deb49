"""Within the size limits, meaningless lines are cheap to read or refused; damaged files and zip bombs are refused."""

from __future__ import annotations

import gzip
import io
import resource
import subprocess
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.formats.pieces import Pieces
from metering.onramps.kinds import KINDS, LogKind
from metering.onramps.mapping import mapped_kind
from metering.onramps.reading import FileName, ReadSettings
from metering.units import GIB, MIB
from tests.support.flow_logs import V2, known_name, line, members, read, text
from tests.unit.onramps.readers import measured

_CSV = """
format = "csv"
account = "account"
service = { constant = "AmazonEC2" }
resource = "host"
direction = "way"
from = "from"
to = "to"
bytes = { column = "bytes", unit = "bytes" }
start = { column = "at", format = "epoch_s" }
"""
_TRANSIT = "version tgw-id tgw-attachment-id account-id region bytes start end log-status flow-direction"
# Format -> the first lines of a file in this format.
_FORMATS = {
    "vpc-flow": f"{' '.join(V2)}\n",
    "transit gateway": f"{_TRANSIT}\n",
    "s3-access": "",
    "cloudfront": "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes cs-bytes\n",
    "csv": "account,host,way,from,to,bytes,at\n",
    "ndjson": "",
}
# Repeated content of a file: empty lines are counted, and all other content is not a log.
_NO_LOG = "too_many_bad_lines"
_FULL_OF = {"line ends": (b"\n", ""), "blanks": (b" \n", _NO_LOG), "letters": (b"a\n", _NO_LOG)}
_MEMBER_BYTES = 8_000


def _kind(form: str) -> LogKind:
    found = {kind.name: kind for kind in KINDS}.get("vpc-flow" if form == "transit gateway" else form)
    return found or mapped_kind(_CSV.replace('"csv"', f'"{form}"'))


def _packed(head: str, pattern: bytes, size_bytes: int) -> bytes:
    """A file of many gzip members that expands to less than 250 times its size, the limit for any file."""
    one = gzip.compress(pattern * (_MEMBER_BYTES // len(pattern)), mtime=0)
    return gzip.compress(head.encode(), mtime=0) + one * (size_bytes // _MEMBER_BYTES)


def _verdict(form: str, stored: bytes) -> tuple[str, float]:
    """Reason for which the whole file is refused (or ""), and the CPU seconds used."""
    name = FileName(kind=_kind(form).name, identity="x", account_id="1" * 12, region="us-east-1", source="E1")
    began_s = time.process_time()
    try:
        measured(stored, kind=_kind(form), name=name)
    except LogFileRefusedError as error:
        return error.reason, time.process_time() - began_s
    return "", time.process_time() - began_s


@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize(("pattern", "reason"), _FULL_OF.values(), ids=_FULL_OF)
def test_a_short_file_of_lines_that_say_nothing_is_done_at_once(form: str, pattern: bytes, reason: str) -> None:
    """A file of less than 34 KB that expands to almost 16 MiB, which any file may expand to."""
    stored = gzip.compress(_FORMATS[form].encode()) + gzip.compress(pattern * (16 * MIB // len(pattern) - 200))
    assert len(stored) < 34_000
    found, cpu_s = _verdict(form, stored)
    assert (found, f"{cpu_s:.1f} s" if cpu_s > 2 else "at once") == (reason, "at once")


@pytest.mark.long
@pytest.mark.parametrize("form", _FORMATS)
@pytest.mark.parametrize(("pattern", "reason"), _FULL_OF.values(), ids=_FULL_OF)
def test_500_megabytes_of_lines_that_say_nothing_take_four_seconds_or_are_refused_within_one(
    form: str, pattern: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad"
    file.write_bytes(_packed(_FORMATS[form], pattern, 500_000_000))
    code = "import sys; from tests.unit.onramps.test_bad_lines import tell; tell(*sys.argv[1:])"
    told = subprocess.run([sys.executable, "-c", code, form, file], capture_output=True, text=True, check=True).stdout
    found, cpu_s, peak_kib = told.split(",")
    print(f"{form} {pattern!r}: {cpu_s} s, {int(peak_kib) // 1024} MiB")  # shown by -s
    assert found == reason
    assert float(cpu_s) < (1 if reason else 4)
    assert int(peak_kib) < 240 * 1024


def tell(form: str, file: str) -> None:
    """Print the verdict on a file, the CPU time used, and the peak memory of this process."""
    found, cpu_s = _verdict(form, Path(file).read_bytes())
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write(f"{found},{cpu_s:.2f},{peak_kib}")


def test_lines_behind_long_runs_of_empty_ones_keep_their_numbers() -> None:
    wrong, empty = line(bytes="x"), [""] * 70
    content = text(line(), *empty, wrong, *empty, " ".join(V2), *empty, wrong, *empty[:3], line(bytes="5"))
    for settings in (ReadSettings(), ReadSettings(block_bytes=300)):
        found = read(content, settings=settings)
        assert found.reasons == {"field_count": (213, 0), "invalid_number": (2, 0)}
        assert [each.number for each in found.refused if each.reason == "invalid_number"] == [73, 215]
        assert (found.balance.lines, found.balance.header, found.balance.metered_bytes) == (219, 2, 1_005)


def test_empty_lines_are_no_bad_lines_and_all_others_are_up_to_the_limit() -> None:
    few = ReadSettings(max_bad_lines=4)
    content = text(line(), *[""] * 40, "a", " ", "b")
    assert read(content, settings=few).balance.refused == 43
    with pytest.raises(LogFileRefusedError, match="more than 4 lines of it name fields or cannot be read") as refused:
        read(content + b"c\n", settings=few)
    assert refused.value.reason == "too_many_bad_lines"


def test_lines_that_can_be_read_and_not_metered_do_not_refuse_the_file() -> None:
    few = ReadSettings(max_bad_lines=1)
    found = read(text(*[line(start="1")] * 50, *[line(log_status="NODATA")] * 50, line(bytes="9")), settings=few)
    assert (found.balance.refused, found.balance.nodata, found.balance.metered_bytes) == (50, 50, 9)


_LOG = text(*[line(bytes=str(number), dstport=str(number)) for number in range(5_000)])


@pytest.mark.parametrize("stored", [
    _LOG, gzip.compress(_LOG, mtime=0), zstandard.compress(_LOG), members(_LOG, [1, 2, 3]),
    gzip.compress(_LOG, mtime=0) + bytes(512),
], ids=["plain", "gzip", "zstd", "members", "padded"])  # fmt: skip
def test_content_is_the_same_however_it_is_packed(stored: bytes) -> None:
    found = read(stored)
    assert found.content == _LOG
    assert found.balance.metered == 5_000
    assert found.blocks[-1].read_bytes == len(stored)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (gzip.compress(_LOG, mtime=0)[:-9], "truncated"),
        (gzip.compress(_LOG, mtime=0)[:11], "truncated"),
        (b"", "truncated"),
        (gzip.compress(_LOG, mtime=0) + b"trailing garbage", "wrong_format"),
        (gzip.compress(_LOG, mtime=0)[:-8] + b"\0" * 8, "wrong_format"),
        (b"\x1f\x8b and no gzip", "wrong_format"),
        (b"PAR1" + bytes(500), "truncated"),
        (b"\xff" * 500, "no_header"),
    ],
    ids=["cut at the end", "cut", "empty", "garbage behind", "wrong checksum", "no gzip", "no Parquet", "no text"],
)
def test_damage_refuses_the_whole_file(stored: bytes, reason: str) -> None:
    with pytest.raises(LogFileRefusedError) as caught:
        read(stored)
    assert caught.value.reason == reason
    assert caught.value.detail.isprintable()


def test_a_bomb_ends_early_and_more_text_than_the_limit_is_refused() -> None:
    bomb = gzip.compress(text() + b"0" * 64 * MIB)
    with pytest.raises(LogFileRefusedError, match=r"expands_too_far: .* a file may grow 250 times"):
        read(bomb)
    assert read(bomb, settings=ReadSettings(max_expansion=1_100)).reasons == {"line_too_long": (1, 0)}
    with pytest.raises(LogFileRefusedError, match="expands_too_far: more than 1000 bytes"):
        read(gzip.compress(_LOG), settings=ReadSettings(max_text_bytes=1_000))


def test_a_small_log_of_equal_lines_may_grow_far() -> None:
    content = text(*[line()] * 100_000)
    stored = gzip.compress(content)
    assert len(content) > 250 * len(stored)
    assert read(stored).balance.metered == 100_000


class _Endless(io.RawIOBase):
    """A log with one line of 1 GB and one other line, which are generated while they are read."""

    def __init__(self) -> None:
        self._pieces = self._made()

    @staticmethod
    def _made() -> Iterator[bytes]:
        yield text(line())
        for _ in range(GIB // (4 * MIB)):
            yield b"x" * (4 * MIB)
        yield f"\n{line()}\n".encode()

    def readable(self) -> bool:
        return True

    def read(self, _size: int = -1, /) -> bytes:
        return next(self._pieces, b"")


def test_a_line_of_a_gigabyte_is_never_held() -> None:
    stream = _Endless()
    tracemalloc.start()
    blocks = list(read_flow_log(stream, known_name(), ReadSettings()))  # type: ignore[arg-type]  # it only reads
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(block.balance.metered for block in blocks) == 2
    ((number, reason, _, shown, _),) = [each for block in blocks for each in block.refused]
    assert (number, reason, len(shown)) == (3, "line_too_long", 4_096)
    assert peak_bytes < 40 * MIB


def test_a_packed_gigabyte_is_never_held() -> None:
    packer = zlib.compressobj(1, wbits=31)
    piece = b"y" * MIB
    stored = b"".join([packer.compress(piece) for _ in range(256)]) + packer.flush()
    tracemalloc.start()
    total_bytes = sum(map(len, Pieces(io.BytesIO(stored), ReadSettings(max_expansion=1_100), len)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total_bytes == 256 * MIB
    assert peak_bytes < 24 * MIB
