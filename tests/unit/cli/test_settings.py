"""Settings and regions on the command line: messages if nothing is deployed, and the home region of a stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from metering.adapters.aws.homes import published_home
from metering.cli.app import app
from metering.cli.command import Session
from metering.client.stores import Place
from metering.errors import OperationFailedError
from tests.support.answering import DeployedStage, deployed_stage

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """A settings file in the folder, with the home region and the rollout rules of the stage."""
    file = tmp_path / "metering.toml"
    rollout = f'[stage.prod.rollout]\nhome = "{HOME}"\nallow = ["{HOME}", "eu-central-1"]\n'
    file.write_text(f"[stage.prod]\nmax_concurrency = 7\n{rollout}")
    return file


@pytest.fixture
def ruled(rules: Path, world: DeployedStage) -> DeployedStage:
    """A stage deployed to its home region, and its settings file."""
    world.deploy(HOME, RULES)
    return world


@pytest.mark.parametrize("line", ["settings show --format csv", "settings diff --format csv"])
def test_the_settings_of_the_home_region_are_shown_to_who_names_no_region(ruled: DeployedStage, line: str) -> None:
    result = typed(ruled, line)
    assert "is not deployed there" not in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize("line", ["status", "storage report", "reconcile --deep", "verify", "report usage", "audit"])
def test_a_command_without_a_region_asks_the_home_region_of_the_file_alone(ruled: DeployedStage, line: str) -> None:
    assert f"not deployed in {OTHER}" not in typed(ruled, line).output
    assert {region for region, _ in ruled.asked} == {HOME}


def test_without_a_file_the_stage_itself_says_its_home_region(world: DeployedStage) -> None:
    world.denied = {OTHER, "sa-east-1"}
    world.deploy(HOME, RULES)
    world.deploy("eu-central-1", RULES)
    result = typed(world, "status")
    assert f"not deployed in {OTHER}" not in result.output
    assert {region for region, operation in world.asked if operation == "GetParameter"} >= {HOME}
    assert world.asked[-1][0] == HOME


def test_a_deployment_of_a_stage_that_stands_elsewhere_goes_to_its_home_region(world: DeployedStage) -> None:
    world.deploy(HOME, RULES, parts=("pipeline",))
    result = typed(world, "deploy --dry-run")
    assert f"{HOME}: " in said(result), said(result)
    assert "nothing is deployed yet" not in said(result)


@pytest.mark.parametrize("line", [
    "deploy --dry-run --region us-east-1", "upgrade --check --region us-east-1",
    "region add us-east-1 --redeploy --dry-run",
])  # fmt: skip
def test_a_region_is_deployed_again_while_its_home_region_is_away(world: DeployedStage, line: str) -> None:
    world.deploy(HOME, RULES)
    world.deploy(OTHER, RULES, parts=("pipeline",))
    world.denied = {HOME}
    assert typed(world, f"{line} --without-home --set max_concurrency=9").exit_code == (1 if "upgrade" in line else 0)
    assert {region for region, _ in world.asked} == {OTHER}
    told = said(typed(world, f"{line} --without-home --set max_concurrency=9"))
    assert "settings: max_concurrency 7 -> 9" in told
    assert "nothing is deployed yet" not in told


@pytest.mark.parametrize(("line", "words"), [
    ("deploy", "--without-home deploys to one region. Name it with --region."),
    ("upgrade --region all", "--without-home deploys to one region. Name it with --region."),
    ("region add eu-central-1", "Stage prod does not run in eu-central-1."),
    ("deploy --region eu-west-1", "eu-west-1 is the home region of stage prod. Leave --without-home out"),
])  # fmt: skip
def test_without_the_home_region_only_a_region_that_runs_is_deployed_to(
    world: DeployedStage, line: str, words: str
) -> None:
    world.deploy(HOME, RULES, parts=("pipeline",))
    result = typed(world, f"{line} --without-home")
    assert result.exit_code != 0
    assert words in said(result)


def test_a_region_that_others_call_home_is_the_home_region(world: DeployedStage) -> None:
    def found() -> str | None:
        regions = (OTHER, HOME, "eu-central-1", "sa-east-1")
        return published_home("prod", environ={}, endpoint=world.endpoint, regions=regions)

    for region in (OTHER, HOME, "eu-central-1"):
        world.deploy(region, RULES)
    assert found() == HOME
    world.outputs.clear()
    assert found() is None
    # The settings have no home region, because it was named for only one run.
    world.deploy("sa-east-1")
    assert found() == "sa-east-1"
    world.deploy("eu-central-1")
    with pytest.raises(OperationFailedError, match="deployed in eu-central-1, sa-east-1") as told:
        found()
    assert "--region" in told.value.advice


def test_a_python_program_without_a_region_asks_the_home_region(world: DeployedStage) -> None:
    world.deploy(HOME, RULES)
    place = Place.named(stage="prod", region=None, endpoint=world.endpoint, environ={})
    try:
        found = [each.region for each in place.regions()]
    except OperationFailedError as error:
        found = [str(error)]
    assert found == [HOME]
    assert place.home == HOME


def test_a_region_of_the_environment_wins_and_the_error_names_the_home_region(
    ruled: DeployedStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", OTHER)
    result = typed(ruled, "storage report")
    assert f"not deployed in {OTHER}" in said(result)
    assert f"The home region of stage prod is {HOME}: add --region {HOME}." in said(result)
    assert "region add" not in result.output
    assert result.exit_code == 1


@pytest.mark.usefixtures("rules")
def test_no_advice_builds_a_region_that_the_rules_leave_out(world: DeployedStage) -> None:
    for line in ("status", f"status --region {OTHER}", f"settings show --region {OTHER}"):
        result = typed(world, line)
        assert result.exit_code == 1
        assert f"region add {OTHER}" not in said(result)


OUTSIDE = f"{OTHER}: outside the rules of stage prod (rollout.allow)"


@pytest.mark.parametrize(("line", "code", "told"), [
    (f"region add {OTHER}", 2, f"{OUTSIDE}. Nothing is built there."),
    (f"region add {OTHER} --dry-run", 2, f"{OUTSIDE}. Nothing is built there."),
    (f"deploy --region {OTHER}", 2, f"{OUTSIDE}. Nothing is built there."),
    (f"deploy --region {OTHER} --dry-run", 2, f"{OUTSIDE}. Nothing is built there."),
    (f"region add {OTHER} --dry-run --outside-rules", 0, f"{OUTSIDE}, and --outside-rules was given."),
    (f"region add {HOME} --dry-run", 0, ""),
    ("region add eu-central-1 --dry-run", 0, ""),
])  # fmt: skip
def test_a_region_outside_the_rules_is_refused_unless_it_is_meant(
    ruled: DeployedStage, line: str, code: int, told: str
) -> None:
    result = typed(ruled, line)
    assert result.exit_code == code, result.output
    assert told in said(result)
    assert "--outside-rules" in result.output or not told


def test_rules_that_nobody_gave_refuse_nothing(world: DeployedStage) -> None:
    world.deploy(OTHER)
    assert typed(world, "region add ap-southeast-9 --dry-run").exit_code == 0
    assert typed(world, "region add ap-southeast-9 --dry-run", stage="local").exit_code == 0


def test_a_stage_of_emulators_stays_where_it_was(world: DeployedStage) -> None:
    result = typed(world, "status", stage="local")
    assert f"Deploy it with `metering region add {OTHER} --stage local`" in said(result)
    assert {region for region, _ in world.asked} == {OTHER}


def test_a_file_that_cannot_be_read_is_said_and_a_named_region_needs_none(ruled: DeployedStage, rules: Path) -> None:
    for text, words in (("[stage", "is not TOML"), ('[stage.prod.rollout]\nhome = "mars"\n', "it must be a region")):
        rules.write_text(text)
        result = typed(ruled, "settings show")
        assert (result.exit_code, words in said(result)) == (2, True), result.output
        assert words not in said(typed(ruled, f"storage report --region {HOME}"))


def test_the_home_region_knows_the_regions_of_the_stage_whichever_is_named(world: DeployedStage) -> None:
    """With `--region`, budgets and served costs once counted only that region, whose ledger lists no other regions."""
    world.deploy(HOME, RULES)
    world.deploy(OTHER, RULES)
    stage = Session(endpoint=world.endpoint, region=OTHER, stage="prod").regions
    assert stage.names == [HOME]
    assert (stage.home, world.asked[-1]) == (HOME, (HOME, "Query"))


# What can be checked in settings without a deployment.

EXAMPLE = Path(__file__).parents[3] / "docs" / "metering.toml"
# Nothing listens on port 9 of this machine (discard).
NOWHERE = ("--endpoint", "http://127.0.0.1:9")


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


def test_a_file_is_checked_without_aws_and_says_its_stages() -> None:
    result = CliRunner().invoke(app, ["settings", "validate", str(EXAMPLE), "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "stage,like,settings"
    assert "staging,prod,1" in result.stdout


def test_all_problems_of_all_stages_are_said_and_the_exit_code_is_2(tmp_path: Path) -> None:
    text = '[stage.prod]\nbatch_size = 0\n[stage.emea]\nlike = "prd"\nsubscription = 1\n'
    (tmp_path / "metering.toml").write_text(text)
    said = refused("settings", "validate")
    assert "metering.toml [stage.prod]: batch_size is 0; it must be a whole number from 1 to 10,000." in said
    assert "metering.toml [stage.emea]: like is 'prd'" in said
    assert "metering.toml has 2 problems." in said
    assert "metering settings fields" in said


def test_without_a_file_there_is_nothing_to_check() -> None:
    said = refused("settings", "validate")
    assert "There is no metering.toml" in said
    assert "metering settings validate FILE" in said
    assert "none.toml cannot be read" in refused("settings", "validate", "none.toml")


def test_the_fields_are_listed_from_the_model() -> None:
    result = CliRunner().invoke(app, ["settings", "fields", "--format", "json"])
    rows = {row["setting"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["max_concurrency"] == {
        "setting": "max_concurrency", "kind": "a whole number from 2 to 1,000", "default": "20",
        "meaning": "Most aggregators at a time.",
    }  # fmt: skip


@pytest.mark.parametrize("command", [
    ("region", "add", "us-east-1", *NOWHERE),
    ("region", "reconcile", *NOWHERE),
    ("region", "plan", *NOWHERE),
    ("settings", "diff", *NOWHERE),
    ("local", "up"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize(("options", "words"), [
    (("--set", "foo"), "--set foo: not FIELD=VALUE."),
    (("--set", "=5"), "--set =5: not FIELD=VALUE."),
    (("--set", "foo=1"), "--set foo is not a setting"),
    (("--set", "subscription=[]"), "did you mean subscriptions?"),
    (("--set", "batch_size=0"), "--set batch_size is 0; it must be a whole number from 1 to 10,000."),
    (("--set", "tunables={broken"), "that is not JSON"),
    (("--set", "stage=x"), "the stage has the name that --stage says"),
    (("--set", "batch_size=5", "--unset", "batch_size"), "given by --set and taken back by --unset"),
    (("--settings", "none.toml"), "none.toml does not exist"),
], ids=lambda each: each[-1] if isinstance(each, tuple) else "")  # fmt: skip
def test_wrong_settings_are_refused_before_anything_is_asked_or_sent(
    command: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    assert words in refused(*command, *options)


def test_a_name_that_nobody_knows_cannot_be_taken_back() -> None:
    said = refused("local", "up", "--unset", "subscription")
    assert "--unset subscription is not a setting: did you mean subscriptions?" in said


@pytest.mark.parametrize("command", [("add", "us-east-1"), ("reconcile",)], ids=" ".join)
def test_a_deployment_to_aws_without_a_terminal_and_without_yes_is_refused(command: tuple[str, ...]) -> None:
    assert "add --yes" in refused("region", *command, "--stage", "prod", "--redeploy")


def test_a_stage_of_the_file_that_is_for_emulators_never_reaches_aws(tmp_path: Path) -> None:
    """Before the first call (which lacks credentials here), a stage is identified by its base, whatever its name is."""
    (tmp_path / "metering.toml").write_text('[stage.mine]\nlike = "local"\n')
    result = CliRunner().invoke(app, ["region", "plan", "--stage", "mine"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Stage mine runs on an emulator" in result.stderr


def test_a_broken_file_is_said_by_every_command_that_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "metering.toml"
    file.write_text("[stage.local]\nbatch_size = 0\n")
    for command in (("region", "add", "us-east-1", *NOWHERE), ("local", "up")):
        assert "metering.toml [stage.local]: batch_size is 0" in refused(*command)
    # The same applies to a file that the environment names.
    file.rename(tmp_path / "other.toml")
    monkeypatch.setenv("METERING_SETTINGS", "other.toml")
    assert "other.toml [stage.local]: batch_size is 0" in refused("local", "up")


@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_dead_endpoint_is_told_as_everywhere(command: str) -> None:
    result = CliRunner().invoke(app, ["settings", command, *NOWHERE])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gives no answer" in result.stderr
