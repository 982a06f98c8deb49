"""State of the emulators that commands started or use, in `.local/` of the project or METERING_LOCAL_DIR."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from metering.adapters.checkout import project_dir
from metering.adapters.emulator.processes import process_began

_PORTS = {"http": 80, "https": 443}
_PATIENCE_S = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """Emulator that a command started, or that runs by itself and has a stage that a command deployed.

    Attributes:
        pid: Process of the emulator; None if no command started it, and so none stops it.
        began: Start mark of that process, which a later process with the same pid does not have.
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
        """Whether it runs by itself."""
        return self.pid is None


def local_dir() -> Path:
    """Directory of state, logs and build results. This function does not create it."""
    return Path(os.environ.get("METERING_LOCAL_DIR") or project_dir() / ".local")


def load_state(name: str = "emulator") -> LocalState | None:
    """State that was saved last under `name`, or None. Its process may be gone."""
    try:
        return LocalState(**json.loads(_state_file(name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save_state(state: LocalState, name: str = "emulator") -> None:
    """Save `state` under `name`, as a whole or not at all."""
    path = _state_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state), indent=2) + "\n")
    fresh.replace(path)


def forget_state(name: str = "emulator") -> None:
    """Remove the state that `save_state` wrote."""
    _state_file(name).unlink(missing_ok=True)


def is_running(state: LocalState) -> bool:
    """Whether the process that `state` names is still that process; of a borrowed emulator, whether it answers."""
    return _takes_calls(state.endpoint) if state.pid is None else process_began(state.pid) == state.began


def running_endpoint() -> str | None:
    """Endpoint of the local emulator if it runs, else None."""
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
