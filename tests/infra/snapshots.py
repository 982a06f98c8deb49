"""Reviewed snapshots of each stage. Write them with `python -m tests.infra.snapshots` and review the diff."""

import json
import re
from pathlib import Path
from typing import Any

from tests.infra.support.organisation import SETTINGS
from tests.infra.support.synthesis import Synthesised

FOLDER = Path(__file__).parent / "snapshots"
_ASSET = re.compile(r"\b[0-9a-f]{64}\b")


def snapshot_of(stage: Synthesised) -> str:
    """A stage's templates and their termination protection as text, with masked asset hashes."""
    content: dict[str, Any] = {
        part: {"termination_protection": stage.protected[part], "template": template}
        for part, template in stage.templates.items()
    }
    return _ASSET.sub("<asset>", json.dumps(content, indent=1, sort_keys=True)) + "\n"


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.json"


def reviewed(name: str) -> Synthesised:
    """Stage of a snapshot, with the API or an organisation's settings if the snapshot's name says so."""
    from tests.infra.support.synthesis import synthesised

    if name == ORGANISED:
        return synthesised("prod", overrides=json.dumps(SETTINGS))
    return synthesised(name.removesuffix(WITH_API), overrides=_API if name.endswith(WITH_API) else "{}")


WITH_API = "-with-api"
ORGANISED = "prod-in-organisation"
_API = json.dumps({"api": True, "api_domain": "usage.{region}.example.com", "api_zone_id": "Z0123456789ABC"})


if __name__ == "__main__":
    import tests.infra.conftest  # noqa: F401  # which Node to use
    from tests.infra.support.synthesis import STAGE_NAMES

    FOLDER.mkdir(exist_ok=True)
    for each in (*STAGE_NAMES, f"prod{WITH_API}", ORGANISED):
        path_of(each).write_text(snapshot_of(reviewed(each)))
