"""Checks of the doctor: a question about AWS, what was seen, and a verdict that is never better than what was seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.errors import MeteringError, UnavailableError
from metering.operations.doctor.bench import CannotAskError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from metering.operations.doctor.bench import Bench


class Verdict(StrEnum):
    """What a check came to.

    `ok` only if AWS was seen to do what the service relies on. What endpoint, caller or stage cannot show is `unknown`,
    never `ok`.
    """

    OK = "ok"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen.

    Attributes:
        saw: What was seen, in words for people.
        advice: What to do; empty if there is nothing to do.
    """

    verdict: Verdict
    saw: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the service relies on.

    Attributes:
        name: Name to ask for it by.
        question: What is asked, as a question.
        thorough: It costs money, takes minutes or pages people, so it must be asked for.
        look: Looks, and tidies up what it made.
    """

    name: str
    question: str
    thorough: bool = False
    look: Callable[[Bench], Observation]


def ok(saw: str) -> Observation:
    """AWS does what the service relies on."""
    return Observation(verdict=Verdict.OK, saw=saw)


def differs(saw: str, advice: str) -> Observation:
    """AWS does something else."""
    return Observation(verdict=Verdict.DIFFERS, saw=saw, advice=advice)


def unknown(saw: str, advice: str = "") -> Observation:
    """Nothing was seen that would decide it."""
    return Observation(verdict=Verdict.UNKNOWN, saw=saw, advice=advice)


ASK_THOROUGHLY = "Run it with --thorough."


def examine(bench: Bench, checks: Iterable[Check], *, thorough: bool) -> Iterator[tuple[Check, Observation]]:
    """Make each check in turn. One that fails to look says so, and does not end the others."""
    for check in checks:
        if check.thorough and not thorough:
            yield check, unknown("not asked: it costs money, takes minutes or pages people", ASK_THOROUGHLY)
        else:
            yield check, _looked(bench, check)


def _looked(bench: Bench, check: Check) -> Observation:
    try:
        with bench.asking():
            return check.look(bench)
    except CannotAskError as error:
        return unknown(str(error), error.advice)
    except RefusedError as error:
        return differs(str(error), "The service makes the same call. Read the message, and report it with its words.")
    except UnavailableError as error:
        return unknown(f"no answer: {error}", "Run it again.")
    except MeteringError as error:
        return differs(f"{type(error).__name__}: {error}", "Report it with these words: the service would fail alike.")
