"""Checkouts of other revisions, each with a separate environment."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def checked_out(revision: str) -> Path:
    """Make a worktree of a revision below `.local`; its `.venv` has the packages of the revision's lock file."""
    named = subprocess.run(
        ["git", "rev-parse", "--verify", f"{revision}^{{commit}}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    folder = ROOT / ".local" / f"revision-{named.stdout[:12]}"
    if not folder.exists():
        subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--force", "--detach", str(folder), named.stdout.strip()],
            cwd=ROOT,
            check=True,
        )
    subprocess.run(["make", "--no-print-directory", "install"], cwd=folder, env=environment(folder), check=True)
    return folder


def python_of(folder: Path) -> str:
    return str(folder / ".venv" / "bin" / "python")


def environment(folder: Path) -> dict[str, str]:
    """Environment variables of a process that imports a checkout's modules, with a fixed hash seed."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"}
