"""Benchmark of on-ramps on one core: lines of VPC flow logs per second, and the ratio to a plain Python loop.

The log is from a generated network: a million lines of version 5 in a custom field order, gzip. The loop decompresses
the same file, splits lines, names fields by the header, and sums bytes by interface, direction, peer, path and hour,
which are the inputs of the rules; it checks and classifies nothing. Our reader checks every field, hashes the content,
and judges each hop against the network's inventory. The same rows are also read as Parquet.

The first loop is the baseline, because its sums could be classified. Two faster loops are printed for comparison,
without a target: the same sums with fields by position, and the minimum, sums by interface and hour.

The sides alternate and are measured in CPU time, so that a busy machine slows them alike. A separate process reads a
log of eight million lines to measure peak memory. All sums must agree.
"""

from __future__ import annotations

import argparse
import gzip
import io
import itertools
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import measure
from metering.onramps.kinds import LogKind, recognised
from metering.onramps.reading import FileName, ReadSettings
from metering.units import HOUR_S, MIB
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.support.networks.files import LogFile

_LINES = 1_000_000
# The network's largest log contains about seven tenths of the network's lines.
_ALL_LINES = 1_450_000
_FIRST_S = 1_795_615_200
_ROUNDS = 3
_COPIES = 10

_LOOP = "plain loop (baseline)"
_TEXT_TARGET, _PARQUET_TARGET = 1.5, 2.0
_MEMORY_TARGET_MIB = 400

Sums = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """One log file as text and as Parquet, with its context."""

    kind: LogKind
    name: FileName
    timeline: Timeline
    text: bytes
    parquet: bytes
    lines: int


def _timeline(lines: int) -> tuple[Timeline, list[LogFile]]:
    """The context of the network, and its log files."""
    plan = NetworkPlan(
        first_s=_FIRST_S, lines=lines, slots=1, variety=400, instances=30, style="v5", file_lines=10 * _LINES
    )
    network = Network(plan)
    files = list(network.files())
    context = context_of(description(network.inventory, network.flow_logs, _FIRST_S), _FIRST_S)
    return Timeline(((context.effective_s, context),)), files


def _log(lines: int) -> _Log:
    timeline, files = _timeline(lines)
    largest = max(files, key=lambda file: len(file.body))
    found = recognised(largest.key)
    if found is None:
        raise SystemExit(f"the name is not known: {largest.key}")
    content = gzip.decompress(largest.body)
    return _Log(
        kind=found[0],
        name=found[1],
        timeline=timeline,
        text=gzip.compress(content, 6),
        parquet=_as_parquet(content),
        lines=content.count(b"\n"),
    )


def _as_parquet(content: bytes) -> bytes:
    """The log in AWS's Parquet form: names with `_`, numbers as integers, gzip inside."""
    names = content[: content.index(b"\n")].decode().split()
    numbers = {"packets": pa.int64(), "bytes": pa.int64(), "start": pa.int64(), "end": pa.int64()}
    small = ("version", "srcport", "dstport", "protocol", "tcp-flags", "traffic-path")
    table = pc.read_csv(
        io.BytesIO(content),
        parse_options=pc.ParseOptions(delimiter=" ", quote_char=False),
        convert_options=pc.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()) | numbers | dict.fromkeys(small, pa.int32()),
            null_values=["-"],
        ),
    )
    sink = io.BytesIO()
    pq.write_table(table.rename_columns([name.replace("-", "_") for name in names]), sink, compression="gzip")
    return sink.getvalue()


