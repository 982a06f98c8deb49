"""Problems with what a report is asked: data that the command line and an HTTP API put into words of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import MeteringError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterProblem:
    """One parameter that cannot be used.

    Attributes:
        parameter: Name as in a URL's query, such as `group_by`; the option has dashes.
        value: The text that was given, or the part of it that is wrong.
        problem: The rest of a sentence that begins with the value: `is not a time.`
        advice: What to ask instead, in sentences; empty if the problem says it.
    """

    parameter: str
    value: str
    problem: str
    advice: str = ""


def check_rows(rows: int, most: int | None) -> None:
    """Refuse an answer that has more rows than are summed here, while it is made: memory would not end otherwise.

    Args:
        rows: Rows so far.
        most: As many as there may be; None: any number.

    Raises:
        InvalidParametersError: There are more.
    """
    if most is not None and rows > most:
        problem = f"would give more than {most:,} rows, and that many are the most that are summed at once."
        advice = "Group by fewer columns, ask for a shorter range, or read the lake with SQL: metering query."
        raise InvalidParametersError(
            [ParameterProblem(parameter="group_by", value="Such a question", problem=problem, advice=advice)]
        )


class InvalidParametersError(MeteringError):
    """A question that makes no sense.

    Attributes:
        problems: Every problem found.
    """

    def __init__(self, problems: Sequence[ParameterProblem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)
        for advice in dict.fromkeys(each.advice for each in problems if each.advice):
            self.add_note(advice)

    def __str__(self) -> str:
        return " ".join(f"{each.parameter} {each.value} {each.problem}" for each in self.problems)
