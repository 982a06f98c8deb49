from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from tests.infra.snapshots import WITH_API, path_of, reviewed, snapshot_of
from tests.infra.support.synthesis import STAGE_NAMES, synthesised


@pytest.mark.parametrize("stage", [*STAGE_NAMES, f"prod{WITH_API}"])
def test_a_stage_is_what_was_reviewed(stage: str) -> None:
    # Meant to differ? `python -m tests.infra.snapshots` writes the snapshots; read their difference.
    assert snapshot_of(reviewed(stage)) == path_of(stage).read_text()


def test_a_changed_property_or_protection_is_another_snapshot() -> None:
    stage = synthesised("prod")
    changed = copy.deepcopy(stage.templates)
    next(iter(changed["data"]["Resources"].values()))["DeletionPolicy"] = "Delete"

    assert snapshot_of(replace(stage, templates=changed)) != snapshot_of(stage)
    assert snapshot_of(replace(stage, protected={**stage.protected, "data": False})) != snapshot_of(stage)


def test_an_assets_hash_is_masked() -> None:
    assert "<asset>" in snapshot_of(synthesised("local"))
