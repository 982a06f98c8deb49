"""Without a region, a user gets the stage's home region, and no advice builds a region outside the stage's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.cli.command import Session
from metering.errors import OperationFailedError
from tests.support.answering import DeployedStage, deployed_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import JsonValue

HOME, OTHER = "eu-west-1", "us-east-1"
RULES: dict[str, JsonValue] = {"rollout.home": HOME, "rollout.allow": [HOME, "eu-central-1"], "max_concurrency": 7}


@pytest.fixture(autouse=True)
def _own_directory(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world() -> Iterator[DeployedStage]:
    with deployed_stage() as found:
        yield found


def typed(world: DeployedStage, line: str, *, stage: str = "prod") -> Result:
    return CliRunner().invoke(app, [*line.split(), "--stage", stage, "--endpoint", world.endpoint])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A settings file in the folder, with the stage's home region and rules."""
    file = tmp_path / "metering.toml"
    file.write_text(
        "[stage.prod]\nmax_concurrency = 7\n[stage.prod.rollout]\n"
        f'home = "{HOME}"\nallow = ["{HOME}", "eu-central-1"]\n'
    )
    return file


@pytest.mark.parametrize("line", ["settings show --format csv", "settings diff --format csv"])
@pytest.mark.usefixtures("rules")
def test_the_settings_of_the_home_region_are_shown_to_who_names_no_region(world: DeployedStage, line: str) -> None:
    """H-P3: it looked in us-east-1."""
    world.deploy(HOME, RULES)

    result = typed(world, line)

    assert "is not deployed there" not in result.output
    assert result.exit_code == 0


COMMANDS = ["status", "storage report", "reconcile --deep", "verify", "report usage", "audit"]


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.usefixtures("rules")
def test_a_command_without_a_region_asks_the_home_region_of_the_file_alone(world: DeployedStage, line: str) -> None:
    """H-P3."""
    world.deploy(HOME, RULES)

    result = typed(world, line)

    assert f"not deployed in {OTHER}" not in result.output
    assert {region for region, _ in world.asked} == {HOME}


def test_without_a_file_the_stage_itself_says_its_home_region(world: DeployedStage) -> None:
    """H-P3: it is found wherever it is deployed, even if the caller may not look everywhere."""
    world.denied = {OTHER, "sa-east-1"}
    world.deploy(HOME, RULES)
    world.deploy("eu-central-1", RULES)

    result = typed(world, "status")

    assert f"not deployed in {OTHER}" not in result.output
    assert {region for region, operation in world.asked if operation == "GetParameter"} >= {HOME}
    assert world.asked[-1][0] == HOME


def test_a_deployment_of_a_stage_that_stands_elsewhere_goes_to_its_home_region(world: DeployedStage) -> None:
    """H-P3: without the file, a second stage was planned in us-east-1."""
    world.deploy(HOME, RULES, parts=("pipeline",))

    result = typed(world, "deploy --dry-run")

    assert f"{HOME}: " in said(result), said(result)
    assert "nothing is deployed yet" not in said(result)


def test_a_region_that_others_call_home_is_the_home_region(world: DeployedStage) -> None:
    from metering.adapters.aws.homes import published_home

    def found() -> str | None:
        regions = (OTHER, HOME, "eu-central-1", "sa-east-1")
        return published_home("prod", environ={}, endpoint=world.endpoint, regions=regions)

    for region in (OTHER, HOME, "eu-central-1"):
        world.deploy(region, RULES)
    assert found() == HOME
    world.outputs.clear()
    assert found() is None
    # The home region in its settings is empty: it was named for one run.
    world.deploy("sa-east-1")
    assert found() == "sa-east-1"
    world.deploy("eu-central-1")
    with pytest.raises(OperationFailedError, match="deployed in eu-central-1, sa-east-1") as told:
        found()
    assert "--region" in told.value.advice


def test_a_python_program_without_a_region_asks_the_home_region(world: DeployedStage) -> None:
    """H-P3."""
    from metering.client.stores import Place

    world.deploy(HOME, RULES)
    place = Place.named(stage="prod", region=None, endpoint=world.endpoint, environ={})
    try:
        found = [each.region for each in place.regions()]
    except OperationFailedError as error:
        found = [str(error)]
    assert found == [HOME]
    assert place.home == HOME


