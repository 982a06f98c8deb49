"""What holds completeness back, in words, with the command that cures it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.notes.completeness import Hold, Holder
from metering.units import DAY_S, HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.ledger.notes.completeness import Completeness

# The watch measures each minute. A measurement that is older than this is not given as a fresh one.
STALE_S = 5 * MINUTE_S
# What was sent is rolled up within this time, or an alarm is raised.
ROLLED_UP_S = 15 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBack:
    """One thing that holds completeness back.

    Attributes:
        what: What it is, in words.
        since_s: Time up to which it holds completeness back, epoch seconds; None if nobody can tell.
        cure: Command that cures it, with its region and stage.
        usual: Nothing is wrong: it is always so, and a person need not look at it.
    """

    what: str
    since_s: int | None
    cure: str
    usual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """Answer to "up to when is the count complete?".

    Attributes:
        through_s: All that was sent before this time is counted, as far as is known, epoch seconds; 0: not known.
        held_back_by: What holds it back, the earliest first; empty if nothing does.
    """

    through_s: int
    held_back_by: tuple[HeldBack, ...] = ()


def complete_of(known: Completeness, *, now_s: int, region: str, stage: str) -> Complete:
    """The answer that a measurement gives at `now_s`.

    Args:
        known: The measurement, of this version or an earlier one.
        now_s: The time now, epoch seconds.
        region: Region where it was measured.
        stage: Stage that was measured.
    """
    place = f"--region {region} --stage {stage}"
    redeploy = f"metering region add {region} --stage {stage} --redeploy"
    found = [_told(hold, place, now_s) for hold in known.held_by]
    if known.measured_s is None:
        # The watch of an earlier version measured it.
        what = "a watch of an earlier version, which does not say why or when it measured"
        found.append(HeldBack(what=what, since_s=known.through_s or None, cure=redeploy))
    elif now_s - known.measured_s > STALE_S:
        age = duration(now_s - known.measured_s)
        what = f"the watch, which has not measured for {age}"
        found.append(HeldBack(what=what, since_s=known.measured_s, cure=redeploy))
    return Complete(through_s=known.through_s, held_back_by=tuple(found))


def merged(answers: Mapping[str, Complete]) -> Complete:
    """One answer for several regions, by name: the earliest time, and all that holds any of them back."""
    held = [
        replace(each, what=f"{region}: {each.what}") if len(answers) > 1 else each
        for region, answer in answers.items()
        for each in answer.held_back_by
    ]
    through_s = min((answer.through_s for answer in answers.values()), default=0)
    return Complete(through_s=through_s, held_back_by=tuple(sorted(held, key=lambda each: each.since_s or 0)))


_WAIT = "metering verify --wait 5m"
# Holder -> what one of them is called, what several are called, the command that cures it.
_WORDS: dict[str, tuple[str, str, str]] = {
    Holder.QUEUE: ("message in the ingest queue", "messages in the ingest queue", _WAIT),
    Holder.HELD_MESSAGES: (
        "message that was received three times or more",
        "messages that were received three times or more",
        _WAIT,
    ),
    Holder.PUT_BACK: ("", "dead letters that were put back and have no verdict yet", _WAIT),
    Holder.DEAD_LETTERS: ("dead letter", "dead letters", "metering dlq redrive"),
    Holder.WAITING_COMMITS: (
        "commit that waits for the roll-up",
        "commits that wait for the roll-up",
        "metering compact --due",
    ),
    Holder.SOURCE_GAPS: ("", "numbers that a source misses", "metering sources --gaps"),
    Holder.LOG_GAPS: (
        "flow log whose files are missing",
        "flow logs whose files are missing",
        "metering logs coverage",
    ),
    Holder.LOG_DELAY: ("", "flow logs, whose files come about ten minutes late", "metering logs coverage"),
    Holder.LOG_SETTLING: ("", "logs of S3 or CloudFront, whose lines may come a day late", "metering logs coverage"),
}
_USUAL = frozenset({Holder.LOG_DELAY.value, Holder.LOG_SETTLING.value})


def _told(hold: Hold, place: str, now_s: int) -> HeldBack:
    # A watch of a later version may name what this version does not know.
    later = (hold.holder.replace("_", " "),) * 2
    one, several, cure = _WORDS.get(hold.holder, (*later, "metering status"))
    words = several if hold.count != 1 else one or several
    what = f"{hold.count:,} {words}" if hold.count and one else words
    if hold.name:
        what = f"{what}, {'first ' if hold.count > 1 else ''}{hold.name}"
    if hold.place:
        # Until an hour before, because a file holds what ended in its slot.
        hours = (max(now_s - hold.since_s, 0) + 2 * HOUR_S - 1) // HOUR_S
        cure = f"metering ingest {hold.place} --since {hours}h"
    usual = hold.holder in _USUAL or (hold.holder == Holder.WAITING_COMMITS and now_s - hold.since_s < ROLLED_UP_S)
    return HeldBack(what=what, since_s=hold.since_s or None, cure=f"{cure} {place}", usual=usual)


def duration(seconds: int) -> str:
    """A length of time in its largest whole unit, such as `4 hours`."""
    for size_s, unit in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute")):
        if seconds >= 2 * size_s or (seconds >= size_s and seconds % size_s == 0):
            count = seconds // size_s
            return f"{count:,} {unit}" + ("s" if count != 1 else "")
    return f"{seconds} s"


def sentences(held: HeldBack) -> tuple[str, str]:
    """Two lines for people: what holds completeness back since when, and the cure, alone so that it can be copied."""
    since = f"since {rfc3339(held.since_s)}" if held.since_s is not None else "for a time that is not known"
    return f"Held back by {held.what}, {since}.", f"Cure: {held.cure}"
