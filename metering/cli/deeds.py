"""Deeds: a command that changes something first shows what and where, asks for consent, and writes to the audit trail.

On an emulator, the command does not ask for consent. On AWS, a person answers the question, or a script passes `--yes`.
If there is neither a terminal nor `--yes`, the command ends before it sends any request.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

import typer

from metering.adapters.aws import errors
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.operations.logged_errors import DeedTrail
from metering.reports.answer import printable
from metering.version import package_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.stores.writes import ItemStore


class Person(Protocol):
    """The person who runs the command."""

    @property
    def present(self) -> bool:
        """Whether a person is there to read and answer a question."""

    def answer(self, question: str) -> str:
        """Ask a question, and return the line that was typed, stripped; empty at the end of the input."""


class Terminal:
    """The person at the terminal: questions go to stderr, answers come from stdin."""

    @property
    def present(self) -> bool:
        return _is_terminal(sys.stdin) and _is_terminal(sys.stderr)

    def answer(self, question: str) -> str:
        sys.stderr.write(printable(question))
        sys.stderr.flush()
        return sys.stdin.readline().strip()


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal. Python sets a standard stream to None if it was closed before the start."""
    return stream is not None and not stream.closed and stream.isatty()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where a deed takes place, and where it is recorded.

    Attributes:
        stage, region: Where it is done.
        endpoint: URL; None for AWS.
        emulated: Whether the endpoint is an emulator.
        caller: Returns the caller's ARN.
        items: Returns the ledger that holds the audit trail; None while no ledger exists.
    """

    stage: str
    region: str
    endpoint: str | None
    emulated: bool
    caller: Callable[[], str]
    items: Callable[[], ItemStore | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A command's intended action.

    Attributes:
        what: The command's words, such as `period close`.
        subject: Object of the action, such as `2026-10`; empty if the action has no object.
        consequence: One sentence about the effect of the deed.
        typed: Word that the user must type before an irreversible deed; if None, the question is y or n.
    """

    what: str
    subject: str
    consequence: str
    typed: str | None = None


@dataclass(slots=True)
class Done:
    """Result of a deed, which the command sets before the deed ends. Mutable.

    Attributes:
        result: The outcome, in words.
        failed: Whether the deed failed without raising an error.
    """

    result: str = "done"
    failed: bool = False


def need_consent(*, stage: str, region: str, endpoint: str | None) -> WrongUsageError:
    """The error for a deed that nobody consented to, if there is no terminal for the question."""
    return WrongUsageError(
        f"This command changes stage {stage} in {region} ({endpoint or 'AWS'}), and there is no terminal to ask on: "
        "if that is meant, add --yes."
    )


@contextmanager
def recorded(
    intent: Intent, ground: Ground, *, agreed: bool, person: Person, say: Callable[[str, str], None]
) -> Iterator[Done]:
    """Ask for consent, run the body, and record in the audit trail when the deed starts and ends.

    Args:
        intent: What will be done.
        ground: Place of the deed.
        agreed: `--yes` was given.
        person: Whoever is asked.
        say: Prints a line on stderr in the given style.

    Raises:
        WrongUsageError: There is no terminal for the question, and `--yes` was not given.
        CommandFailedError: The user did not agree, or the audit trail cannot be written; in both cases, nothing was
            done.
    """
    if not (ground.emulated or agreed or person.present):
        raise need_consent(stage=ground.stage, region=ground.region, endpoint=ground.endpoint)
    who = ground.caller()
    consent = _consent(intent, ground, who, agreed=agreed, person=person, say=say)
    deed = Deed(
        deed_id=SystemEntropy().token()[:12],
        at_ms=SystemClock().now_ms(),
        what=intent.what,
        subject=intent.subject,
        consequence=intent.consequence,
        who=who,
        stage=ground.stage,
        region=ground.region,
        version=package_version(),
        consent=consent,
    )
    _begin(deed, ground, say)
    done = Done()
    try:
        yield done
    except BaseException as error:
        _end(deed, ground, DeedState.FAILED, _sentence(error), say)
        raise
    _end(deed, ground, DeedState.FAILED if done.failed else DeedState.OK, done.result, say)


def _consent(
    intent: Intent, ground: Ground, who: str, *, agreed: bool, person: Person, say: Callable[[str, str], None]
) -> Consent:
    if ground.emulated:
        return Consent.EMULATOR
    for line in _summary(intent, ground, who):
        say(line, "bold red")
    if agreed:
        return Consent.YES
    if intent.typed is None:
        if person.answer("Go on? [y/N] ").lower() in {"y", "yes"}:
            return Consent.ANSWERED
        raise CommandFailedError("Nothing was done.")
    if person.answer(f"This is for good. To go on, type {intent.typed}: ") == intent.typed:
        return Consent.TYPED
    raise CommandFailedError(f"Nothing was done: {intent.typed} was not typed.")


def _summary(intent: Intent, ground: Ground, who: str) -> list[str]:
    return [
        f"{intent.what} {intent.subject}".rstrip(),
        f"  account   {_account_of(who)}, as {who}",
        f"  region    {ground.region}",
        f"  stage     {ground.stage}",
        f"  endpoint  {ground.endpoint or 'AWS'}",
        f"  {intent.consequence}",
    ]


def _account_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) > 4 else "unknown"


def _begin(deed: Deed, ground: Ground, say: Callable[[str, str], None]) -> None:
    try:
        with errors.refusals_explained():
            items = ground.items()
            if items is not None:
                DeedTrail(items=items).begin(deed)
    except (OperationFailedError, UnavailableError) as error:
        if not ground.emulated or isinstance(error, UnavailableError):
            raise CommandFailedError(
                f"The audit trail cannot be written, so nothing was done: {error}",
                "Use credentials that may write the ledger, such as those of the operator role; "
                "or see whether the ledger answers.",
            ) from error
        say(f"The audit trail of this emulator has no line of this: {error}", "yellow")


def _end(deed: Deed, ground: Ground, state: DeedState, result: str, say: Callable[[str, str], None]) -> None:
    try:
        with errors.refusals_explained():
            # The items are read again, because the command may have created the ledger.
            items = ground.items()
            if items is not None:
                DeedTrail(items=items).end(deed, state=state, ended_ms=SystemClock().now_ms(), result=result)
    except MeteringError as error:
        say(f"The audit trail will show this as begun, without an end: {error}", "yellow")


def _sentence(error: BaseException) -> str:
    if isinstance(error, MeteringError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted."
    if isinstance(error, typer.Exit):
        return f"It ended with exit code {error.exit_code}."
    return f"{type(error).__name__}: {error}"
