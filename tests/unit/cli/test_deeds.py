"""Deeds: target and effect are stated first, a person agrees, and the audit trail has a line, whatever happens."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from metering.cli.command import Session
from metering.cli.deeds import Done, Ground, Intent, Person, Terminal, recorded
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.operations.logged_errors import DeedTrail
from tests.support.answering import MINISTACK, remember_emulator, serving
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from metering.stores.items import ItemStore

WHO = "arn:aws:sts::123456789012:assumed-role/Operator/ada"
FAR_S = 4_102_444_800


@dataclass
class Answers:
    """A person who gives these answers, or none."""

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
    """A deed with its ground, its person, and its output."""

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
            stage="prod",
            region="eu-west-1",
            endpoint=None,
            emulated=self.emulated,
            caller=self.caller,
            items=self.ledger,
        )
        intent = Intent(
            what="period close", subject="2026-10", consequence="October can never change again.", typed=typed
        )
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
        DeedState.OK,
        "closed, 120 hours",
        WHO,
        Consent.ANSWERED,
    )
    assert ended.ended_ms >= ended.at_ms


@pytest.mark.parametrize("answer", ["y", "yes", "2026-1", ""])
def test_what_is_for_good_needs_its_word_and_no_other(answer: str) -> None:
    scene = Scene(person=Answers([answer]))
    with pytest.raises(CommandFailedError, match="2026-10 was not typed"), scene.deed(typed="2026-10"):
        pytest.fail("the word was not typed")
    assert scene.trail() == []


def test_the_word_typed_does_what_is_for_good() -> None:
    scene = Scene(person=Answers(["2026-10"]))
    with scene.deed(typed="2026-10"):
        pass
    assert [deed.consent for deed in scene.trail()] == [Consent.TYPED]


def test_without_a_terminal_and_without_yes_nobody_is_even_asked_who_is_calling() -> None:
    scene = Scene(person=Answers())
    with pytest.raises(WrongUsageError, match="--yes"), scene.deed():
        pytest.fail("nobody agreed")
    assert (scene.callers, scene.trail(), scene.said) == (0, [], [])


def test_yes_on_the_command_line_shows_the_summary_and_asks_nothing() -> None:
    scene = Scene(person=Answers(), agreed=True)
    with scene.deed(typed="2026-10"):
        pass
    assert "October can never change again." in "\n".join(scene.said)
    assert [deed.consent for deed in scene.trail()] == [Consent.YES]


def test_on_an_emulator_nothing_is_asked_or_said_and_the_trail_has_its_line() -> None:
    scene = Scene(person=Answers(["n"]), emulated=True)
    with scene.deed(typed="2026-10"):
        pass
    assert scene.said == scene.person.asked == []
    assert [deed.consent for deed in scene.trail()] == [Consent.EMULATOR]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OperationFailedError("It is too early.", "Wait."), "It is too early."),
        (KeyboardInterrupt(), "It was interrupted."),
        (RuntimeError("odd"), "RuntimeError: odd"),
    ],
)
def test_an_error_ends_the_line_with_its_sentence_and_goes_on_to_the_caller(
    error: BaseException, sentence: str
) -> None:
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
    """Refuses every write after the first ones."""

    def __init__(self, *, after: int, error: MeteringError | None = None) -> None:
        super().__init__()
        self._left = after
        self._error = error or OperationFailedError("PutItem was refused: not authorized")

    def put(self, action: object) -> None:
        if self._left == 0:
            raise self._error
        self._left -= 1
        super().put(action)  # type: ignore[arg-type]  # as it came


@pytest.mark.parametrize(
    ("emulated", "error"),
    [
        (False, OperationFailedError("PutItem was refused: not authorized")),
        (False, UnavailableError("dynamodb.PutItem", "throttled")),
        (True, UnavailableError("dynamodb.PutItem", "nobody is there")),
    ],
)
def test_a_deed_that_the_trail_cannot_take_is_not_done(emulated: bool, error: MeteringError) -> None:
    scene = Scene(person=Answers(), agreed=True, emulated=emulated, items=Refusing(after=0, error=error))
    with pytest.raises(CommandFailedError, match="audit trail cannot be written, so nothing was done"), scene.deed():
        pytest.fail("it would leave no trace")


def test_a_deed_on_an_emulator_that_refuses_the_trail_goes_on_and_says_so() -> None:
    scene = Scene(person=Answers(), emulated=True, items=Refusing(after=0))
    done = False
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


def session(
    *,
    stage: str,
    endpoint: str | None = None,
    person: Person | None = None,
    changes: bool = False,
    agreed: bool = False,
) -> Session:
    return Session(
        endpoint=endpoint, region="us-east-1", stage=stage, changes=changes, agreed=agreed, person=person or Answers()
    )


@pytest.mark.usefixtures("nowhere")
def test_whether_it_is_an_emulator_is_told_by_its_answer_and_never_by_the_name_of_the_stage() -> None:
    with serving(MINISTACK) as endpoint:
        assert session(stage="prod", endpoint=endpoint).emulated
    with serving({}) as endpoint:
        assert not session(stage="local", endpoint=endpoint).emulated
    assert not session(stage="prod").emulated


@pytest.mark.usefixtures("nowhere")
def test_a_changing_command_gets_no_endpoint_until_somebody_agreed_or_can_be_asked() -> None:
    with pytest.raises(WrongUsageError, match="--yes"):
        _ = session(stage="prod", changes=True).endpoint
    assert session(stage="prod", changes=True, agreed=True).endpoint is None
    assert session(stage="prod", changes=True, person=Answers([])).endpoint is None
    with serving(MINISTACK) as endpoint:
        assert session(stage="prod", endpoint=endpoint, changes=True).endpoint == endpoint


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(("stage", "found"), [("local", True), ("killtest", True), ("prod", False)])
def test_the_emulator_that_runs_here_is_found_by_the_stages_of_emulators_alone(stage: str, found: bool) -> None:
    with serving(MINISTACK) as endpoint:
        remember_emulator(endpoint, stage=stage)
        assert session(stage=stage).endpoint == (endpoint if found else None)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("stage", ["local", "killtest"])
def test_a_stage_of_emulators_gets_no_endpoint_that_is_aws(stage: str) -> None:
    with pytest.raises(CommandFailedError, match=f"Stage {stage} runs on an emulator, and none runs here") as refused:
        _ = session(stage=stage).endpoint
    assert "metering local up" in refused.value.advice
    with serving({}) as endpoint, pytest.raises(CommandFailedError, match=f"and {endpoint} is none"):
        _ = session(stage=stage, endpoint=endpoint).endpoint
    with pytest.raises(CommandFailedError, match="is none"):
        _ = session(stage=stage, endpoint="https://sqs.us-east-1.amazonaws.com").endpoint


@pytest.mark.parametrize("closed", ["<&-", "<&- 2>&- >&-"])
def test_with_a_closed_stdin_a_deed_is_not_done_and_it_is_said_what_to_type(closed: str, tmp_path: Path) -> None:
    """X6: it ended in a traceback."""
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
            [sys.executable, "-c", _ASKING],
            stdin=theirs if stdin else subprocess.DEVNULL,
            stderr=theirs if stderr else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == ("True 'yes'\n" if stdin and stderr else "False \n")
        if stdin and stderr:
            assert b"Go on? [y/N] " in os.read(ours, 1_000)
    finally:
        os.close(ours)
        os.close(theirs)
