"""Where the local profile keeps what it started: `.local/` of the project, or METERING_LOCAL_DIR."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from metering.adapters.checkout import project_dir
from metering.adapters.emulator.processes import process_began


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalState:
    """An emulator that this project started.

    Attributes:
        pid: Its process.
        began: Start mark of that process: a pid that was used again has another one.
        deployed: The stacks are up.
    """

    endpoint: str
    region: str
    stage: str
    pid: int
    began: str
    deployed: bool = False


def local_dir() -> Path:
    """Directory of state, logs and build results; not created here."""
    return Path(os.environ.get("METERING_LOCAL_DIR") or project_dir() / ".local")


def load_state(name: str = "emulator") -> LocalState | None:
    """The state of the last `local up` (or what else is kept under `name`), or None; its process may be gone."""
    try:
        return LocalState(**json.loads(_state_file(name).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def save_state(state: LocalState, name: str = "emulator") -> None:
    """Remember `state`: written whole or not at all."""
    path = _state_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state), indent=2) + "\n")
    fresh.replace(path)


def forget_state(name: str = "emulator") -> None:
    """Remove what `save_state` wrote."""
    _state_file(name).unlink(missing_ok=True)


def is_running(state: LocalState) -> bool:
    """Whether the process that `state` names is still that process."""
    return process_began(state.pid) == state.began


def running_endpoint() -> str | None:
    """Endpoint of the running local emulator, or None."""
    state = load_state()
    return state.endpoint if state is not None and is_running(state) else None


def _state_file(name: str) -> Path:
    return local_dir() / f"{name}.json"
