"""Deeds: place and effect are announced, a person agrees, the trail records the deed, and commands declare deeds."""

from __future__ import annotations

import ast
import os
import pty
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session
from typer.testing import CliRunner

import metering.cli.commands
from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.deeds import Done, Ground, Intent, Terminal, recorded
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.operations.logged_errors import DeedTrail
from metering.replay.given import SAMPLE
from tests.support.answering import MINISTACK, remember_emulator, serving
from tests.support.bills import BILL
from tests.support.command_line import leaves
from tests.support.memory.items import MemoryItemStore
from tests.support.with_each import with_each

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from metering.stores.writes import ItemStore

WHO = "arn:aws:sts::123456789012:assumed-role/Operator/ada"
FAR_S = 4_102_444_800


@dataclass
class Answers:
    """A person who answers with `lines`; if these are None, nobody is present."""

    lines: list[str] | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def present(self) -> bool:
        return self.lines is not None

    def answer(self, question: str) -> str:
        assert self.lines is not None
        self.asked.append(question)
        return self.lines.pop(0)


@dataclass
class Scene:
    """The circumstances of a deed: its person, its ledger and its output."""

    person: Answers
    agreed: bool = False
    emulated: bool = False
    items: MemoryItemStore | None = field(default_factory=MemoryItemStore)
    said: list[str] = field(default_factory=list)
    callers: int = 0

    def caller(self) -> str:
        self.callers += 1
        return WHO

    def ledger(self) -> ItemStore | None:
        return self.items

    def deed(self, typed: str | None = None) -> AbstractContextManager[Done]:
        ground = Ground(
            stage="prod", region="eu-west-1", endpoint=None, emulated=self.emulated, caller=self.caller,
            items=self.ledger,
        )  # fmt: skip
        consequence = "October can never change again."
        intent = Intent(what="period close", subject="2026-10", consequence=consequence, typed=typed)
        return recorded(intent, ground, agreed=self.agreed, person=self.person, say=self._say)

    def _say(self, text: str, _style: str) -> None:
        self.said.append(text)

    def trail(self) -> list[Deed]:
        assert self.items is not None
        return list(DeedTrail(items=self.items).between(0, FAR_S))


def test_account_region_stage_endpoint_and_consequence_are_said_before_the_question() -> None:
    scene = Scene(person=Answers(["n"]))
    with pytest.raises(CommandFailedError), scene.deed():
        pytest.fail("nobody agreed")
    shown = "\n".join(scene.said)
    for fact in ("period close 2026-10", "123456789012", WHO, "eu-west-1", "prod", "AWS", "October can never change"):
        assert fact in shown


@pytest.mark.parametrize("answer", ["", "n", "no", "2026-10", "yes please"])
def test_any_answer_but_yes_does_nothing_and_leaves_no_line(answer: str) -> None:
    scene = Scene(person=Answers([answer]))
    with pytest.raises(CommandFailedError, match="Nothing was done"), scene.deed():
        pytest.fail("nobody agreed")
    assert scene.trail() == []


@pytest.mark.parametrize("answer", ["y", "Y", "yes"])
def test_yes_does_it_and_the_trail_says_who_answered(answer: str) -> None:
    scene = Scene(person=Answers([answer]))
    with scene.deed() as done:
        [begun] = scene.trail()
        assert begun.state is DeedState.BEGUN
        done.result = "closed, 120 hours"
    [ended] = scene.trail()
    assert (ended.state, ended.result, ended.who, ended.consent) == (
        DeedState.OK, "closed, 120 hours", WHO, Consent.ANSWERED,
    )  # fmt: skip
    assert ended.ended_ms >= ended.at_ms


@pytest.mark.parametrize("answer", ["y", "yes", "2026-1", ""])
def test_what_is_for_good_needs_its_word_and_no_other(answer: str) -> None:
    scene = Scene(person=Answers([answer]))
    with pytest.raises(CommandFailedError, match="2026-10 was not typed"), scene.deed(typed="2026-10"):
        pytest.fail("the word was not typed")
    assert scene.trail() == []


