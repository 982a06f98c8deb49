"""The biller's sums of days and accounts for an in-memory region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.day_sums.keeper import DaySumKeeper

if TYPE_CHECKING:
    from tests.support.lake_world import World


def keeper_of(world: World, *, most_files: int = 2_000) -> DaySumKeeper:
    """The keeper of another process over the same stores."""
    return DaySumKeeper(
        items=world.items,
        objects=world.objects,
        totals=world.make_jobs().totals,
        clock=world.clock,
        shards=world.settings.shards,
        most_files=most_files,
    )


def keep_day_sums(world: World) -> None:
    keeper_of(world).keep(world.deadline())
