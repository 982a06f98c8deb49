"""Checks of a restored ledger when it opens: what the ledger before had accepted is accepted, and counted once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.booked_hours import PUBLISHED_PREFIX, Published
from metering.ledger.markers import Marker, is_marker
from metering.ledger.partitions import BATCH, HOUR, MONTH
from metering.restore.decision import Decision
from metering.stores.objects import decision_key
from metering.stores.writes import Key, Table, key_of
from metering.units import HOUR_S
from metering.usage.totals import sum_totals
from tests.simulation.checks.watch import ViolationError
from tests.support.memory.rows import plain_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.stores.writes import Item
    from tests.simulation.region.world import World
    from tests.simulation.sent.senders import SentBy

# What is about to expire is not looked for.
_SURELY_ALIVE_S = HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """Contents of the ledger before, when it was fenced.

    Attributes:
        markers: Accepted markers that live on.
        keys: Keys of the conflicts and aliases of these batches, with the id that an alias names.
        visible: Booked hour of each row that a reader saw.
        verdicts: Contents that were acknowledged, and that had a verdict.
    """

    markers: dict[str, Marker]
    keys: dict[Key, str]
    visible: dict[str, int]
    verdicts: frozenset[tuple[str, SentBy]]

    @classmethod
    def of(cls, world: World) -> Before:
        now_s = world.scheduler.now_ms // 1000
        items = [item for item in world.items.everything(Table.LEDGER) if _lives(item, now_s)]
        markers = {each.batch_id: each for each in map(Marker.from_item, filter(is_marker, items))}
        watch = world.watch
        accepted = {batch_id: each for batch_id, each in markers.items() if each.verdict == "accepted"}
        return cls(
            markers=accepted,
            # Notes of retries are for people.
            keys={
                key: str(item.get("retried_as", ""))
                for key, item in ((key_of(item), item) for item in items)
                if key.pk.removeprefix(BATCH) in accepted and key.sk[:2] != "N#"
            },
            visible={name: hour_s for hour_s, since in watch.visible_since.items() for name in since},
            verdicts=frozenset(
                (name, sender) for name, sender in watch.decided if watch.has_verdict(world.contents[name], sender)
            ),
        )

    def check(self, world: World, *, broken: bool) -> None:
        """Check the ledger that just opened, and let the watch follow it.

        Raises:
            ViolationError: Something is lost, doubled or different.
        """
        items = list(world.items.everything(Table.LEDGER))
        now_ms, watch = world.scheduler.now_ms, world.watch
        markers = {each.batch_id: each for each in map(Marker.from_item, filter(is_marker, items))}
        for batch_id, marker in markers.items():
            if marker.verdict == "rejected":
                watch.rejected.add(batch_id)
            elif marker.content_hash is not None:
                watch.accepted[batch_id] = (
                    marker.content_hash,
                    marker.commit_id,
                    watch.accepted.get(batch_id, ("", "", now_ms))[2],
                )
            elif marker.hours:
                watch.rebuilt.add(batch_id)
            else:
                watch.held.add(batch_id)
                watch.accepted.pop(batch_id, None)
        keys = set(map(key_of, items))
        watch.aliases |= {key for key in keys if key.sk.startswith("A#")}
        self._check_months(world)
        lost = {
            key
            for key, named in self.keys.items()
            if key not in keys and key.sk != "M" and not {key.pk.removeprefix(BATCH), named} & watch.held
        }
        if lost:
            raise ViolationError(f"restore: lost {sorted(lost)}")
        self._check_markers(markers, world)
        self._check_rows(watch.follow(items), world, broken=broken)
        for name, sender in sorted(self.verdicts | watch.decided):
            content = world.contents[name]
            if content.batch_id not in watch.held and not watch.has_verdict(content, sender):
                raise ViolationError(f"restore: {name} of {sender} was acknowledged, and has no verdict")

    def _check_markers(self, markers: dict[str, Marker], world: World) -> None:
        watch = world.watch
        for batch_id, before in self.markers.items():
            now = markers.get(batch_id)
            if batch_id in watch.held:
                continue
            if (now is None or now.verdict != "accepted") and _metered_elsewhere(before, world):
                # Several retries of one content were in staging: one of them is metered.
                watch.accepted.pop(batch_id, None)
                continue
            if now is None or now.verdict != "accepted":
                raise ViolationError(f"restore: {batch_id} was accepted, and is {now and now.verdict}")
            if batch_id in watch.rebuilt:
                same = _sum(before) == _sum(now)
            else:
                same = _facts(before) == _facts(now) and (
                    before.hours == now.hours or _rebooked(before, now, watch.closing)
                )
            if not same:
                raise ViolationError(f"restore: marker of {batch_id} was {_text(before)}, and is {_text(now)}")

    def _check_rows(self, seen: dict[str, int], world: World, *, broken: bool) -> None:
        watch, now_ms = world.watch, world.scheduler.now_ms
        held = {row.resource_id for each in world.contents.values() if each.batch_id in watch.held for row in each.rows}
        for name, hour_s in self.visible.items():
            if name in held:
                continue
            if name not in seen:
                raise ViolationError(f"restore: {name} was visible, and is lost")
            if seen[name] != hour_s and not watch.closing:
                raise ViolationError(f"restore: {name} moved to another hour")
        since, watch.visible_since = watch.visible_since, {}
        for name, hour_s in seen.items():
            watch.visible_since.setdefault(hour_s, {})[name] = since.get(hour_s, {}).get(name, now_ms)
        rows = [row for source in watch.objects_seen() for row in source if seen.get(row.resource_id) == row.booked_s]
        unique = {row.resource_id: row for row in rows}
        watch.booked = [(now_ms, tuple(unique.values()))]
        if not broken:
            waiting = watch.waiting_rows()
            expected = plain_usage(row for name, row in unique.items() if name not in waiting)
            if world.usage() != expected:
                wrong = [
                    key for key in expected.keys() | world.usage().keys() if world.usage().get(key) != expected.get(key)
                ]
                raise ViolationError(
                    f"restore: usage is wrong: {wrong[0]} {world.usage().get(wrong[0])} not {expected.get(wrong[0])}"
                )

    @staticmethod
    def _check_months(world: World) -> None:
        watch = world.watch
        states = {
            str(item["pk"])[2:]: str(item["state"])
            for item in world.items.everything(Table.LEDGER)
            if str(item["pk"]).startswith(MONTH)
        }
        closed = {month for month, state in states.items() if state == "closed"}
        if lost := watch.frozen - closed:
            raise ViolationError(f"restore: {sorted(lost)} was closed, and is not")
        watch.frozen = set(closed)
        watch.closing |= states.keys()


def _lives(item: Item, now_s: int) -> bool:
    return int(item.get("expires_at", now_s + 2 * _SURELY_ALIVE_S)) > now_s + _SURELY_ALIVE_S  # type: ignore[arg-type]  # a number


def _text(marker: Marker) -> str:
    return f"{_facts(marker)} in {dict(marker.hours)}"


def _facts(marker: Marker) -> tuple[object, ...]:
    return (
        marker.content_hash,
        marker.hash_version,
        marker.source_id,
        marker.sequence,
        marker.sender_id,
        marker.records,
        marker.metered,
        marker.refused,
    )


def _sum(marker: Marker) -> object:
    return sum_totals(marker.hours.values())


def _rebooked(before: Marker, now: Marker, closing: set[str]) -> bool:
    """Whether a batch was committed again, so that hours may have moved."""
    moved = before.hours.keys() ^ now.hours.keys()
    # Attempts of one batch may be rebooked in different hours, of which none is of the closing month.
    return _sum(before) == _sum(now) and (bool(closing) or not moved)


def _metered_elsewhere(marker: Marker, world: World) -> bool:
    return any(
        world.watch.is_metered_elsewhere(content)
        for content in world.contents.values()
        if (content.batch_id, content.content_hash) == (marker.batch_id, marker.content_hash)
    )


def late_files(world: World) -> set[str]:
    """Lake files that no hour names, with a number of a ledger that a restore replaced."""
    lifts = {chain: number for each in decisions(world) for chain, number in each.lifts.items()}
    if not lifts:
        return set()
    found = {key for key in world.objects.keys("lake/") if _number(key) < lifts.get(f"L{_shard(key)}", 0)}
    for item in world.items.everything(Table.LEDGER):
        if is_published(item):
            found -= {file.key for file in Published.from_item(item).files}
    return found


def is_published(item: Item) -> bool:
    return str(item["pk"]).startswith(HOUR) and str(item["sk"]).startswith(PUBLISHED_PREFIX)


def _shard(lake_key: str) -> str:
    return lake_key.rpartition("/")[2].split("-")[0]


def _number(lake_key: str) -> int:
    return int(lake_key.rpartition("/")[2].split("-")[1])


def decisions(world: World) -> Iterator[Decision]:
    """Decisions of all restores of a region."""
    for generation in range(2, 100):
        body = world.objects.peek(key := decision_key(generation))
        if body is None:
            return
        yield Decision.decode(body, key)
