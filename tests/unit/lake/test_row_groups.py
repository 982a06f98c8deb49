"""Row groups are read by the calling thread, in few reads, and give what Arrow gives."""

import ast
import io
import random
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lambdas
import metering
from metering.lake.parquet.hour_rows import RowGroups

_ROOTS = (Path(metering.__path__[0]), Path(lambdas.__path__[0]))
# Modules that open our own Parquet files; third-party files are opened by their packages, in the calling thread, too.
_READS = {"read", "read_row_group", "read_row_groups", "iter_batches"}


class _Watched(io.BytesIO):
    """Remembers who read, and from where to where."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.threads: set[int] = set()
        self.reads: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.threads.add(threading.get_ident())
        self.reads.append((start, start + len(data)))
        return data


def _content(rows: int = 5_000, group_rows: int = 1_000) -> bytes:
    picks = random.Random(4)
    table = pa.table(
        {
            "name": pa.array([f"n{picks.randrange(20)}" for _ in range(rows)]),
            "noise": pa.array([picks.randbytes(24).hex() for _ in range(rows)]),
            "bytes": pa.array([picks.randrange(1 << 60) for _ in range(rows)]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=group_rows)
    return sink.getvalue()


@pytest.mark.parametrize("columns", [["name"], ["bytes", "name"], ["name", "noise", "bytes"]])
def test_each_row_group_is_what_arrow_reads(columns: list[str]) -> None:
    content = _content()
    ours, arrows = RowGroups(io.BytesIO(content)), pq.ParquetFile(pa.BufferReader(content))
    assert ours.metadata.num_row_groups == 5
    for number in range(5):
        assert ours.read(number, columns).equals(arrows.read_row_group(number, columns=columns))
    assert ours.read_some([1, 3], columns).equals(arrows.read_row_groups([1, 3], columns=columns))
    assert ours.read_all().equals(arrows.read())


def test_only_the_calling_thread_reads_and_columns_side_by_side_are_one_read() -> None:
    stream = _Watched(_content())
    file = RowGroups(stream)
    stream.reads.clear()
    file.read(2, ["name", "noise", "bytes"])
    assert len(stream.reads) == 1
    file.read(2, ["name", "bytes"])
    # The column in between is longer than the gap that is read through.
    assert len(stream.reads) == 3
    file.read_all()
    assert stream.threads == {threading.get_ident()}


def test_arrows_own_read_ahead_would_be_seen() -> None:
    stream = _Watched(_content())
    pq.ParquetFile(stream, pre_buffer=True).read_row_group(2, use_threads=False)
    assert stream.threads != {threading.get_ident()}


def test_a_file_that_breaks_off_is_refused() -> None:
    content = _content()
    stream = io.BytesIO(content)
    file = RowGroups(stream)
    stream.truncate(len(content) // 2)
    with pytest.raises(OSError, match=r"."):
        file.read(4, ["noise"])


def _threaded(source: str) -> list[int]:
    """Lines that let threads of Arrow read a Python stream."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        words = {word.arg: ast.unparse(word.value) for word in node.keywords}
        opens = node.func.attr == "ParquetFile" and words.get("pre_buffer", "False") != "False"
        # Reads with columns or groups are Arrow's; a stream's read takes only a size.
        arrows = node.func.attr in _READS - {"read"} or (node.func.attr == "read" and "columns" in words)
        if opens or (arrows and words.get("use_threads") != "False"):
            found.append(node.lineno)
    return found


def test_no_thread_of_arrow_reads_a_python_stream() -> None:
    found = [
        f"{path.relative_to(root.parent)}:{line}"
        for root in _ROOTS
        for path in sorted(root.rglob("*.py"))
        for line in _threaded(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    ["pq.ParquetFile(s, pre_buffer=True)", "file.read_row_group(0)", "file.read(columns=None)", "f.iter_batches(9)"],
)
def test_such_a_call_would_be_seen(call: str) -> None:
    assert _threaded(call) == [1]
