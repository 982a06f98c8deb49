"""What log sources hold back: files of flow logs that did not come, and logs that come late by nature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.notes.completeness import Hold, Holder

if TYPE_CHECKING:
    from metering.ledger.notes.log_sources import LogFigures


def log_holds(known: LogFigures, *, now_s: int) -> list[Hold]:
    """What the log sources of a stage hold back.

    A figure is as old as the job's last run, so a job that does not run any more holds back, too.

    Args:
        known: Figures of the coverage job.
        now_s: The time now, epoch seconds.
    """
    holds: list[Hold] = []
    seen_s = min(known.looked_s, now_s)
    if known.held_s is not None:
        gaps = known.holding > 0
        holds.append(
            Hold(
                holder=Holder.LOG_GAPS if gaps else Holder.LOG_DELAY,
                since_s=min(known.held_s, seen_s),
                count=known.holding,
                name=known.first if gaps else "",
                place=known.place if gaps else "",
            )
        )
    if known.settles_s:
        holds.append(Hold(holder=Holder.LOG_SETTLING, since_s=max(seen_s - known.settles_s, 0)))
    return holds
