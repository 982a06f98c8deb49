"""Every command is declared as reading or changing, and no changing command acts on AWS without asking."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session
from typer.testing import CliRunner

import metering.cli.commands
from metering.cli.app import app
from metering.replay.given import SAMPLE
from tests.support.answering import serving
from tests.support.bills import BILL
from tests.support.command_line import leaves
from tests.support.with_each import with_each

READING = {
    "accounts", "alerts list", "anomalies", "audit", "batch show", "budget check", "budget forecast", "budget list",
    "compare", "completion", "context list", "context show", "cost", "cost explain", "dlq list", "drops list", "errors",
    "export cur", "export focus", "help", "invoice draft", "invoice list", "invoice show", "invoice verify",
    "local env", "local outputs", "local status", "logs format", "logs list", "organization history",
    "organization show", "period list", "period show", "period verify", "prices check", "prices diff",
    "prices history", "prices override list", "prices show", "producers list",
    "producers show", "quarantine list", "quarantine show", "query",
    "region plan", "region status", "report usage", "runbook", "serve", "settings diff", "settings fields",
    "settings show", "settings validate", "sources", "status", "storage report", "token list", "trace", "verify",
}  # fmt: skip
# Commands that change something without a question.
UNASKED = {
    "compact": "the schedule does the same within minutes",
    "reconcile": "the schedule does the same within minutes",
    "logs coverage": "the schedule does the same within minutes",
    "budget update": "the schedule does the same within the hour",
    "demo": "starts an emulator of its own, and asks for no other",
    "local up": "an emulator of this machine",
    "local down": "an emulator of this machine",
    "local reset": "an emulator of this machine",
}
THIS_MACHINE = {
    "demo", "local down", "local env", "local outputs", "local reset", "local status", "local up", "settings fields",
    "settings validate",
}  # fmt: skip
# Commands that explain the command line, and ask no region.
NOWHERE = {"help", "completion", "runbook", "logs format"}
# Typed values for the arguments, by their metavar.
WORDS = {
    "YYYY-MM": "2026-10", "SOURCE": "edge", "NUMBERS": "3-4", "REGION": "eu-west-1", "BATCH": "edge-1",
    "SQL": "SELECT 1", "TOPIC": "times", "SHELL": "bash", "FILE": "metering.toml", "FUNCTION": "watch",
    "ALARM": "dead-letters", "PLACE": "s3://acme-logs/AWSLogs/", "LOG": "fl-0abc", "SLOTS": "all",
    "BILL…": str(BILL), "FILE…": str(BILL),
    "LOGS": str(SAMPLE), "CONTEXT": "newest", "INVOICE": "123456789012-2026-10-1",
    "BUDGET": "egress", "[BUDGET]": "egress", "TOKEN": "5d41402abc4b2a76", "PRODUCER": "edge",
}  # fmt: skip
# Options without which the command does nothing.
OPTIONS = {
    "cost explain": (
        "--account", "123456789012", "--hour", "2026-11-01T00:00:00Z", "--usage-type", "DataTransfer-Out-Bytes",
    ),
    "export cur": ("--month", "2026-10", "--output", "out"), "export focus": ("--month", "2026-10", "--output", "out"),
    "invoice draft": ("--month", "2026-10"), "invoice issue": ("--month", "2026-10"),
    "budget set": ("--amount", "500 USD", "--account", "123456789012"),
    "invoice credit": ("--because", "A price was wrong."),
    "producers add": ("--accounts", "123456789012"),
    "prices override set": ("--payer", "999988887777", "--percent-off", "10", "--from", "2026-12"),
    "prices override remove": ("--payer", "999988887777", "--from", "2026-12"),
    "trace": ("--account", "123456789012"),
    "token create": ("--role", "analyst"),
    "replay": ("--input", str(SAMPLE), "--shift-to-now"), "logs add": ("--accounts", "organization"),
}  # fmt: skip


ALL = {" ".join(leaf.words): leaf.command for leaf in leaves()}
CHANGING = sorted(words for words, found in ALL.items() if any(param.name == "yes" for param in found.params))


def line_of(words: str) -> list[str]:
    """A complete command line."""
    arguments = [param for param in ALL[words].params if param.param_type_name == "argument"]
    return [*words.split(), *OPTIONS.get(words, ()), *(WORDS[str(param.metavar)] for param in arguments)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The SDK's requests, each answered with a refusal."""
    requests: list[str] = []

    def send(_session: object, request: object) -> AWSResponse:
        requests.append(str(getattr(request, "url", "")))
        return AWSResponse(requests[-1], 403, HTTPHeaders(), None)

    monkeypatch.setattr(URLLib3Session, "send", send)
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "LOCALSTACK_HOST", "METERING_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return requests


