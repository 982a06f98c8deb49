"""The models document every setting, and an error in a log source is reported with advice."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metering.errors import SettingsError
from metering.fleet.settings.bases import STAGES
from metering.fleet.settings.layers import Asked, planned, setting_fields
from metering.fleet.settings.regions import consequences, differences
from metering.fleet.stage import NO_SETTINGS, TUNABLES, StageConfig, setting_names
from metering.onramps import sources
from metering.onramps.sources import NAMED, SHARED_SUBNETS, Bills, decode_sources, encode_sources, source_of
from metering.settings import Policy

if TYPE_CHECKING:
    from pydantic import JsonValue

SOURCE: dict[str, Any] = {
    "name": "flows", "bucket": "acme-logs", "region": "us-west-2", "prefix": "AWSLogs/", "accounts": ["123456789012"],
}  # fmt: skip


def stage(*rows: dict[str, Any] | object) -> StageConfig:
    return StageConfig.load("prod", {"log_sources": list(rows)})


def problems(*rows: dict[str, Any] | object) -> str:
    with pytest.raises(SettingsError) as caught:
        stage(*rows)
    return " | ".join(caught.value.problems)


def test_a_source_needs_name_bucket_and_region_and_the_rest_has_defaults() -> None:
    (source,) = stage(SOURCE).log_sources
    assert source.plain() == sources.LogSource(
        name="flows", bucket="acme-logs", region="us-west-2", prefix="AWSLogs/", kinds=("vpc-flow",),
        accounts=("123456789012",),
    )  # fmt: skip
    assert "bucket (entry 1) is missing" in problems({"name": "x"})


def test_organization_stands_for_the_accounts_of_the_context() -> None:
    config = stage({**SOURCE, "accounts": "organization"})
    (source,) = config.log_sources
    assert source.plain().accounts is None
    assert source.plain().bills(["111111111111"]) == Bills.listed(["111111111111"])
    # A setting is shown in the form in which it was given, so that a stored setting can be given again.
    rows = config.effective()["log_sources"]
    assert rows == [{**SOURCE, "accounts": "organization", **_DEFAULTS}]
    assert StageConfig.load("prod", {"log_sources": rows}) == config


def test_a_source_that_names_no_accounts_bills_those_of_the_files_names() -> None:
    rows = [{name: value for name, value in SOURCE.items() if name != "accounts"}]
    config = stage(*rows, {**SOURCE, "name": "shared", "bucket": "shared-logs", "accounts": "shared-subnets"})
    named, shared = (source.plain() for source in config.log_sources)
    assert (named.bills(["111111111111"]), shared.bills(["111111111111"])) == (NAMED, SHARED_SUBNETS)
    assert decode_sources(encode_sources([named, shared])) == (named, shared)
    effective: Any = config.effective()["log_sources"]
    assert [row["accounts"] for row in effective] == ["named", "shared-subnets"]
    assert StageConfig.load("prod", {"log_sources": effective}) == config


def test_what_a_function_of_before_was_given_keeps_its_meaning() -> None:
    (source,) = decode_sources('[{"bucket":"acme-logs","name":"flows","region":"us-west-2"}]')
    assert source.bills_organization
    assert source.bills(["111111111111"]) == Bills.listed(["111111111111"])


_DEFAULTS = {"kinds": ["vpc-flow"], "kms_key_arn": "", "context_role_arns": [], "context_regions": []}


@pytest.mark.parametrize(("wrong", "said"), [
    ({"accounts": 5}, "it must be a list of account ids, named or shared-subnets"),
    ({"accounts": ["12345678901"]}, "an account has 12 digits"),
    ({"accounts": []}, "without an account nothing could be metered"),
    ({"kinds": ["vpcflow"]}, "did you mean vpc-flow?"),
    ({"kinds": ["alb"]}, "there are vpc-flow"),
    ({"kinds": []}, "it names no kind of log"),
    ({"name": "My logs"}, "it must be a letter, then up to 31"),
    ({"bucket": "Acme"}, "it must be the name of a bucket"),
    ({"region": "us-west-2a"}, "it must be a region such as us-west-2"),
    ({"prefix": "/AWSLogs"}, "begins without a slash"),
    ({"prefix": "AWSLogs/*"}, "a policy would take it for more than itself"),
    ({"prefix": "a/${aws:username}"}, "a policy would take it for more than itself"),
    ({"kms_key_arn": "alias/logs"}, "the ARN of a key, and not of an alias"),
    ({"kms_key_arn": "arn:aws:kms:us-east-1:123456789012:key/ab-c"}, "a key of another region than the bucket"),
    ({"context_role_arns": ["arn:aws:iam::123456789012:role/*"]}, "not the ARN of a role"),
    ({"context_regions": ["eu"]}, "not the name of a region"),
    ({"bucet": "x"}, "is not a setting"),
])  # fmt: skip
def test_what_is_wrong_with_a_source_is_said_in_words(wrong: dict[str, object], said: str) -> None:
    found = problems({**SOURCE, **wrong})
    assert said in found
    assert "(entry 1)" in found


def test_sources_must_not_overlap_since_a_file_would_belong_to_two_of_them() -> None:
    other = {**SOURCE, "name": "other"}
    assert "overlap: s3://acme-logs/AWSLogs/ and s3://acme-logs/" in problems(SOURCE, {**other, "prefix": ""})
    assert "overlap" in problems(SOURCE, {**other, "prefix": "AWSLogs/123456789012/"})
    assert "two regions of one bucket" in problems(SOURCE, {**other, "prefix": "x/", "region": "us-east-1"})
    assert "has the name flows twice" in problems(SOURCE, {**SOURCE, "bucket": "other-logs"})
    assert len(stage(SOURCE, {**other, "prefix": "s3/"}).log_sources) == 2


def test_the_data_bucket_of_the_stage_is_no_log_source() -> None:
    assert "the data bucket of the stage itself" in problems({**SOURCE, "bucket": "metering-prod-data-databucket-1a"})


def test_sources_that_a_function_has_no_room_for_are_refused() -> None:
    many = [{**SOURCE, "name": f"flows-{n}", "bucket": f"acme-logs-{n}"} for n in range(20)]
    assert "the log sources of us-west-2 have" in problems(*many)
    assert len(stage(*many[:10]).log_sources) == 10


def test_only_the_region_of_the_bucket_has_the_source() -> None:
    config = stage(SOURCE, {**SOURCE, "name": "east", "bucket": "east-logs", "region": "us-east-1"})
    assert [source.name for source in config.in_region("us-west-2").log_sources] == ["flows"]
    assert config.in_region("eu-west-1").log_sources == ()
    assert StageConfig.load("prod").in_region("eu-west-1") == StageConfig.load("prod")


def test_plans_outlive_the_markers_of_their_batches_whatever_the_window_is() -> None:
    day_s = 86_400
    assert StageConfig.load("prod").plan_life_days == 65
    backfill = {
        "admission_window_s": 400 * day_s,
        "marker_life_s": 415 * day_s + 1,
        "incoming_retention_days": 431,
        "tunables.source_life_s": 500 * day_s,
    }
    assert StageConfig.load("prod", backfill).plan_life_days == 431


def test_a_difference_names_the_sources_and_what_a_removal_ends() -> None:
    before = planned(Asked(stage="prod", options={"log_sources": [SOURCE]}), None)
    new = {**SOURCE, "name": "new", "bucket": "new-logs"}
    after = planned(Asked(stage="prod", options={"log_sources": [new]}), before.given)
    found = differences(before, after)
    assert [str(each) for each in found] == [
        "1 log source removed (flows s3://acme-logs/AWSLogs/ in us-west-2), "
        "1 log source added (new s3://new-logs/AWSLogs/ in us-west-2)"
    ]
    assert consequences(found) == ("log files of flows are not metered any more, also those that wait",)


def test_a_deployment_remembers_its_sources() -> None:
    before = planned(Asked(stage="prod", options={"log_sources": [SOURCE]}), None)
    later = planned(Asked(stage="prod", options={"max_concurrency": 8}), before.given)
    assert later.config.log_sources == before.config.log_sources
    assert planned(Asked(stage="prod", unset=frozenset({"log_sources"})), later.given).config.log_sources == ()


def test_functions_read_the_sources_that_the_stage_wrote() -> None:
    config = stage(SOURCE, {**SOURCE, "name": "all", "bucket": "all-logs", "prefix": "", "accounts": "organization"})
    found = tuple(source.plain() for source in config.log_sources)
    assert decode_sources(encode_sources(found)) == found
    assert source_of(found, "acme-logs", "AWSLogs/x") == found[0]
    assert source_of(found, "acme-logs", "else/x") is None
    assert source_of(found, "all-logs", "x") == found[1]
    assert [source.place for source in found] == ["s3://acme-logs/AWSLogs/", "s3://all-logs/"]


@pytest.mark.parametrize("text", ["", "{}x", "5", "[5]", '[{"name": "x"}]'])
def test_a_text_that_is_no_list_of_sources_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_sources(text)


# Settings are documented for people and for editors.

DOCS = Path(__file__).parents[4] / "docs"
SCHEMA = DOCS / "settings.schema.json"


def json_schema() -> dict[str, JsonValue]:
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
