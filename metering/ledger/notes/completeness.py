"""Completeness of the count, as the watch last measured it: `W#complete`, `W`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.writes import Item, Value


COMPLETENESS_KEY = Key(f"{NOTE}complete", "W")


class Holder(StrEnum):
    """Kinds of things that hold completeness back."""

    QUEUE = "queue"
    HELD_MESSAGES = "held_messages"
    PUT_BACK = "put_back"
    DEAD_LETTERS = "dead_letters"
    WAITING_COMMITS = "waiting_commits"
    SOURCE_GAPS = "source_gaps"
    LOG_GAPS = "log_gaps"
    LOG_DELAY = "log_delay"
    LOG_SETTLING = "log_settling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One thing that holds completeness back.

    Attributes:
        holder: A `Holder`, or the word of a later version for one that this version does not know.
        since_s: Everything sent before this time is counted as far as this thing goes, epoch seconds. 0: not known.
        count: Number of messages, commits or sources; 0 if it is not known.
        name: Name of the first of them, if it has one.
        place: Where to get what is missing, `s3://bucket/prefix`; empty if nowhere.
    """

    holder: str
    since_s: int
    count: int = 0
    name: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Completeness of the count, as the watch last measured it.

    Attributes:
        through_s: Every batch sent before this time is counted, epoch seconds. This stays true, so it may be read late.
        held_by: All that held it back, the earliest first. Empty if nothing did.
        measured_s: Time of the measurement, epoch seconds; None if an earlier version measured it, which did not say.
    """

    through_s: int
    held_by: tuple[Hold, ...] = ()
    measured_s: int | None = None

    def to_item(self) -> dict[str, Value]:
        held_by: list[Value] = [[hold.holder, hold.since_s, hold.count] for hold in self.held_by]
        # Versions that know no log sources take three values a row, so names and places stand beside them.
        names: list[Value] = [[hold.holder, hold.name, hold.place] for hold in self.held_by if hold.name]
        measured: dict[str, Value] = {} if self.measured_s is None else {"measured_s": self.measured_s}
        return {
            **COMPLETENESS_KEY._asdict(),
            "through_s": self.through_s,
            "held_by": held_by,
            **({"held_names": names} if names else {}),
            **measured,
        }

    @classmethod
    def from_item(cls, item: Item) -> Completeness:
        fields = Fields.of_item(item)
        return cls(
            through_s=fields.whole("through_s"),
            held_by=_held_by(fields) if "held_by" in fields else (),
            measured_s=fields.whole("measured_s", absent=None),
        )


def _held_by(fields: Fields) -> tuple[Hold, ...]:
    rows = fields.rows("held_names", ("holder", "name", "place")) if "held_names" in fields else ()
    names = {row.text("holder"): (row.text("name"), row.any_text("place")) for row in rows}
    return tuple(_hold(each, names) for each in fields.rows("held_by", ("holder", "since_s", "count")))


def _hold(row: Fields, names: Mapping[str, tuple[str, str]]) -> Hold:
    holder = row.text("holder")
    name, place = names.get(holder, ("", ""))
    return Hold(holder=holder, since_s=row.whole("since_s"), count=row.whole("count"), name=name, place=place)