def test_every_command_is_declared_as_one_that_reads_or_one_that_changes() -> None:
    assert READING | UNASKED.keys() | {*CHANGING} == ALL.keys()
    assert not READING & {*CHANGING}
    assert not UNASKED.keys() & {*CHANGING}


def test_compact_and_reconcile_never_ask() -> None:
    assert not {"compact", "reconcile"} & {*CHANGING}


@pytest.mark.parametrize("words", CHANGING)
def test_a_deed_without_a_terminal_and_without_yes_sends_nothing_to_aws(words: str, sent: list[str]) -> None:
    result = CliRunner().invoke(app, [*line_of(words), "--stage", "dev"])
    assert (result.exit_code, result.stdout, sent) == (2, "", [])
    assert result.stderr.startswith("Error: This command changes stage dev in ")
    assert "add --yes" in result.stderr
    assert result.stderr.count(". ") == 0


@pytest.mark.parametrize("words", CHANGING)
def test_a_deed_sends_nothing_to_an_endpoint_that_does_not_say_that_it_is_an_emulator(
    words: str, sent: list[str]
) -> None:
    with serving({"/": b"a door to AWS"}) as endpoint:
        result = CliRunner().invoke(app, [*line_of(words), "--stage", "dev", "--endpoint", endpoint])
    assert (result.exit_code, result.stdout, sent) == (2, "", [])
    assert "add --yes" in result.stderr


@pytest.mark.parametrize("words", sorted(ALL.keys() - THIS_MACHINE - NOWHERE))
@pytest.mark.parametrize("yes", [False, True])
def test_a_stage_of_emulators_sends_nothing_to_aws_whatever_the_command(words: str, yes: bool, sent: list[str]) -> None:
    line = [*line_of(words), *(["--yes"] if yes and words in CHANGING else [])]
    result = CliRunner().invoke(app, line)
    assert (result.exit_code, result.stdout, sent) == (1, "", []), result.output
    assert "Stage local runs on an emulator, and none runs here." in result.stderr
    assert "metering local up" in result.stderr


@pytest.mark.parametrize("words", CHANGING)
def test_with_yes_a_deed_goes_to_aws(words: str, sent: list[str]) -> None:
    result = CliRunner().invoke(app, [*line_of(words), "--stage", "dev", "--yes"])
    assert result.exit_code == 1
    assert sent


def functions_with_deeds(source: str) -> tuple[set[str], set[str]]:
    """Functions declared with `changes=True`, and functions that do a deed directly or through the module."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    declared = {
        each.name
        for each in functions
        for decorator in each.decorator_list
        if isinstance(decorator, ast.Call) and any(word.arg == "changes" for word in decorator.keywords)
    }
    called = {each.name: {node.func for node in ast.walk(each) if isinstance(node, ast.Call)} for each in functions}
    doing = {
        name for name, calls in called.items() if any(isinstance(c, ast.Attribute) and c.attr == "deed" for c in calls)
    }
    through = {name for name, calls in called.items() if any(isinstance(c, ast.Name) and c.id in doing for c in calls)}
    helpers = {name for name in doing if name.startswith("_")}
    return declared, (doing - helpers) | through


MODULES = sorted(Path(metering.cli.commands.__path__[0]).rglob("*.py"))


@with_each(MODULES, lambda path: path.stem)
def test_what_is_declared_as_a_change_is_a_deed_and_no_deed_is_undeclared(module: Path) -> None:
    declared, doing = functions_with_deeds(module.read_text())
    assert declared == doing


def test_a_change_without_a_deed_and_a_deed_without_a_declaration_would_be_seen() -> None:
    source = (
        "@command(app, 'a', changes=True)\ndef a(s): s.go()\ndef b(s): s.deed()\ndef _c(s): s.deed()\ndef d(s): _c(s)"
    )
    assert functions_with_deeds(source) == ({"a"}, {"b", "d"})
