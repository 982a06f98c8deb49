"""Reviewed snapshots of each stage. Write them anew with `python -m tests.infra.snapshots` and read the difference."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.infra.support.synthesis import Synthesised

FOLDER = Path(__file__).parent / "snapshots"
_ASSET = re.compile(r"\b[0-9a-f]{64}\b")


def snapshot_of(stage: Synthesised) -> str:
    """A stage's templates and their termination protection as text, asset hashes masked."""
    content: dict[str, Any] = {
        part: {"termination_protection": stage.protected[part], "template": template}
        for part, template in stage.templates.items()
    }
    return _ASSET.sub("<asset>", json.dumps(content, indent=1, sort_keys=True)) + "\n"


def path_of(stage_name: str) -> Path:
    """Where a stage's snapshot is kept."""
    return FOLDER / f"{stage_name}.json"


if __name__ == "__main__":
    import tests.infra.conftest  # noqa: F401  # which Node to use
    from tests.infra.support.synthesis import STAGE_NAMES, synthesised

    FOLDER.mkdir(exist_ok=True)
    for name in STAGE_NAMES:
        path_of(name).write_text(snapshot_of(synthesised(name)))
