"""State of the emulators that commands started or use, and their processes by pid."""

import json
import os
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from metering.adapters.checkout import own_dir

_POLL_S = 0.05


def process_began(pid: int) -> str | None:
    """Start mark that distinguishes a process from later ones with the same pid; None if it is not alive."""
    fields = _stat_fields(pid)
    if fields is not None:
        return None if fields[0] == "Z" else fields[19]
    return None if Path("/proc/self").exists() or not _answers_signals(pid) else "alive"


def descendants(pid: int) -> list[int]:
    """Descendants of `pid`, children first. The list is empty on a system without /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        fields = _stat_fields(int(entry.name))
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_tree(pid: int, *, grace_s: float) -> None:
    """End a process and its descendants: SIGTERM to the process, then SIGKILL to all after `grace_s` seconds.

    The descendants are listed before the signal, because a dead process has no children in `/proc`.
    """
    tree = {member: process_began(member) for member in [pid, *descendants(pid)]}
    _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while process_began(pid) == tree[pid] and time.monotonic() < deadline:
        _reap(pid)
        time.sleep(_POLL_S)
    for member, began in tree.items():
        if began is not None and process_began(member) == began:
            _signal(member, signal.SIGKILL)
    _reap(pid)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # The process was started by an earlier command, so init reaps it.
        return


def _answers_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat, beginning with the state: state at 0, parent at 1, start time at 19 (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


_PORTS = {"http": 80, "https": 443}
_PATIENCE_S = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """Emulator that a command started, or an already running emulator on which a command deployed a stage.

    Attributes:
        pid: Process id of the emulator; None if no command started it, in which case no command stops it.
        began: Start mark of the emulator's process; a later process with the same pid has a different mark.
        deployed: Whether the stacks are deployed.
    """

    endpoint: str
    region: str
    stage: str
    pid: int | None
    began: str = ""
    deployed: bool = False

    @property
    def borrowed(self) -> bool:
        return self.pid is None


def local_dir() -> Path:
    """Directory of state, logs and build results. This function does not create the directory."""
    return Path(os.environ.get("METERING_LOCAL_DIR") or own_dir())


def load_state(name: str = "emulator") -> LocalState | None:
    """The state last saved under `name`, or None. The emulator's process may have ended."""
    try:
        return LocalState(**json.loads(_state_file(name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save_state(state: LocalState, name: str = "emulator") -> None:
    """Save `state` under `name`, atomically."""
    path = _state_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state), indent=2) + "\n")
    fresh.replace(path)


def forget_state(name: str = "emulator") -> None:
    """Remove the state that `save_state` wrote."""
    _state_file(name).unlink(missing_ok=True)


def is_running(state: LocalState) -> bool:
    """Whether the process of `state` is still alive; for an emulator without a pid, whether it responds."""
    return _takes_calls(state.endpoint) if state.pid is None else process_began(state.pid) == state.began


def running_endpoint() -> str | None:
    """Endpoint of the local emulator; None if it is not running."""
    state = load_state()
    return state.endpoint if state is not None and is_running(state) else None


def _takes_calls(endpoint: str) -> bool:
    there = urlsplit(endpoint)
    try:
        with socket.create_connection((there.hostname or "", there.port or _PORTS[there.scheme]), _PATIENCE_S):
            return True
    except OSError:
        return False


def _state_file(name: str) -> Path:
    return local_dir() / f"{name}.json"
