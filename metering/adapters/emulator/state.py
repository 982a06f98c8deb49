"""State of the emulators that commands started, in `.local/` of the project or METERING_LOCAL_DIR."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from metering.adapters.checkout import project_dir
from metering.adapters.emulator.processes import process_began


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """Emulator that a command started.

    Attributes:
        pid: Process of the emulator.
        began: Start mark of that process, which a later process with the same pid does not have.
        deployed: Whether the stacks are deployed.
    """

    endpoint: str
    region: str
    stage: str
    pid: int
    began: str
    deployed: bool = False


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
    """Whether the process that `state` names is still that process."""
    return process_began(state.pid) == state.began


def running_endpoint() -> str | None:
    """Endpoint of the local emulator if it runs, else None."""
    state = load_state()
    return state.endpoint if state is not None and is_running(state) else None


def _state_file(name: str) -> Path:
    return local_dir() / f"{name}.json"
