"""Behaviour that only real processes with terminals, pipes and files show."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.recorded import load
from tests.cli.snapshots import table
from tests.cli.width_rule import cut, too_wide

ROOT = Path(__file__).parents[2]
METERING = str(Path(sys.executable).with_name("metering"))
_STYLES = re.compile(r"\x1b\[[0-9;]*m")
_ROWS = 24


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment without the tester's terminal size, account or emulator."""
    foreign = ("AWS_", "METERING_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "TERM": "xterm-256color", "METERING_LOCAL_DIR": str(tmp_path / "local")}


def at_terminal(command: list[str], columns: int, environ: dict[str, str]) -> str:
    """A command's output on a terminal with this many columns, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, columns, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=ROOT)
    os.close(theirs)
    received = b""
    try:
        while chunk := os.read(ours, 65_536):
            received += chunk
    except OSError as error:
        # Linux reports in this way that the other side of a pseudo-terminal is closed.
        if error.errno != errno.EIO:
            raise
    finally:
        os.close(ours)
        process.wait(timeout=60)
    return _STYLES.sub("", received.decode().replace("\r\n", "\n"))


def shown(name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.cli.recorded", name, *options]


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["verify", "quarantine-list", "report-usage-chart"])
def test_a_terminal_gets_a_table_of_its_own_width(name: str, columns: int, environ: dict[str, str]) -> None:
    recorded = load(name)
    text = at_terminal(shown(name), columns, environ)
    assert text == table(recorded, columns)
    assert too_wide(text.splitlines(), columns, recorded.answer) == []
    assert cut(text.splitlines(), recorded.answer) == []


def test_wide_is_as_wide_as_it_has_to_be_in_a_small_terminal(environ: dict[str, str]) -> None:
    text = at_terminal(shown("quarantine-list", "--wide"), 60, environ)
    assert text == table(load("quarantine-list"), 60, wide=True)


def test_the_installed_command_prints_a_table_at_a_terminal_and_its_message_too(environ: dict[str, str]) -> None:
    text = at_terminal([METERING, "local", "status"], 60, environ)
    assert text.splitlines()[:2] == ["running   no  the emulator", "deployed  no  the stacks in it"]
    assert all(len(line) <= 60 for line in text.splitlines())


def test_a_pipe_gets_json_without_colours_and_a_reader_that_leaves_is_no_error(environ: dict[str, str]) -> None:
    line = f"{METERING} local status | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("{", 1)
    assert "Traceback" not in done.stderr
    whole = subprocess.run(
        [METERING, "local", "status"], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert json.loads(whole.stdout)["running"] is False


def test_a_table_in_a_file_has_all_columns_whatever_the_terminal(environ: dict[str, str], tmp_path: Path) -> None:
    target = tmp_path / "status.txt"
    command = [METERING, "local", "status", "--format", "table", "--output", str(target)]
    at_terminal(command, 20, environ)
    assert target.read_text() == table(load("local-status-down"), 200)


_LEFT = """
import atexit, sys, threading
from metering.cli import app
def work():
    if {left}:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("answered")
    return 3
app.ended = work
atexit.register(print, "ended by the interpreter")
app.main()
"""


@pytest.mark.parametrize(("left", "printed"), [(False, "answered\nended by the interpreter\n"), (True, "answered\n")])
def test_work_that_is_left_behind_does_not_change_how_a_process_ends(left: bool, printed: str) -> None:
    """At exit, the interpreter kills threads; if a thread is killed inside Arrow or DuckDB, the process aborts."""
    code = _LEFT.format(left=left).replace("return 3", "sys.stdout.flush(); return 3")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (3, printed)
