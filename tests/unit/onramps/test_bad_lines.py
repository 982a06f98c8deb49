"""Lines that say nothing: however many a small file unpacks to, they cost operations on bytes, or a named refusal."""

from __future__ import annotations

import gzip
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metering.errors import LogFileRefusedError
from metering.onramps.kinds import KINDS, LogKind
from metering.onramps.mapped import mapped_kind
from metering.onramps.reading import FileName, ReadSettings
from metering.units import MIB
from tests.support.flow_logs import V2, line, read, text
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
# The first lines of a file of each format.
_FORMATS = {
    "vpc-flow": f"{' '.join(V2)}\n",
    "transit gateway": f"{_TRANSIT}\n",
    "s3-access": "",
    "cloudfront": "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes cs-bytes\n",
    "csv": "account,host,way,from,to,bytes,at\n",
    "ndjson": "",
}
# What a file is full of: empty lines are counted, and all others are a file that is no log.
_FULL_OF = {
    "line ends": (b"\n", ""),
    "blanks": (b" \n", "too_many_bad_lines"),
    "letters": (b"a\n", "too_many_bad_lines"),
}
_MEMBER_BYTES = 8_000


def _kind(form: str) -> LogKind:
    found = {kind.name: kind for kind in KINDS}.get("vpc-flow" if form == "transit gateway" else form)
    return found or mapped_kind(_CSV.replace('"csv"', f'"{form}"'))


def _packed(head: str, pattern: bytes, size_bytes: int) -> bytes:
    """A file that grows less than 250 times, which any file may: many members."""
    one = gzip.compress(pattern * (_MEMBER_BYTES // len(pattern)), mtime=0)
    return gzip.compress(head.encode(), mtime=0) + one * (size_bytes // _MEMBER_BYTES)


def _verdict(form: str, stored: bytes) -> tuple[str, float]:
    """Why the file is refused as a whole, or empty; and the seconds of processor time that it took to say so."""
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
    """16 KB as stored, which grow to what any file may."""
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
    """Print the verdict on a file, its processor time, and the peak memory of this process."""
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