@pytest.mark.parametrize(("answers", "agreed", "emulated", "consent"), [
    (["2026-10"], False, False, Consent.TYPED),
    (None, True, False, Consent.YES),
    (["n"], False, True, Consent.EMULATOR),
], ids=["typed", "--yes asks nothing", "on an emulator nothing is asked or said"])  # fmt: skip
def test_what_is_for_good_is_done_with_its_word_with_yes_and_on_an_emulator_and_the_trail_says_which(
    answers: list[str] | None, agreed: bool, emulated: bool, consent: Consent
) -> None:
    scene = Scene(person=Answers(answers), agreed=agreed, emulated=emulated)
    with scene.deed(typed="2026-10"):
        pass
    assert [deed.consent for deed in scene.trail()] == [consent]
    assert ("October can never change again." in "\n".join(scene.said)) == (not emulated)
    assert scene.said == [] or not emulated
    assert len(scene.person.asked) == (consent is Consent.TYPED)


def test_without_a_terminal_and_without_yes_nobody_is_even_asked_who_is_calling() -> None:
    scene = Scene(person=Answers())
    with pytest.raises(WrongUsageError, match="--yes"), scene.deed():
        pytest.fail("nobody agreed")
    assert (scene.callers, scene.trail(), scene.said) == (0, [], [])


@pytest.mark.parametrize(("error", "sentence"), [
    (OperationFailedError("It is too early.", "Wait."), "It is too early."),
    (KeyboardInterrupt(), "It was interrupted."),
    (RuntimeError("odd"), "RuntimeError: odd"),
])  # fmt: skip
def test_an_error_ends_the_line_with_its_sentence_and_reaches_the_caller(error: BaseException, sentence: str) -> None:
    scene = Scene(person=Answers(), agreed=True)
    with pytest.raises(type(error)), scene.deed():
        raise error
    assert [(deed.state, deed.result) for deed in scene.trail()] == [(DeedState.FAILED, sentence)]


def test_a_deed_that_did_not_do_what_it_was_to_do_failed_although_no_error_ended_it() -> None:
    scene = Scene(person=Answers(), agreed=True)
    with scene.deed() as done:
        done.result, done.failed = "eu-west-1 is failed", True
    assert [(deed.state, deed.result) for deed in scene.trail()] == [(DeedState.FAILED, "eu-west-1 is failed")]


class Refusing(MemoryItemStore):
    """Accepts `after` writes and refuses every later write."""

    def __init__(self, *, after: int, error: MeteringError | None = None) -> None:
        super().__init__()
        self._left = after
        self._error = error or OperationFailedError("PutItem was refused: not authorized")

    def put(self, action: object) -> None:
        if self._left == 0:
            raise self._error
        self._left -= 1
        super().put(action)  # type: ignore[arg-type]  # as it came


@pytest.mark.parametrize(("emulated", "error"), [
    (False, OperationFailedError("PutItem was refused: not authorized")),
    (False, UnavailableError("dynamodb.PutItem", "throttled")),
    (True, UnavailableError("dynamodb.PutItem", "nobody is there")),
])  # fmt: skip
def test_a_deed_that_the_trail_cannot_take_is_not_done(emulated: bool, error: MeteringError) -> None:
    scene = Scene(person=Answers(), agreed=True, emulated=emulated, items=Refusing(after=0, error=error))
    with pytest.raises(CommandFailedError, match="audit trail cannot be written, so nothing was done"), scene.deed():
        pytest.fail("it would leave no trace")


def test_a_deed_on_an_emulator_that_refuses_the_trail_goes_on_and_says_so() -> None:
    scene, done = Scene(person=Answers(), emulated=True, items=Refusing(after=0)), False
    with scene.deed():
        done = True
    assert done
    assert "no line of this" in scene.said[0]


def test_a_deed_whose_end_cannot_be_written_is_done_and_says_what_the_trail_will_show() -> None:
    scene = Scene(person=Answers(), agreed=True, items=Refusing(after=1))
    with scene.deed():
        pass
    assert "begun, without an end" in scene.said[-1]
    assert [deed.state for deed in scene.trail()] == [DeedState.BEGUN]


def test_the_deed_that_builds_the_ledger_is_its_first_line() -> None:
    scene = Scene(person=Answers(), agreed=True, items=None)
    with scene.deed():
        scene.items = MemoryItemStore()
    assert [deed.state for deed in scene.trail()] == [DeedState.OK]


