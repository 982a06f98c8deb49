"""Every setting is documented by the models, for people and for editors."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from metering.fleet.settings.bases import STAGES
from metering.fleet.settings.file import setting_fields
from metering.fleet.stage import NO_SETTINGS, TUNABLES, StageConfig, setting_names
from metering.settings import Policy

if TYPE_CHECKING:
    from pydantic import JsonValue

DOCS = Path(__file__).parents[4] / "docs"
SCHEMA = DOCS / "settings.schema.json"


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


def test_every_setting_says_what_it_may_be_and_what_it_does() -> None:
    fields = setting_fields()
    assert {each.name for each in fields if "[]" not in each.name} == set(setting_names())
    assert [each.name for each in fields if not each.meaning or not each.kind] == []
    by_name = {each.name: each for each in fields}
    assert by_name["max_concurrency"].kind == "a whole number from 2 to 1,000"
    assert by_name["max_concurrency"].default == 20
    assert by_name["rollout.pager_needed"].kind == "true or false"
    assert by_name["tunables.shards"].default == 1
    assert by_name["subscriptions[].protocol"].kind == "one of email, https, sqs, lambda"
    assert by_name["log_sources[].accounts"].kind == "a list of account ids, named or shared-subnets"


def test_every_setting_has_a_name_that_a_stage_can_be_given_it_by() -> None:
    assert set(setting_names()) == set(StageConfig.load("prod").effective())


def test_the_schema_for_editors_is_that_of_the_model() -> None:
    """To write it: python -m tests.unit.fleet.settings.test_fields."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_the_schema_knows_every_name_of_the_example() -> None:
    stage = json_schema()["properties"]["stage"]["additionalProperties"]  # type: ignore[index, call-overload]  # JSON
    names = {name for table in tomllib.loads((DOCS / "metering.toml").read_text())["stage"].values() for name in table}
    assert names <= set(stage["properties"])  # type: ignore[index, call-overload, arg-type]  # JSON


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n")
