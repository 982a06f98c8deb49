"""The table of formats is complete, and knowing a format's name needs none of its libraries."""

import subprocess
import sys
from typing import get_args

import pyarrow as pa
import pytest

from metering.intake.formats.registry import FORMATS, SUFFIXES, Compression, Format
from tests.support.reading import SENT_AT_S, Desk, ndjson, parquet, pointer, record

_RECORD = record(start=SENT_AT_S - 60, end=SENT_AT_S)
_BODIES = {"ndjson": ndjson([_RECORD]), "parquet": parquet(pa.Table.from_pylist([_RECORD]))}


def test_each_format_that_a_message_may_name_is_in_the_table() -> None:
    assert tuple(FORMATS) == get_args(Format)


@pytest.mark.parametrize("name", get_args(Format))
def test_each_format_of_the_table_is_read(name: str) -> None:
    desk = Desk().put("ingest/x", _BODIES[name])
    assert desk.decoded(pointer("ingest/x", name)).records == 1


def test_each_suffix_belongs_to_one_format_and_names_a_compression() -> None:
    assert sum(len(each.suffixes) for each in FORMATS.values()) == len(SUFFIXES)
    assert {compression for _, compression in SUFFIXES.values()} <= set(get_args(Compression))
    assert all(not key.endswith(other) for key in SUFFIXES for other in SUFFIXES if other != key)


def test_the_names_of_formats_are_known_without_arrow() -> None:
    program = "import sys, metering.intake.envelopes; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
