"""`metering verify` over several regions: one shared waiting time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from metering.cli.commands.operator.verify import wait_until_all_settled, wait_until_settled
from metering.stores.queues import QueueDepth
from tests.unit.rollup.small_region import SmallRegion, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.audit.verifier import Verifier


@dataclass(slots=True, kw_only=True)
class Waiting:
    """Regions that each take `each_s` to settle, if given that long."""

    each_s: int
    now_s: float = 0
    given_s: list[int] = field(default_factory=list)

    def wait(self, duration_s: int, _tell: object) -> bool:
        self.given_s.append(duration_s)
        self.now_s += min(duration_s, self.each_s)
        return duration_s >= self.each_s


def test_the_regions_share_the_time_to_wait_and_each_is_looked_at() -> None:
    regions = Waiting(each_s=50)
    verifier = cast("Verifier", regions)

    wait_until_all_settled(dict.fromkeys("abcd", verifier), 120, now_s=lambda: regions.now_s)

    assert regions.given_s == [120, 70, 20, 1]


def test_without_a_time_to_wait_no_region_is_waited_for() -> None:
    regions = Waiting(each_s=50)

    wait_until_all_settled({"a": cast("Verifier", regions)}, 0, now_s=lambda: regions.now_s)

    assert regions.given_s == []


class LooksOnce:
    """A region whose queue is empty at the first look."""

    def wait(self, _duration_s: int, tell: Callable[[QueueDepth], None]) -> bool:
        tell(QueueDepth(visible=0, in_flight=0, delayed=0))
        return True


def test_commits_that_never_stop_do_not_keep_the_roll_up_between_two_looks() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    came = 0

    def come(call: str) -> None:
        nonlocal came
        # Another commit arrives before each transaction that places one. The limit ends a failing test.
        if call == "items.transact" and came < 50:
            came += 1
            region.commit(f"d{came}", [row(1)])

    region.items.on_call = come
    assert wait_until_settled(cast("Verifier", LooksOnce()), 10, rollup=region.rollup())
    assert 0 < came < 10
