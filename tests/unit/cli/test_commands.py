"""The command line from outside: exit codes, streams, helpful errors."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metering.cli import start
from metering.cli.app import app
from metering.cli.failures import WrongUsageError
from metering.cli.options import parse_duration
from metering.intake.messages import SCHEMA
from metering.ledger.format_version import FORMAT_VERSION
from metering.version import CONTRACT_VERSION
from tests.support.with_each import with_each

ROOT = Path(__file__).parents[3]
# Nothing listens on port 9 of this machine (discard).
NOWHERE = ("--endpoint", "http://127.0.0.1:9")

pytestmark = pytest.mark.usefixtures("nobody")


@with_each([
    "replay", "report usage", "verify", "local up", "compare", "ingest", "cost", "cost explain", "trace", "batch show",
    "serve", "token create",
])  # fmt: skip
def test_help_teaches_with_examples(words: str) -> None:
    result = CliRunner().invoke(app, [*words.split(), "--help"])
    assert "metering " in result.output.split("Examples")[1]


@with_each([
    "report usage", "report usage --region all", "verify --region all", "dlq list", "region status", "region plan",
    "region add eu-west-1", "region remove eu-west-1", "sources", "sources forget edge", "status",
    "status --region all", "period list", "invoice list", "invoice issue --month 2026-10 --yes",
    "period close 2026-10 --yes", "period close 2026-10 --dry-run",
])  # fmt: skip
def test_an_endpoint_that_does_not_answer_is_said_in_a_sentence_without_a_traceback(line: str) -> None:
    result = CliRunner().invoke(app, [*line.split(), *NOWHERE])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gives no answer" in result.stderr
    assert "metering local up" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_every_problem_of_a_question_is_said_at_once_by_the_name_of_its_option() -> None:
    arguments = ("--group-by", "colour,hour", "--account", "1", "--from", "gestern", "--to", "2026-11-24T13:00:00.5Z")
    result = CliRunner().invoke(app, ["report", "usage", *arguments, *NOWHERE])
    assert (result.exit_code, result.stdout) == (2, "")
    for problem in (
        "--group-by colour is not one of the columns.",
        "--account 1 is not an account",
        "--from gestern is not a time.",
        "--to 2026-11-24T13:00:00.5Z has a fraction of a second.",
    ):
        assert problem in result.stderr


@pytest.mark.parametrize("arguments", [("region", "status"), ("dlq", "list")])
def test_without_credentials_nothing_is_said_to_be_absent(arguments: tuple[str, ...]) -> None:
    """No endpoint and no key: a failed query must not look like an empty answer."""
    result = CliRunner().invoke(app, [*arguments, "--stage", "dev"], env={"AWS_EC2_METADATA_DISABLED": "true"})
    assert (result.exit_code, result.stdout) == (1, "")
    assert "AWS does not know who is asking" in result.stderr


def test_a_file_without_records_exits_with_1_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "empty.ndjson"
    path.write_text("")
    result = CliRunner().invoke(app, ["replay", "--input", str(path), *NOWHERE])
    assert result.exit_code == 1
    assert "empty.ndjson" in result.stderr


def test_local_status_says_that_nothing_runs_as_data_and_by_its_exit_code() -> None:
    result = CliRunner().invoke(app, ["local", "status", "--format", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["running"] is False


def test_local_down_is_done_when_nothing_runs() -> None:
    assert CliRunner().invoke(app, ["local", "down"]).exit_code == 0


def test_places_may_stand_between_a_family_and_its_command() -> None:
    result = CliRunner().invoke(app, ["sources", *NOWHERE, "--stage", "dev", "forget", "edge"])
    assert result.exit_code == 1
    assert "127.0.0.1:9 gives no answer" in result.stderr


def test_the_versions_are_those_of_the_project_and_of_its_contract() -> None:
    result = CliRunner().invoke(app, ["--version"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (result.exit_code, result.stdout) == (
        0,
        f"metering {project['version']} (data format {FORMAT_VERSION}, contract {CONTRACT_VERSION})\n",
    )
    assert (ROOT / "docs" / "contract.md").read_text().splitlines()[2].startswith(f"Version {CONTRACT_VERSION}. ")
    assert f"metering.batch/{CONTRACT_VERSION}" == SCHEMA
    # A version in development has its lines under Unreleased.
    heading = "## [Unreleased]" if ".dev" in project["version"] else f"## [{project['version']}] - "
    assert heading in (ROOT / "CHANGELOG.md").read_text()


def test_an_installation_without_the_command_lines_packages_is_told_which_extra_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in {"rich", "typer"} else found(name))
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert str(ended.value) == (
        "Error: the command line needs rich, typer, which this installation lacks.\n"
        "Install the package with its extra: transfer-metering[cli]."
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2d", 172_800)]
)
def test_durations_are_written_as_people_write_them(text: str, seconds: int) -> None:
    assert parse_duration(text, "--wait") == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "1.5h", "10 minutes"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(WrongUsageError):
        parse_duration(text, "--wait")
