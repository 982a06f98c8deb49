"""Processes by pid: start marks, descendants, and the end of a whole tree."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_POLL_S = 0.05


def process_began(pid: int) -> str | None:
    """Start mark of a process, which tells it from a later process with the same pid; None if it is not alive."""
    fields = _stat_fields(pid)
    if fields is not None:
        return None if fields[0] == "Z" else fields[19]
    return None if Path("/proc/self").exists() or not _answers_signals(pid) else "alive"


def descendants(pid: int) -> list[int]:
    """Descendants of `pid`, children first. Empty on a system without /proc."""
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
    """End a process and its descendants: SIGTERM to it, then SIGKILL to all after `grace_s` seconds.

    The descendants are listed before the signal, because a dead parent has no children any more.
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
        # An earlier command started it, so init reaps it.
        return


def _answers_signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the state on: state at 0, parent at 1, start time at 19 (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
