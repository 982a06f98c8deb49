"""Packages of the project that builds regions, from another index than the public one."""

import json
from typing import Any

import pytest
from aws_cdk.assertions import Template

from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from tests.infra.support.synthesis import app_of

INDEX = "https://packages.example.com/simple"


def build_spec(**settings: object) -> dict[str, Any]:
    _, stacks = app_of(StageConfig.load("prod", {"rollout_project": True, **settings}))
    assert stacks.rollout is not None
    [project] = Template.from_stack(stacks.rollout).find_resources("AWS::CodeBuild::Project").values()
    found: dict[str, Any] = json.loads(project["Properties"]["Source"]["BuildSpec"])
    return found


def test_all_packages_come_from_the_index_with_the_hashes_of_the_lock() -> None:
    found = build_spec(package_index=INDEX)
    assert found["env"] == {"variables": {"PIP_INDEX_URL": INDEX, "UV_DEFAULT_INDEX": INDEX}}
    *_, export, _, install, sync = found["phases"]["install"]["commands"]
    assert "--frozen" in export
    assert "--require-hashes --only-binary :all:" in install
    # Nothing is left to install but the project itself, so no address of the lock is asked.
    assert sync == "uv sync --frozen --all-extras --no-default-groups"
    assert "--all-extras --no-default-groups" in export
    assert found["phases"]["build"]["commands"][0].startswith("uv run --no-sync metering region reconcile ")


def test_without_an_index_nothing_changes() -> None:
    found = build_spec()
    assert "env" not in found
    assert found["phases"]["install"]["commands"][-1] == "uv sync --frozen --all-extras"


@pytest.mark.parametrize("index", ["http://packages.example.com", "https://me:secret@packages.example.com/simple"])
def test_an_index_with_a_secret_or_without_encryption_is_refused(index: str) -> None:
    with pytest.raises(SettingsError, match="package_index"):
        StageConfig.load("prod", {"package_index": index})
