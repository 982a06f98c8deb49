"""Hundreds of wrong command lines, made from the command tree: each results in an error sentence with advice.

The command tree, and therefore this test, includes every new command.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from metering.cli.app import app
from metering.cli.command import Session, command
from metering.cli.groups import CommandGroup
from tests.support.command_line import Leaf, groups, leaves, long_name
from tests.support.with_each import with_each

# Nothing listens on port 9 of this machine (discard).
NOWHERE = ("--endpoint", "http://127.0.0.1:9")
TIMES = ("0127-07-08", "2026-13", "2026-02-30", "2026-11-24T13:00:00", "long ago", "9999-12-31", "")
ENDPOINTS = ("127.0.0.1:4566", "localhost", "http://", "ftp://127.0.0.1", "http://127.0.0.1:port")
# Commands that start their own emulator, even if an endpoint is given.
STARTS_AN_EMULATOR = {("demo",), ("local", "up"), ("local", "reset")}
# Commands that need no region.
OFFLINE = {("logs", "format"), ("runbook",), ("settings", "fields"), ("settings", "validate")}
LEAVES = leaves()


def of_options(leaf: Leaf) -> Iterator[list[str]]:
    """Command lines with invalid option values, and with options that are misspelt or lack their value."""
    for option in leaf.options:
        name = long_name(option)
        if len(name) > 4:
            yield [*leaf.needed, name[:-2] + name[-1], *([] if option.is_flag else ["1"])]
        if option.is_flag:
            yield [*leaf.needed, f"{name}=maybe"]
            continue
        yield [*leaf.needed, name]
        yield from ([*leaf.needed, name, value] for value in wrong_values(option.metavar or "", option))


def wrong_values(metavar: str, option: typer.core.TyperOption) -> Iterator[str]:
    kind = option.type_descriptor.annotation
    if kind in {int, float}:
        yield from ("many", "", "1e", "0x1")
        yield from (["1.5"] if kind is int else [])
        yield from ([str(option.min - 1)] if option.min is not None else [])
        yield from ([str(option.max + 1)] if option.max is not None else [])
    elif option.type_descriptor.choices:
        yield from ("xml", "")
    elif metavar == "TIME":
        yield from TIMES
    elif metavar == "DURATION":
        yield from ("soon", "-1s", "1.5h", "")


def of_places(leaf: Leaf) -> Iterator[list[str]]:
    """Command lines with an invalid region, stage or endpoint, or with unwritable files."""
    names = {long_name(option) for option in leaf.options}
    if leaf.words in STARTS_AN_EMULATOR:
        return
    if "--endpoint" in names:
        yield from ([*leaf.needed, "--endpoint", endpoint] for endpoint in ENDPOINTS)
    if "--output" in names:
        yield from (
            [*leaf.needed, "--output", file, *NOWHERE]
            for file in ("/nowhere/at/all.json", "figures.xlsx", "figures.foo", "/", "/proc/version/x.csv")
        )


def of_words(leaf: Leaf) -> Iterator[list[str]]:
    if leaf.needed:
        yield leaf.needed[:-1]
    if not any(argument.nargs == -1 for argument in leaf.arguments) and not hasattr(leaf.command, "commands"):
        yield [*[argument.metavar or "x" for argument in leaf.arguments], "one", "two"]
    yield [*leaf.needed, "--no-such-option"]
    yield [*leaf.needed, "-Z"]


def of_groups() -> Iterator[list[str]]:
    for words in groups():
        yield [*words, "no-such-command"]
        yield [*words, "--no-such-option"]
        yield [*words, "-Z", "--help"]


LINES = [
    *([*leaf.words, *line] for leaf in LEAVES for make in (of_words, of_options, of_places) for line in make(leaf)),
    *of_groups(),
]
# More command lines that people have typed; none of them prompts.
TYPED = """
report usage --group-by colour
report usage --group-by tier
cost --group-by colour
cost explain
trace
trace --account 123456789012 --hour 2026-11-24T13:30:00Z
batch show 'no batch'
reconcile --result --deep
restore
restore --to yesterday-ish
restore --to 2026-11-29T10:00:00Z --from-nothing
restore --from-nothing --from-copy old
rebuild usage --restored
report usage --from gestern
report usage --from 2026-12-01 --to 2026-11-01
report nothing
compare bill.csv --by week
compare bill.csv --tolerance much
replay --scenario nothing
replay --scenario clean --input x.ndjson
replay --scenario clean --late 0.9 --malformed 0.9
ingest --dry-run s3://
ingest --dry-run . --since soon
ingest --dry-run . --kind alb
ingest --dry-run . --accounts 12
nothing
invoice issue
invoice issue --month 2026-9
invoice issue --month 9999-12
invoice issue --month 2026-10 --as-drafted x
invoice draft --month 2026-10 --payer 12
invoice list --format html
invoice credit 123456789012-2026-10-1
region add us-east-1a
region remove Frankfurt
region plan --set max_concurrency
alerts test --severity loud
doctor --only everything
dlq redrive --max 0
quarantine list --kind odd
quarantine retry
quarantine retry edge-1 --reason too_late
period close 2026-9
period close 2026-10 --accept everything
period show 2026-10 --group-by colour
period show 2026-10 --group-by ,
period show 2026-13
period verify last
reconcile --from 2026-12 --to 2026-11
sources accept-gap edge 9-3
sources accept-gap edge some
sources accept-gap edge
sources unknown
logs format --minutes 5
logs add acme-logs --accounts organization
query ''
query 'SELECT 1; SELECT 2'
query SELEC
token create
token create --role customer
token create --role analyst --account 12
token create --role analyst --label '\x1b'
report usage --from 0999-01
report usage --from 1969-12-31
report usage --from 2026-11-24T13:29:00Z
report usage --from 2090-01
report usage --endpoint http:///x
report usage --endpoint http://127.0.0.1:99999
report usage --endpoint 'http://a b'
report usage --endpoint //127.0.0.1
report usage --region 'no region'
query 'SELECT 1' --region 'no region'
report usage --account 1
report usage --from 2026-11-02 --to 2026-11-01
query 'SELECT 1' --timeout 0
query
query -
query --file /nowhere/q.sql
query --file /
query 'SELECT 1' --limit -1
query 'SELECT 1' --tz Mars/Base
query 'SELECT 1' --last 7
report usage --last soon
report usage --last 7d --from today
report usage --tz ../etc/passwd
report usage --tz Asia/Kolkata --group-by day
report usage --top 0
report usage --sort colour
report usage --service 'Amazon EC2'
report usage --usage-type 'a b'
verify --manifest /nowhere/m.json
compact --clean-after -1
verify --from 2090-01
reconcile --from 1969-12-31
"""
# Inputs whose errors are found only when they are read, so that the command exits with 1.
OF_A_FILE = ("replay --input /nowhere/at/all.ndjson", "replay --input /", f"replay --input {__file__}",
             f"verify --manifest {__file__}")  # fmt: skip
# Environment variables that a user may have set, and that make it impossible for a command to work.
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "an endpoint without a scheme": {"AWS_ENDPOINT_URL": "127.0.0.1:4566"},
    "an endpoint that does not answer": {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    "a region that is none": {"AWS_REGION": "no region", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    "a profile that does not exist": {"AWS_PROFILE": "nobody", "METERING_STAGE": "dev"},
    "no credentials": {"METERING_STAGE": "dev"},
    "half of the credentials": {"METERING_STAGE": "dev", "AWS_ACCESS_KEY_ID": "AKIA"},
    "a retry mode that is none": {"AWS_RETRY_MODE": "often", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    "certificates that are not there": {"AWS_CA_BUNDLE": "/nowhere.pem", "AWS_ENDPOINT_URL": "https://127.0.0.1:9"},
    "a configuration that is none": {"AWS_CONFIG_FILE": __file__, "METERING_STAGE": "dev"},
    "a stage that is none": {"METERING_STAGE": "no such stage", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
}
CONNECTING = ("report usage", "verify", "dlq list", "quarantine list", "query 'SELECT 1'", "reconcile", "region status")


@pytest.fixture(autouse=True)
def _own_directory(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def complaints(code: int, out: str, err: str) -> list[str]:
    """Which rules for the result of a wrong command line are violated."""
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    found = {
        f"exit {code}": code not in {1, 2},
        "there is data": out != "",
        "a traceback": "Traceback" in err,
        "not one error": len(errors) != 1,
        "no advice": len(lines) < 2,
        "prose of a library": re.search(r"\[Errno|Input should|Extra inputs|validation error|argument\(s\)", err),
        "something is said twice": any(re.search(r"(\b.{24,}\b).*\1", line) for line in errors),
    }
    return [what for what, wrong in found.items() if wrong]


def outcome(result: Result) -> list[str]:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return [f"{type(result.exception).__name__} got out: {result.exception}"]
    found = complaints(result.exit_code, result.stdout, result.stderr)
    return [f"{what}: {result.stdout}{result.stderr}" for what in found]


@pytest.mark.cases
@pytest.mark.parametrize("line", LINES, ids=shlex.join)
def test_a_wrong_command_line_ends_in_a_sentence_that_says_what_to_do(line: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, line, prog_name="metering")
    assert outcome(result) == []
    assert result.exit_code == 2, f"what is typed is checked before anything is asked: {result.stderr}"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@with_each([*TYPED.strip().splitlines(), "verify --manifest /", *OF_A_FILE])
def test_what_people_have_typed_ends_in_a_sentence_that_says_what_to_do(line: str) -> None:
    words = shlex.split(line)
    result = CliRunner().invoke(app, [*words, *([] if "--endpoint" in words else NOWHERE)], prog_name="metering")
    assert outcome(result) == []
    assert result.exit_code == (1 if line in OF_A_FILE else 2)


def test_they_are_many_and_every_command_has_some() -> None:
    assert len({shlex.join(line) for line in LINES}) >= 400
    assert {leaf.words for leaf in LEAVES} <= {tuple(line[:length]) for line in LINES for length in (1, 2, 3)}


@pytest.mark.parametrize("words", CONNECTING)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_in_which_nothing_can_be_asked_is_told(
    environment: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENTS[environment].items():
        monkeypatch.setenv(name, value)
    assert outcome(CliRunner().invoke(app, shlex.split(words), prog_name="metering")) == []


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: " ".join(leaf.words))
def test_an_endpoint_that_is_dead_gives_no_answer_and_no_traceback(leaf: Leaf) -> None:
    """Commands that need no region may succeed; others must not print data."""
    if leaf.words in STARTS_AN_EMULATOR or "--endpoint" not in {long_name(option) for option in leaf.options}:
        pytest.skip("it does not look at the endpoint")
    result = CliRunner().invoke(app, [*leaf.words, *leaf.needed, *NOWHERE], prog_name="metering")
    assert outcome(result) == [] or leaf.words[0] == "local" or (leaf.words in OFFLINE and result.exit_code == 0)


def broken(error: BaseException) -> typer.Typer:
    """A program with one command, which fails with an unexpected error."""
    wrong = typer.Typer(cls=CommandGroup, pretty_exceptions_enable=False, add_completion=False)
    family = typer.Typer()

    @command(family, "fail")
    def fail(_session: Session) -> None:
        """Fail."""
        raise error

    wrong.add_typer(family)
    return wrong


def test_an_error_that_nobody_foresaw_is_found() -> None:
    assert outcome(CliRunner().invoke(broken(KeyError("bytes")), ["fail"])) == ["KeyError got out: 'bytes'"]


@pytest.mark.parametrize(("code", "out", "err"), [
    (0, "", "Error: It failed.\nSee it.\n"),
    (1, "{}", "Error: It failed.\nSee it.\n"),
    (1, "", "It failed.\nSee it.\n"),
    (1, "", "Error: It failed.\n"),
    (1, "", "Error: Input should be less than 5.\nSee it.\n"),
    (1, "", "Error: /nowhere: [Errno 2] No such file.\nSee it.\n"),
    (1, "", "Error: there is no such file or folder: there is no such file or folder.\nSee it.\n"),
])  # fmt: skip
def test_every_complaint_can_be_made(code: int, out: str, err: str) -> None:
    assert len(complaints(code, out, err)) == 1
    assert complaints(2, "", "Error: It failed.\nSee it.\n") == []


def program(*arguments: str, closed: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("metering")), *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}, text=True, check=False, timeout=60,
        preexec_fn=None if closed is None else lambda: os.close(closed),
    )  # fmt: skip


@pytest.mark.parametrize("line", ["report usage --from yesteryear", "reprt", "replay --threads 99", "query 'SELEC'"])
def test_a_program_ends_as_the_command_line_does(line: str) -> None:
    done = program(*shlex.split(line), *(NOWHERE if "reprt" not in line else ()))
    assert complaints(done.returncode, done.stdout, done.stderr) == []


@pytest.mark.parametrize("environ", [{}, {"PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}, {"LC_ALL": "xx_YY"}], ids=str)
def test_a_poor_environment_is_no_trouble(environ: dict[str, str]) -> None:
    """Run without HOME, in an unknown locale, on a dumb terminal."""
    kept = {"PATH": os.environ["PATH"], "METERING_LOCAL_DIR": os.environ["METERING_LOCAL_DIR"]}
    done = program("report", "usage", "--account", "größe", *NOWHERE, env=kept | environ)
    assert complaints(done.returncode, done.stdout, done.stderr) == []
    assert program("local", "status", env=kept | environ).returncode == 1
    assert program("--help", env=kept | environ).returncode == 0


def test_the_sdk_needs_no_home_to_find_that_nothing_answers() -> None:
    """This test is one of the few that wait for retries in a real process."""
    kept = {"PATH": os.environ["PATH"], "METERING_LOCAL_DIR": os.environ["METERING_LOCAL_DIR"]}
    done = program("report", "usage", *NOWHERE, "--stage", "night", env=kept)
    assert complaints(done.returncode, done.stdout, done.stderr) == []
    assert "gives no answer" in done.stderr


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize("line", ["local status --format json", "report usage --from yesteryear", "--help"])
def test_a_stream_that_was_closed_is_no_traceback(line: str, stream: int) -> None:
    done = program(*shlex.split(line), closed=stream)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("line", ["local status --format json", "report usage --from yesteryear", "--help"])
def test_a_pipe_that_nobody_reads_is_no_traceback(line: str, stream: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = program(*shlex.split(line), **{stream: writing})
    os.close(writing)
    assert "Traceback" not in (done.stderr or "")
    assert done.returncode in {0, 1, 2}
