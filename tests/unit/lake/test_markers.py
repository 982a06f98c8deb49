"""Each accepted batch's marker is in S3, in its staging object or beside a lake file, whatever dies (P50)."""

import gzip
import io
import json
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest

from metering.errors import LedgerCorruptError, ObjectDamagedError
from metering.ledger.markers import Marker, MarkerLine, decode_lines, encode_lines
from metering.ledger.runs import lake_chain, newest_run
from metering.stores.objects import markers_key
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, NOW_S, World, dying, record
from tests.support.written_down import forget_markers, written_down

LATE = NOW_S - 20 * DAY_S


def markers(world: World) -> dict[str, Marker]:
    items = [item for item in world.items.everything(Table.LEDGER) if item["sk"] == "M"]
    return {marker.batch_id: marker for marker in map(Marker.from_item, items) if marker.verdict == "accepted"}


def kept(world: World) -> dict[str, list[tuple[str, MarkerLine]]]:
    return written_down(world.objects.keys(""), world.objects.get)


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(-1)], [record(7, start_s=LATE)], source="edge-1")
    world.send([record(11), record(13, start_s=LATE)])
    return world


def is_kept(world: World) -> bool:
    lines = kept(world)
    return all(marker in [line.marker for _, line in lines[name]] for name, marker in markers(world).items())


def test_a_commit_writes_its_markers_into_its_staging_object() -> None:
    world = world_with_traffic()
    lines = kept(world)
    assert {name: [line.marker for _, line in found] for name, found in lines.items()} == {
        name: [marker] for name, marker in markers(world).items()
    }
    [(key, first)] = lines["batch-0"]
    assert key == f"staging/2026-11-24/{first.marker.commit_id}.parquet"
    assert (first.retry_of, first.sent_at_ms) == ("", world.clock.now_ms())
    assert (first.marker.records, first.marker.metered, first.marker.refused) == (2, 1, 1)
    assert (first.marker.source_id, first.marker.sequence, first.marker.sender_id) == ("edge-1", 0, "sender")


def test_markers_are_beside_the_file_of_a_commits_last_hour_once() -> None:
    world = world_with_traffic()
    world.compact_all()
    world.clock.advance_s(HOUR_S)
    world.jobs.cleaner.run(world.deadline())
    assert not world.objects.keys("staging/")
    [file] = world.files(HOUR)
    assert {name: [key for key, _ in found] for name, found in kept(world).items()} == {
        name: [markers_key(file.key)] for name in ("batch-0", "batch-1", "batch-2")
    }
    assert is_kept(world)
    assert markers_key(file.key) == "markers/dt=2026-11-24/hour=13/0-000000000001-000.ndjson.gz"


def test_a_commit_whose_hours_are_in_two_runs_is_beside_the_second_runs_file() -> None:
    world = World()
    world.send([record(5), record(7, start_s=LATE)])
    world.clock.advance_s(HOUR_S)
    world.jobs.compactor.run(world.deadline())
    assert len(world.objects.keys("lake/")) == 1
    assert not world.objects.keys("markers/")
    world.clock.advance_s(DAY_S)
    world.jobs.compactor.run(world.deadline())
    [late] = world.files(LATE - LATE % HOUR_S)
    assert world.objects.keys("markers/") == (markers_key(late.key),)
    assert is_kept(world)


def test_markers_are_kept_wherever_the_compactor_or_the_cleaner_dies() -> None:
    def clean(world: World) -> None:
        world.compact_all()
        world.clock.advance_s(HOUR_S)
        world.jobs.cleaner.run(world.deadline())

    for world in dying(world_with_traffic, clean, least=20):
        assert is_kept(world)
        clean(world)
        assert not world.objects.keys("staging/")
        assert is_kept(world)
        assert all(len(found) == 1 for found in kept(world).values())


def test_a_lake_file_names_its_plan() -> None:
    world = world_with_traffic()
    world.compact_all()
    run = newest_run(world.items, lake_chain(0))
    assert run is not None
    for key in world.objects.keys("lake/"):
        assert pq.ParquetFile(io.BytesIO(world.objects.get(key))).metadata.metadata == {
            b"metering.plan": run.plan_key.encode()
        }


def test_staging_objects_of_an_earlier_release_have_no_markers_and_are_compacted() -> None:
    world = world_with_traffic()
    before = world.visible()
    forget_markers(world.objects)
    assert not kept(world)
    world.compact_all()
    assert world.visible() == before
    assert len(world.objects.keys("lake/")) == 2
    assert not world.objects.keys("markers/")


# Lines: what is read is what was written; everything else is refused.


def line(batch_id: str, hours: int = 1) -> MarkerLine:
    marker = Marker(
        batch_id=batch_id, verdict="accepted", content_hash="ff", hash_version=1, commit_id="c1", source_id="é",
        sequence=None, sender_id="", records=hours, metered=hours, refused=0, decided_at_ms=5, expires_at_s=7,
        hours={HOUR + HOUR_S * number: Total(2**70, 1) for number in range(hours)},
    )  # fmt: skip
    return MarkerLine(marker=marker, retry_of="first" if hours > 1 else "", sent_at_ms=3)


def read(body: bytes) -> list[MarkerLine]:
    return list(decode_lines(io.BytesIO(body), "markers/a"))


def test_lines_come_back_from_several_commits() -> None:
    first, second = [line("b-1"), line("b-2", hours=3)], [line("b-3")]
    assert read(encode_lines(first) + encode_lines(second)) == [*first, *second]
    assert read(b"") == []
    assert encode_lines(first) == encode_lines(first)


@pytest.mark.parametrize("damage", [lambda body: body[:-3], lambda body: b"{}", lambda body: body[:20] + b"\0" * 9])
def test_a_damaged_object_is_named(damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ObjectDamagedError, match="markers/a"):
        read(damage(encode_lines([line("b-1")])))


@pytest.mark.parametrize("member", ["marker", "retry_of", "sent_at_ms"])
def test_a_line_that_lacks_a_member_is_named(member: str) -> None:
    document = json.loads(gzip.decompress(encode_lines([line("b-1")])))
    del document[member]
    with pytest.raises(LedgerCorruptError, match=f"markers/a, line 1: {member}"):
        read(gzip.compress(json.dumps(document).encode()))
