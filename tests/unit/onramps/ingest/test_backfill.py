"""A stage that takes old logs: what comes again after ten weeks is a duplicate, and no conflict."""

from __future__ import annotations

from metering.metric_names import BATCHES_DUPLICATE
from metering.onramps.context.document import Context
from metering.units import DAY_S
from tests.support.lake_world import HOUR
from tests.support.log_region import LogRegion

KEY = "AWSLogs/small_1.log"
LINES = (("i-1", 100, HOUR, HOUR + 60), ("z:a", 50, HOUR, HOUR + 60))


def test_a_redelivery_on_day_70_of_a_backfill_stage_is_a_duplicate() -> None:
    region = LogRegion(window_s=400 * DAY_S, marker_life_s=415 * DAY_S)
    region.put(KEY, *LINES)
    assert region.take(KEY).verdict == "metered"
    region.book()
    region.clock.advance_s(70 * DAY_S)
    region.contexts.put(Context(sha256="b" * 64, effective_s=HOUR - 3600))
    # The lifecycle of incoming objects has deleted the part.
    for key in region.objects.keys("ingest/"):
        region.objects.remove(key)
    before = region.metrics.counts[BATCHES_DUPLICATE]
    assert region.take(KEY).verdict == "repeated"
    region.book()
    assert region.booked_bytes() == {"internet": 100, "us-east-1/aaaa": 50}
    assert region.conflicts() == 0
    # The message, and its second delivery.
    assert region.metrics.counts[BATCHES_DUPLICATE] - before == 2


def test_a_stage_with_the_usual_window_refuses_a_file_of_ten_weeks_ago_as_a_whole() -> None:
    region = LogRegion()
    region.put(KEY, *LINES)
    region.clock.advance_s(70 * DAY_S)
    taken = region.take(KEY)
    assert taken.problem is not None
    assert taken.problem[0] == "too_old"
    assert not region.queue.depth().total
