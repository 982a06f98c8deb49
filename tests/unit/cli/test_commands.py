"""The command line from outside: exit codes, streams, helpful errors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
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


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No emulator that runs here is seen, and no account of whoever runs the tests."""
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path / "local"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the installed command."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("metering")), *arguments],
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def help_of(*words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


@with_each([
    (), ("demo",), ("replay",), ("report", "usage"), ("verify",), ("doctor",), ("local", "up"), ("local", "down"),
    ("local", "status"), ("local", "reset"), ("dlq", "list"), ("dlq", "redrive"), ("drops", "list"), ("drops", "send"),
    ("quarantine", "list"),
    ("quarantine", "show"), ("quarantine", "retry"), ("sources",), ("sources", "accept-gap"), ("sources", "forget"),
    ("settings", "show"), ("settings", "diff"), ("settings", "validate"), ("settings", "fields"),
    ("logs", "list"), ("logs", "coverage"), ("logs", "add"), ("logs", "format"),
    ("logs", "accept-gap"), ("logs", "forget"),
    ("status",), ("period", "close"), ("period", "list"), ("period", "show"), ("period", "verify"), ("compare",),
    ("ingest",), ("prices", "import"), ("prices", "show"), ("prices", "diff"), ("prices", "history"),
    ("prices", "override", "set"), ("prices", "check"), ("organization", "set"), ("organization", "show"),
    ("organization", "history"), ("cost",), ("cost", "explain"),
    ("invoice", "draft"), ("invoice", "issue"), ("invoice", "show"), ("invoice", "verify"), ("invoice", "credit"),
    ("invoice", "list"), ("trace",), ("batch", "show"), ("serve",), ("token", "create"), ("token", "list"),
    ("token", "revoke"),
])  # fmt: skip
def test_every_command_of_the_contract_has_a_help_page(words: tuple[str, ...]) -> None:
    assert "Usage" in help_of(*words)


@pytest.mark.parametrize("words", [
    ("replay",), ("report", "usage"), ("verify",), ("local", "up"), ("compare",), ("ingest",),
    ("cost",), ("cost", "explain"), ("trace",), ("batch", "show"), ("serve",), ("token", "create"),
])  # fmt: skip
def test_help_teaches_with_examples(words: tuple[str, ...]) -> None:
    assert "metering " in help_of(*words).split("Examples")[1]


@pytest.mark.parametrize("arguments", [
    ("report", "usage"), ("report", "usage", "--region", "all"), ("verify", "--region", "all"), ("dlq", "list"),
    ("region", "status"), ("region", "plan"), ("region", "add", "eu-west-1"), ("region", "remove", "eu-west-1"),
    ("sources",), ("sources", "forget", "edge"), ("status",), ("status", "--region", "all"), ("period", "list"),
    ("invoice", "list"), ("invoice", "issue", "--month", "2026-10", "--yes"),
    ("period", "close", "2026-10", "--yes"), ("period", "close", "2026-10", "--dry-run"),
])  # fmt: skip
def test_an_endpoint_that_does_not_answer_is_said_in_a_sentence_without_a_traceback(arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, *NOWHERE)
    assert (code, out) == (1, "")
    assert "gives no answer" in err
    assert "metering local up" in err
    assert "Traceback" not in err


@with_each([
    ("report", "usage", "--group-by", "colour"),
    ("report", "usage", "--group-by", "tier"),
    ("cost", "--group-by", "colour"),
    ("cost", "explain"),
    ("trace",),
    ("trace", "--account", "123456789012", "--hour", "2026-11-24T13:30:00Z"),
    ("trace", "--account", "1,2"),
    ("batch", "show", "no batch"),
    ("reconcile", "--result", "--deep"),
    ("report", "usage", "--from", "gestern"),
    ("report", "usage", "--from", "2026-11-24T13:00:00"),
    ("report", "usage", "--from", "2026-12-01", "--to", "2026-11-01"),
    ("report", "usage", "--format", "xml"),
    ("report", "nothing"),
    ("verify", "--wait", "soon"),
    ("compare",),
    ("compare", "bill.csv", "--by", "week"),
    ("compare", "bill.csv", "--tolerance", "much"),
    ("replay", "--scenario", "nothing"),
    ("replay", "--scenario", "clean", "--input", "x.ndjson"),
    ("replay", "--scenario", "clean", "--late", "0.9", "--malformed", "0.9"),
    ("replay", "--duplicates", "2"),
    ("ingest",),
    ("ingest", "--dry-run", "s3://"),
    ("ingest", "--dry-run", ".", "--since", "soon"),
    ("ingest", "--dry-run", ".", "--kind", "alb"),
    ("ingest", "--dry-run", ".", "--accounts", "12"),
    ("ingest", "--dry-run", ".", "--jobs", "0"),
    ("nothing",),
    ("invoice", "issue"),
    ("invoice", "issue", "--month", "2026-9"),
    ("invoice", "issue", "--month", "9999-12"),
    ("invoice", "issue", "--month", "2026-10", "--as-drafted", "x"),
    ("invoice", "draft", "--month", "2026-10", "--payer", "12"),
    ("invoice", "list", "--format", "html"),
    ("invoice", "credit", "123456789012-2026-10-1"),
    ("region", "add", "us-east-1a"),
    ("region", "remove", "Frankfurt"),
    ("region", "plan", "--set", "max_concurrency"),
    ("alerts", "test", "--severity", "loud"),
    ("doctor", "--only", "everything"),
    ("dlq", "redrive", "--max", "0"),
    ("drops", "send", "--since", "soon"),
    ("quarantine", "list", "--kind", "odd"),
    ("quarantine", "retry"),
    ("quarantine", "retry", "edge-1", "--reason", "too_late"),
    ("period", "close", "2026-9"),
    ("period", "close", "2026-10", "--accept", "everything"),
    ("period", "show", "2026-10", "--group-by", "colour"),
    ("period", "show", "2026-10", "--group-by", ","),
    ("period", "show", "2026-13"),
    ("period", "verify", "last"),
    ("compact", "--clean-after", "soon"),
    ("reconcile", "--from", "2026-12", "--to", "2026-11"),
    ("rebuild", "usage", "--from", "gestern"),
    ("sources", "accept-gap", "edge", "9-3"),
    ("sources", "accept-gap", "edge", "some"),
    ("sources", "accept-gap", "edge"),
    ("sources", "forget"),
    ("sources", "unknown"),
    ("logs", "format", "--minutes", "5"),
    ("logs", "coverage", "--from", "gestern"),
    ("logs", "add", "s3://acme-logs/", "--accounts", "everybody"),
    ("logs", "add", "acme-logs", "--accounts", "organization"),
    ("query", ""),
    ("query", "SELECT 1; SELECT 2"),
    ("query", "SELEC"),
    ("serve", "--port", "65536"),
    ("token", "create"),
    ("token", "create", "--role", "root"),
    ("token", "create", "--role", "customer"),
    ("token", "create", "--role", "analyst", "--account", "12"),
    ("token", "create", "--role", "analyst", "--days", "0"),
    ("token", "create", "--role", "analyst", "--days", "367"),
    ("token", "create", "--role", "analyst", "--label", "\x1b"),
    ("token", "revoke"),
])  # fmt: skip
def test_wrong_usage_exits_with_2_and_prints_no_data(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*NOWHERE, *arguments])
    assert result.exit_code == 2, result.output
    assert result.stdout == ""


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
    """No endpoint and no key: what nobody could ask must not look like an empty answer."""
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
    # A version that is being made has its lines under Unreleased.
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