def session(stage: str, **options: Any) -> Session:
    return Session(**{"endpoint": None, "region": "us-east-1", "stage": stage, "person": Answers(), **options})


@pytest.mark.usefixtures("nowhere")
def test_whether_it_is_an_emulator_is_told_by_its_answer_and_never_by_the_name_of_the_stage() -> None:
    with serving(MINISTACK) as endpoint:
        assert session("prod", endpoint=endpoint).emulated
    with serving({}) as endpoint:
        assert not session("local", endpoint=endpoint).emulated
    assert not session("prod").emulated


@pytest.mark.usefixtures("nowhere")
def test_a_changing_command_gets_no_endpoint_until_somebody_agreed_or_can_be_asked() -> None:
    with pytest.raises(WrongUsageError, match="--yes"):
        _ = session("prod", changes=True).endpoint
    assert session("prod", changes=True, agreed=True).endpoint is None
    assert session("prod", changes=True, person=Answers([])).endpoint is None
    with serving(MINISTACK) as endpoint:
        assert session("prod", endpoint=endpoint, changes=True).endpoint == endpoint


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(("stage", "found"), [("local", True), ("killtest", True), ("prod", False)])
def test_the_emulator_that_runs_here_is_found_by_the_stages_of_emulators_alone(stage: str, found: bool) -> None:
    with serving(MINISTACK) as endpoint:
        remember_emulator(endpoint, stage=stage)
        assert session(stage).endpoint == (endpoint if found else None)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("stage", ["local", "killtest"])
def test_a_stage_of_emulators_gets_no_endpoint_that_is_aws(stage: str) -> None:
    with pytest.raises(CommandFailedError, match=f"Stage {stage} runs on an emulator, and none runs here") as refused:
        _ = session(stage).endpoint
    assert "metering local up" in refused.value.advice
    with serving({}) as endpoint, pytest.raises(CommandFailedError, match=f"and {endpoint} is none"):
        _ = session(stage, endpoint=endpoint).endpoint
    with pytest.raises(CommandFailedError, match="is none"):
        _ = session(stage, endpoint="https://sqs.us-east-1.amazonaws.com").endpoint


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&- >&-"])
def test_with_a_closed_stdin_a_deed_is_not_done_and_it_is_said_what_to_type(closed: str, tmp_path: Path) -> None:
    program = shlex.quote("from metering.cli.start import main; main()")
    line = f"{sys.executable} -c {program} period close 2026-10 --stage prod --region us-east-1"
    environ = {"PATH": os.environ["PATH"], "METERING_LOCAL_DIR": str(tmp_path)}
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {line} {closed}"], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    if "2>" not in closed:
        assert "there is no terminal to ask on: if that is meant, add --yes." in done.stderr


