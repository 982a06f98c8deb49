"""Sources of logs, found by the keys of their plans."""

from __future__ import annotations

from metering.onramps.coverage.job import find_sources
from metering.onramps.ingest.places import places_prefix
from tests.support.lake_world import World


def test_notes_on_files_that_grow_are_no_source() -> None:
    objects = World().objects
    keys = ("plans/mapped/acme/none/a.json", "plans/vpc-flow/fl-1/2026/a.json", "plans/vpc-flow/fl-2/2026/a.json")
    for key in (*keys, f"{places_prefix('/logs/a.ndjson')}0.json", f"{places_prefix('/logs/b.ndjson')}0.json"):
        objects.put(key, b"{}", if_absent=True)
    found = find_sources(objects, after="", most=10)
    assert (found.sources, found.after) == ((("mapped", "acme"), ("vpc-flow", "fl-1"), ("vpc-flow", "fl-2")), "")
    first = find_sources(objects, after="", most=1)
    assert find_sources(objects, after=first.after, most=1).sources == (("vpc-flow", "fl-1"),)