def _by_loop(stored: bytes) -> Sums:
    """Bytes by interface and hour, with fields found by position: the minimum for a loop."""
    sums: Sums = defaultdict(int)
    with gzip.open(io.BytesIO(stored), "rt") as lines:
        names = next(lines).split()
        interface, size, start, action, status = map(
            names.index, ("interface-id", "bytes", "start", "action", "log-status")
        )
        for line in lines:
            parts = line.split()
            if parts[status] == "OK" and parts[action] == "ACCEPT":
                sums[parts[interface], int(parts[start]) // HOUR_S] += int(parts[size])
    return sums


def _by_subject(stored: bytes) -> int:
    """Bytes by the rules' inputs (interface, direction, peer, path, hour), with fields found by name."""
    sums: dict[tuple[object, ...], int] = defaultdict(int)
    with gzip.open(io.BytesIO(stored), "rt") as lines:
        names = next(lines).split()
        for line in lines:
            row = dict(zip(names, line.split(), strict=True))
            if row["log-status"] == "OK" and row["action"] == "ACCEPT":
                direction = row["flow-direction"]
                peer = row["dstaddr"] if direction == "egress" else row["srcaddr"]
                hour = int(row["start"]) // HOUR_S
                sums[row["interface-id"], direction, peer, row["traffic-path"], hour] += int(row["bytes"])
    return sum(sums.values())


def _by_subject_and_position(stored: bytes) -> int:
    """Like `_by_subject`, with fields found by position."""
    sums: dict[tuple[object, ...], int] = defaultdict(int)
    with gzip.open(io.BytesIO(stored), "rt") as lines:
        names = next(lines).split()
        interface, size, start, action, status = map(
            names.index, ("interface-id", "bytes", "start", "action", "log-status")
        )
        way, source, destination, path = map(names.index, ("flow-direction", "srcaddr", "dstaddr", "traffic-path"))
        for line in lines:
            parts = line.split()
            if parts[status] == "OK" and parts[action] == "ACCEPT":
                direction = parts[way]
                peer = parts[destination if direction == "egress" else source]
                hour = int(parts[start]) // HOUR_S
                sums[parts[interface], direction, peer, parts[path], hour] += int(parts[size])
    return sum(sums.values())


def _by_reader(log: _Log, stored: bytes) -> Sums:
    sums: Sums = defaultdict(int)
    for block in log.kind.read(io.BytesIO(stored), log.name, ReadSettings()):
        for each in block.observations:
            interface = "-" if not each.subject.interface_id else each.subject.interface_id
            sums[interface, each.hour_s // HOUR_S] += each.bytes
    return sums


def _measured_bytes(log: _Log, stored: bytes) -> int:
    measured = measure(io.BytesIO(stored), log.kind, log.name, log.timeline)
    return measured.balance.metered_bytes + measured.balance.shadowed_bytes


def _check_sums(log: _Log) -> None:
    expected = _by_loop(log.text)
    total = sum(expected.values())
    for stored in (log.text, log.parquet):
        if dict(_by_reader(log, stored)) != dict(expected) or _measured_bytes(log, stored) != total:
            raise SystemExit("the loop and the on-ramp disagree")


def _best_s(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for name, call in itertools.chain.from_iterable(itertools.repeat(calls.items(), _ROUNDS)):
        began = time.process_time()
        call()
        best[name] = min(best[name], time.process_time() - began)
    return best


def _rates(log: _Log) -> bool:
    best = _best_s(
        {
            _LOOP: lambda: _by_subject(log.text),
            "the same by position": lambda: _by_subject_and_position(log.text),
            "least loop, by position": lambda: _by_loop(log.text),
            "text, read": lambda: _by_reader(log, log.text),
            "text, read and judged": lambda: _measured_bytes(log, log.text),
            "Parquet, read": lambda: _by_reader(log, log.parquet),
            "Parquet, read and judged": lambda: _measured_bytes(log, log.parquet),
        }
    )
    sizes = f"{len(log.text) // MIB} MiB of gzip, {len(log.parquet) // MIB} MiB of Parquet"
    print(f"{log.lines:,} lines of version 5 with their inventory: {sizes}")
    print(f"{'':<28}{'M lines/s':>12}{'ratio':>8}   target")
    met = True
    for name, took_s in best.items():
        ratio = best[_LOOP] / took_s
        target = {"text, read and judged": _TEXT_TARGET, "Parquet, read and judged": _PARQUET_TARGET}.get(name, 0.0)
        said = f">= {target} x  {'met' if ratio >= target else 'MISSED'}" if target else ""
        met = met and ratio >= target
        print(f"{name:<28}{log.lines / took_s / 1e6:>12.3f}{ratio:>8.2f}   {said}".rstrip())
    return met


def _child(path: Path, key: str) -> None:
    """Read a log, and print its number of lines, its metered bytes and this process's peak memory in MiB."""
    found = recognised(key)
    if found is None:
        raise SystemExit(key)
    timeline, _ = _timeline(1_000)
    with path.open("rb") as stream:
        measured = measure(stream, found[0], found[1], timeline)
    # `getrusage` would include the peak from before exec, if that peak was larger.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("utf-8").splitlines())
    peak_mib = int(status["VmHWM"].split()[0]) * 1024 // MIB
    balance = measured.balance
    print(balance.lines, balance.metered_bytes + balance.shadowed_bytes, peak_mib)


def _memory(log: _Log) -> bool:
    expected = sum(_by_loop(log.text).values())
    key = log.name.identity.partition(":")[2]
    met = True
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        for copies in (1, _COPIES):
            # A log consists of several gzip members, each with a header.
            path.write_bytes(log.text * copies)
            command = [sys.executable, "-m", "load_tests.bench_onramps", "--child", str(path), key]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            lines, total_bytes, peak_mib = map(int, answer)
            if (lines, total_bytes) != (copies * log.lines, copies * expected):
                raise SystemExit(f"{copies} copies of the log have other sums: {answer}")
            met = met and peak_mib < _MEMORY_TARGET_MIB
            said = "met" if peak_mib < _MEMORY_TARGET_MIB else "MISSED"
            print(f"{lines:>12,} lines: peak {peak_mib} MiB   < {_MEMORY_TARGET_MIB} MiB  {said}")
    return met


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures. Returns 0 if every target is met."""
    parser = argparse.ArgumentParser(description="Lines of flow logs per second, and their memory.")
    parser.add_argument("--lines", type=int, default=_ALL_LINES, help="lines of the network, about")
    parser.add_argument("--child", nargs=2, metavar=("FILE", "KEY"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.child:
        _child(Path(chosen.child[0]), chosen.child[1])
        return 0
    log = _log(chosen.lines)
    _check_sums(log)
    return 0 if all([_rates(log), _memory(log)]) else 1


if __name__ == "__main__":
    sys.exit(main())