@pytest.mark.parametrize("stream", ["stdin", "stderr"])
def test_nobody_is_at_a_stream_that_is_closed(stream: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = (tmp_path / "file").open("w+")
    file.close()
    for closed in (None, file):
        monkeypatch.setattr(sys, stream, closed)
        assert not Terminal().present


_ASKING = """
import sys
from metering.cli.deeds import Terminal
person = Terminal()
print(person.present, repr(person.answer("Go on? [y/N] ")) if person.present else "")
"""


@pytest.mark.parametrize(("stdin", "stderr"), [(True, True), (True, False), (False, True)])
def test_a_person_is_there_if_the_question_can_be_read_and_the_answer_typed(stdin: bool, stderr: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"  yes \n")
        done = subprocess.run(
            [sys.executable, "-c", _ASKING], stdin=theirs if stdin else subprocess.DEVNULL,
            stderr=theirs if stderr else subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stdout == ("True 'yes'\n" if stdin and stderr else "False \n")
        if stdin and stderr:
            assert b"Go on? [y/N] " in os.read(ours, 1_000)
    finally:
        os.close(ours)
        os.close(theirs)


# Every command is declared as either reading or changing, and on AWS no changing command runs without a question.

READING = {
    "accounts", "alerts list", "anomalies", "audit", "batch show", "budget check", "budget forecast", "budget list",
    "context example",
    "compare", "completion", "context list", "context show", "cost", "cost explain", "dlq list", "drops list", "errors",
    "export cur", "export focus", "help", "invoice draft", "invoice list", "invoice show", "invoice verify",
    "local env", "local outputs", "local status", "logs format", "logs list", "organization history",
    "organization show", "owners history", "owners show", "owners try",
    "period list", "period show", "period verify", "prices check", "prices diff",
    "prices history", "prices override list", "prices show", "producers list", "restore show",
    "producers show", "reports list", "reports show", "quarantine list", "quarantine show", "query",
    "region plan", "region status", "report usage", "runbook", "serve", "settings diff", "settings fields",
    "savings", "settings show", "settings validate", "sources", "status", "storage report", "token list", "trace",
    "verify", "what-if", "who",
}  # fmt: skip
# Commands that change something without a question.
UNASKED = {
    "compact": "the schedule does the same within minutes",
    "reconcile": "the schedule does the same within minutes",
    "logs coverage": "the schedule does the same within minutes",
    "budget update": "the schedule does the same within the hour",
    "reports make": "the schedule does the same within the hour",
    "restore assist": "adds to a restore that is under way",
    "demo": "starts an emulator of its own, and asks for no other",
    "local up": "an emulator of this machine",
    "local down": "an emulator of this machine",
    "local reset": "an emulator of this machine",
}
THIS_MACHINE = {
    "demo", "local down", "local env", "local outputs", "local reset", "local status", "local up", "settings fields",
    "settings validate",
}  # fmt: skip
# Commands that concern the command line itself, and need no region.
NOWHERE = {"help", "completion", "context example", "runbook", "logs format"}
# Values typed for the arguments, by their metavar.
WORDS = {
    "DIR": "/dev/null/try",
    "YYYY-MM": "2026-10", "SOURCE": "edge", "NUMBERS": "3-4", "REGION": "eu-west-1", "BATCH": "edge-1",
    "SQL": "SELECT 1", "TOPIC": "times", "SHELL": "bash", "FILE": "metering.toml", "FUNCTION": "watch",
    "ALARM": "dead-letters", "PLACE": "s3://acme-logs/AWSLogs/", "LOG": "fl-0abc", "SLOTS": "all",
    "BILL…": str(BILL), "FILE…": str(BILL), "RESOURCE…": "nat-1",
    "LOGS": str(SAMPLE), "CONTEXT": "newest", "INVOICE": "123456789012-2026-10-1",
    "REPORT": "egress", "BUDGET": "egress", "[BUDGET]": "egress", "TOKEN": "5d41402abc4b2a76", "PRODUCER": "edge",
    "N": "1", "RULE": "peering",
}  # fmt: skip
# Options without which their command does nothing.
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
    "trace": ("--account", "123456789012"), "restore": ("--from-nothing",),
    "token create": ("--role", "analyst"), "reports add": ("--every", "day"),
    "replay": ("--input", str(SAMPLE), "--shift-to-now"), "logs add": ("--accounts", "organization"),
}  # fmt: skip

ALL = {" ".join(leaf.words): leaf.command for leaf in leaves()}
CHANGING = sorted(words for words, found in ALL.items() if any(param.name == "yes" for param in found.params))


def line_of(words: str) -> list[str]:
    arguments = [param for param in ALL[words].params if param.param_type_name == "argument"]
    return [*words.split(), *OPTIONS.get(words, ()), *(WORDS[str(param.metavar)] for param in arguments)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The SDK's requests, each of which gets an error response."""
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


@pytest.mark.parametrize("words", CHANGING)
def test_a_deed_without_a_terminal_and_without_yes_sends_nothing_to_aws(words: str, sent: list[str]) -> None:
    result = CliRunner().invoke(app, [*line_of(words), "--stage", "dev"])
    assert (result.exit_code, result.stdout, sent) == (2, "", [])
    assert result.stderr.startswith("Error: This command changes stage dev in ")
    assert "add --yes" in result.stderr
    assert result.stderr.count(". ") == 0


@pytest.mark.parametrize("words", CHANGING)
def test_a_deed_sends_nothing_to_an_endpoint_that_does_not_call_itself_an_emulator(words: str, sent: list[str]) -> None:
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
    """Functions declared with `changes=True`, and functions that do a deed, directly or by a call of a function."""
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
