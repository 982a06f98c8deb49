"""Lake files that come after the decision are found by their numbers, and withdrawn once; adopted files stay."""

from __future__ import annotations

from metering.restore.decision import Decision
from metering.restore.late import LateFiles
from metering.stores.objects import decision_key, lake_file_key, withdrawn_key
from tests.support.lake_world import HOUR, World, record

LIFT = 1_000_000


def test_only_files_below_the_lift_that_no_hour_names_are_withdrawn() -> None:
    world = World()
    world.send([record(5)])
    world.compact_all()
    [published] = world.files(HOUR)
    late, of_now, other = lake_file_key(HOUR, 0, 7, 0), lake_file_key(HOUR, 0, LIFT, 0), "lake/notes.txt"
    empty_hour = lake_file_key(HOUR + 3_600, 0, 8, 0)
    for key in (late, of_now, other, empty_hour):
        world.objects.put(key, b"rows", if_absent=True)
    world.objects.put(decision_key(2), Decision(lifts={"L0": LIFT}).encode(), if_absent=True)
    files = LateFiles(view=world.jobs.view, generation=2)
    assert files.find() == [late, empty_hour]
    assert files.withdraw() == [late, empty_hour]
    assert files.withdraw() == []
    assert world.objects.get(withdrawn_key(late)) == b"rows"
    assert [info.key for info in world.objects.list("lake/")] == sorted([published.key, of_now, other])
