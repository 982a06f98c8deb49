"""Ctrl-C: the command reports the truth, exits with 130, and its sent messages are recorded."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from typer.testing import CliRunner

from metering.audit.verification import read_header, read_sent
from metering.cli.commands.developer.replay import send_traffic
from metering.cli.failures import CommandStoppedError, first_interrupt_noted
from metering.replay.given import synthetic_traffic
from metering.replay.scenarios import SCENARIOS
from tests.support.memory.clock import ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.unit.cli.test_wrong_command_lines import broken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.wiring.connection import RegionConnection


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Ctrl-C is enabled here and in new processes, even if the tests run in the background and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_command_that_is_stopped_says_so_and_exits_with_130() -> None:
    result = CliRunner().invoke(broken(KeyboardInterrupt()), ["fail"])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.startswith("Error: You stopped it before its end.\n")
    assert "run again" in result.stderr


def test_the_program_is_stopped_without_a_traceback_while_it_waits_for_an_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        program = [str(Path(sys.executable).with_name("metering")), "report", "usage", "--endpoint", endpoint]
        running = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={"METERING_LOCAL_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        # The client sends its request, and gets no answer.
        asking, _ = server.accept()
        with asking:
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert err.startswith("Error: You stopped it")
    assert "Traceback" not in err


def test_a_replay_that_is_stopped_has_a_manifest_of_all_that_it_sent() -> None:
    clock, stopped = ManualClock(1_800_000_000_000), Event()
    queue, objects = MemoryQueue(clock), MemoryObjectStore(clock)
    region = SimpleNamespace(
        region="us-east-1", ingest=queue, objects=objects, names=SimpleNamespace(data_bucket="bucket")
    )
    traffic = synthetic_traffic("clean", SCENARIOS["clean"], 500, 1, 1_800_000_000, "bucket")
    manifest = _StopsAfter(stopped, lines=40)

    counts, _ = send_traffic(cast("RegionConnection", region), traffic, manifest, threads=2, stopped=stopped)

    lines = iter(manifest.getvalue().splitlines(keepends=True))
    read_header(next(lines))
    named = [*read_sent(lines)]
    assert 40 <= len(named) < 500
    assert counts == Counter(sent.expect for sent in named)
    assert queue.depth().visible == len(named)


def test_a_replay_that_is_stopped_at_once_says_how_much_was_sent() -> None:
    clock = ManualClock(1_800_000_000_000)
    queue, calls = MemoryQueue(clock), count()

    def press(_call: str) -> None:
        """A second Ctrl-C during the fourth request."""
        if next(calls) == 3:
            raise KeyboardInterrupt

    queue.on_call = press
    region = SimpleNamespace(
        region="us-east-1", ingest=queue, objects=MemoryObjectStore(clock), names=SimpleNamespace(data_bucket="bucket")
    )
    traffic = synthetic_traffic("clean", SCENARIOS["clean"], 500, 1, 1_800_000_000, "bucket")
    with pytest.raises((CommandStoppedError, KeyboardInterrupt)) as stopped:
        send_traffic(cast("RegionConnection", region), traffic, io.StringIO(), threads=1)
    assert "messages were sent" in str(stopped.value)


class _StopsAfter(io.StringIO):
    """A manifest whose reader stops after some lines."""

    def __init__(self, stopped: Event, *, lines: int) -> None:
        super().__init__()
        self._stopped, self._lines = stopped, lines

    def write(self, text: str, /) -> int:
        self._lines -= text.count("\n")
        if self._lines < 0:
            self._stopped.set()
        return super().write(text)


def test_the_first_ctrl_c_is_noted_and_the_second_ends_at_once() -> None:
    with first_interrupt_noted() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
