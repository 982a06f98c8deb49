"""The first creation of a data stack that keeps its data: until it is whole, nothing protects its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra import deploy as deploying
from infra.deploy import Deployer
from infra.failures import DeploymentError
from metering.fleet.ports import StackStatus
from metering.fleet.settings.bases import REHEARSAL
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.fleet.stage import StageConfig


class Runs:
    """Stacks of a region, and the CDK CLI, which makes them. Mutable.

    Attributes:
        there: Parts that exist.
        calls: What the CLI was asked for: whether the assembly is that of a first build, and the stack.
        fails: The creation of the data stack fails.
    """

    def __init__(self, *there: str) -> None:
        self.there = {f"metering-prod-{part}" for part in there}
        self.calls: list[tuple[bool, str]] = []
        self.fails = False

    def describe(self, _region: str, stack: str) -> StackStatus | None:
        return StackStatus(name=stack, status="UPDATE_COMPLETE") if stack in self.there else None

    def assembly(self, config: StageConfig, _given: GivenSettings) -> Path:
        return Path("first" if config.first_build else "whole")

    def run(self, assembly: Path, step: str, *arguments: str) -> None:
        assert step == "deploy"
        self.calls.append((assembly == Path("first"), arguments[0]))
        if self.fails:
            raise DeploymentError("deploy", "Insufficient capacity", stack=arguments[0], operated=False)
        made = ("data", "pipeline", "observability") if arguments[0] == "--all" else ("data", arguments[0][14:])
        self.there |= {f"metering-prod-{part}" for part in made}
        outputs = next(each for each in arguments if each.startswith("--outputs-file="))
        Path(outputs.partition("=")[2]).write_text(json.dumps({"metering-prod-pipeline": {"WatchFunctionName": "w"}}))


def deployer(
    monkeypatch: pytest.MonkeyPatch, runs: Runs, *, stage: str = "prod", own: Mapping[str, object] | None = None
) -> Deployer:
    class Cli:
        def __init__(self, *, assembly: Path, **_others: object) -> None:
            self._assembly = assembly

        def run(self, step: str, *arguments: str) -> None:
            runs.run(self._assembly, step, *arguments)

    monkeypatch.setattr(deploying, "CloudFormationStacks", lambda _: runs)
    monkeypatch.setattr(deploying, "CdkCli", Cli)
    monkeypatch.setattr(deploying, "assembly_of", runs.assembly)
    monkeypatch.setattr(Deployer, "_watch_once", lambda _self, _name: None)
    return Deployer(
        stage=stage,
        region="eu-west-1",
        endpoint=None,
        env={},
        progress=lambda _: None,
        given=GivenSettings(like=stage),
        own=own,
    )


def test_the_data_stack_is_created_alone_and_without_protection_and_then_protected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = Runs()
    deployer(monkeypatch, runs).deploy()

    assert runs.calls == [(True, "metering-prod-data"), (False, "metering-prod-pipeline"), (False, "--all")]


def test_a_failed_creation_ends_the_deployment_before_anything_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    runs.fails = True

    with pytest.raises(DeploymentError, match="capacity"):
        deployer(monkeypatch, runs).deploy()

    assert runs.calls == [(True, "metering-prod-data")]


def test_a_data_stack_that_is_there_never_loses_its_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs("data", "pipeline", "observability")
    deployer(monkeypatch, runs).deploy()

    assert runs.calls == [(False, "--all")]


def test_a_stage_that_keeps_no_data_is_created_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    runs.there = {"metering-dev-observability"}
    deployer(monkeypatch, runs, stage="dev").deploy()

    assert runs.calls == [(False, "--all")]


def test_a_rehearsal_is_created_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """MiniStack replaces a table whose protection changes by an empty one."""
    runs = Runs("observability")
    deployer(monkeypatch, runs, own=REHEARSAL).deploy()

    assert runs.calls == [(False, "--all")]