@pytest.mark.usefixtures("rules")
def test_a_region_of_the_environment_wins_and_the_error_names_the_home_region(
    world: DeployedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H-P3: the advice was to build a second production region."""
    world.deploy(HOME, RULES)
    monkeypatch.setenv("AWS_REGION", OTHER)

    result = typed(world, "storage report")

    assert f"not deployed in {OTHER}" in said(result)
    assert f"The home region of stage prod is {HOME}: add --region {HOME}." in said(result)
    assert "region add" not in result.output
    assert result.exit_code == 1


@pytest.mark.usefixtures("rules")
def test_no_advice_builds_a_region_that_the_rules_leave_out(world: DeployedStage) -> None:
    """H-P3."""
    for line in ("status", f"status --region {OTHER}", f"settings show --region {OTHER}"):
        result = typed(world, line)
        assert result.exit_code == 1
        assert f"region add {OTHER}" not in said(result)


@pytest.mark.parametrize("line", [f"region add {OTHER}", f"deploy --region {OTHER}"])
@pytest.mark.parametrize("dry", ["", " --dry-run"])
@pytest.mark.usefixtures("rules")
def test_a_region_outside_the_rules_is_refused_unless_it_is_meant(world: DeployedStage, line: str, dry: str) -> None:
    """H-P3: it was built, in 76 s, without mentioning the rules."""
    world.deploy(HOME, RULES)

    result = typed(world, line + dry)

    assert f"{OTHER}: outside the rules of stage prod (rollout.allow). Nothing is built there." in said(result)
    assert result.exit_code == 2
    assert "--outside-rules" in result.output


@pytest.mark.usefixtures("rules")
def test_with_outside_rules_the_plan_says_that_it_is_outside(world: DeployedStage) -> None:
    world.deploy(HOME, RULES)

    result = typed(world, f"region add {OTHER} --dry-run --outside-rules")

    assert f"{OTHER}: outside the rules of stage prod (rollout.allow), and --outside-rules was given." in said(result)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("region", [HOME, "eu-central-1"])
@pytest.mark.usefixtures("rules")
def test_a_region_that_the_rules_allow_needs_no_word(world: DeployedStage, region: str) -> None:
    world.deploy(HOME, RULES)
    assert typed(world, f"region add {region} --dry-run").exit_code == 0


def test_rules_that_nobody_gave_refuse_nothing(world: DeployedStage) -> None:
    world.deploy(OTHER)
    assert typed(world, "region add ap-southeast-9 --dry-run").exit_code == 0
    assert typed(world, "region add ap-southeast-9 --dry-run", stage="local").exit_code == 0


def test_a_stage_of_emulators_stays_where_it_was(world: DeployedStage) -> None:
    result = typed(world, "status", stage="local")
    assert f"Deploy it with `metering region add {OTHER} --stage local`" in said(result)
    assert {region for region, _ in world.asked} == {OTHER}


def test_a_file_that_cannot_be_read_is_said_and_a_named_region_needs_none(world: DeployedStage, rules: Path) -> None:
    world.deploy(HOME, RULES)
    for text, words in (("[stage", "is not TOML"), ('[stage.prod.rollout]\nhome = "mars"\n', "it must be a region")):
        rules.write_text(text)
        result = typed(world, "settings show")
        assert (result.exit_code, words in said(result)) == (2, True), result.output
        assert words not in said(typed(world, f"storage report --region {HOME}"))


def test_the_home_region_knows_the_regions_of_the_stage_whichever_is_named(world: DeployedStage) -> None:
    """Budgets and served costs of `--region` counted only that region, whose ledger names no others."""
    world.deploy(HOME, RULES)
    world.deploy(OTHER, RULES)
    stage = Session(endpoint=world.endpoint, region=OTHER, stage="prod").regions
    assert stage.names == [HOME]
    assert (stage.home, world.asked[-1]) == (HOME, (HOME, "Query"))
