"""JSON Schema of a settings file. `python -m tests.support.settings_schema` writes docs/settings.schema.json anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from metering.fleet.settings.bases import STAGES
from metering.fleet.settings.tunables import TUNABLES
from metering.fleet.stage import NO_SETTINGS, StageConfig
from metering.settings import Policy

if TYPE_CHECKING:
    from pydantic import JsonValue

SCHEMA = Path(__file__).parents[2] / "docs" / "settings.schema.json"


def json_schema() -> dict[str, JsonValue]:
    """JSON Schema of a settings file, for editors."""
    stage = StageConfig.model_json_schema()
    definitions = stage.pop("$defs")
    properties = stage["properties"]
    for name in NO_SETTINGS:
        del properties[name]
    policy = Policy.model_json_schema()["properties"]
    properties["tunables"] = {
        "type": "object",
        "description": properties["tunables"]["description"],
        "additionalProperties": False,
        "properties": {name: policy[name] for name in TUNABLES},
    }
    properties["like"] = {"enum": sorted(STAGES), "description": "Base that the values of a stage are laid over."}
    stage.pop("required", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "metering.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "stage": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z][a-z0-9-]{0,15}$"},
                "additionalProperties": {**stage, "title": "Stage"},
            }
        },
        "$defs": definitions,
    }


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n")
