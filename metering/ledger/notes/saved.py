"""Saved questions, whose reports the biller makes, and what the biller last made of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from metering.ledger.notes.money import BILLER_KEY
from metering.ledger.partitions import NOTE
from metering.stores.codec import AnyText, SortKey, StoredItem, after
from metering.stores.writes import Key

QUESTIONS_PK = f"{NOTE}reports"
Every = Literal["day", "week", "month"]


def question_key(name: str) -> Key:
    """Key of a saved question."""
    return Key(QUESTIONS_PK, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuestion(StoredItem):
    """A saved question.

    Attributes:
        about: Whether it is a report of usage or of costs.
        parameters: The parameters that differ from their defaults, as a JSON object.
        prices: Price book of costs; empty for the one in force.
    """

    name: SortKey
    every: Every
    about: Literal["usage", "cost"]
    parameters: str
    prices: AnyText = ""
    set_s: int

    @property
    def key(self) -> Key:
        return question_key(self.name)


_MADE = "report#"


def made_key(name: str) -> Key:
    """Key of what was last made of a question. The biller may write in this partition."""
    return Key(BILLER_KEY.pk, f"{_MADE}{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastReport(StoredItem):
    """Work on a question's newest report.

    Attributes:
        question: Digest of the question, which makes the report of a changed question another report.
        date: Day on which the report was due, `2026-11-30`.
        attempts: Attempts that began; an attempt that ends says so by `sent`, or takes itself back.
        sent: Whether the report is made, and its message accepted.
        document: Key of the report's document; empty while the report is not made.
        refused: Reason why there is no page; empty if there is one.
    """

    name: Annotated[str, after("sk", _MADE)]
    question: str
    date: str
    attempts: int = 0
    sent: bool = False
    document: AnyText = ""
    refused: AnyText = ""

    @property
    def key(self) -> Key:
        return made_key(self.name)
