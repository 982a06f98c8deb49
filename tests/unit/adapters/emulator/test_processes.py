"""Processes of the local profile are identified by pid and start time, and reliably ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metering.adapters.emulator.ministack import free_port, is_port_used
from metering.adapters.emulator.state import (
    LocalState,
    descendants,
    end_tree,
    forget_state,
    is_running,
    load_state,
    process_began,
    running_endpoint,
    save_state,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")

# A parent process that ignores SIGTERM, as MiniStack does, and has a child process.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
time.sleep(60)
"""


def stubborn() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def test_a_process_that_ignores_sigterm_is_ended_with_its_children() -> None:
    process = stubborn()
    [child] = descendants(process.pid)
    end_tree(process.pid, grace_s=0.2)
    process.wait()
    deadline = time.monotonic() + 5
    while process_began(child) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (process_began(process.pid), process_began(child)) == (None, None)


def test_ending_what_is_gone_already_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    end_tree(process.pid, grace_s=0.1)


def test_a_pid_that_was_reused_is_not_taken_for_the_emulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    began = process_began(os.getpid())
    assert began is not None
    mine = LocalState(endpoint="http://127.0.0.1:1", region="us-east-1", stage="local", pid=os.getpid(), began=began)
    other = LocalState(endpoint="http://127.0.0.1:1", region="us-east-1", stage="local", pid=os.getpid(), began="1")
    assert is_running(mine)
    assert not is_running(other)
    save_state(other)
    assert running_endpoint() is None
    save_state(mine)
    assert running_endpoint() == "http://127.0.0.1:1"


def test_state_reads_back_and_can_be_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    state = LocalState(
        endpoint="http://127.0.0.1:1", region="eu-west-1", stage="local", pid=1, began="2", deployed=True
    )
    save_state(state)
    assert load_state() == state
    assert load_state("demo") is None
    (tmp_path / "emulator.json").write_text("{half")
    assert load_state() is None
    forget_state()
    forget_state()


def test_a_free_port_is_free() -> None:
    assert not is_port_used(free_port())
