"""`metering local` with a running emulator: the stage is added and removed, and the emulator stays."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.adapters.emulator import ministack
from metering.adapters.emulator.state import LocalState, forget_state, load_state, save_state
from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.commands.developer import local as local_commands
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks, StackResource, StackStatus
from tests.support.answering import MINISTACK, remember_emulator, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.adapters.aws.session import Clients

NAMES = RegionStacks.of("local")
BUCKET = "AWS::S3::Bucket"


class Emulator:
    """A running emulator, and its stacks. Mutable.

    Attributes:
        states: Status of each stack.
        touched: Actions in order.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.states: dict[str, str] = {}
        self.touched: list[str] = []

    def deploy(self, **given: object) -> dict[str, object]:
        assert given["endpoint"] == self.endpoint
        self.touched.append("deploy")
        self.states = dict.fromkeys(NAMES.everywhere, "CREATE_COMPLETE")
        return {}

    def describe(self, _region: str, stack: str) -> StackStatus | None:
        status = self.states.get(stack)
        return None if status is None else StackStatus(name=stack, status=status)

    def resources(self, _region: str, _stack: str) -> Sequence[StackResource]:
        return [StackResource(kind=BUCKET, name="bucket", retained=False)]

    def remove(self, _region: str, stack: str) -> None:
        self.touched.append(stack)
        del self.states[stack]

    def empty_bucket(self, _region: str) -> int:
        self.touched.append("empty")
        return 0

    def read(self, clients: Clients, name: str) -> dict[str, str]:
        assert clients.access.endpoint_url == self.endpoint
        if name not in self.states:
            raise SettingsError([f"stack {name} is not deployed in us-east-1"])
        return {"IngestQueueUrl": f"{self.endpoint}/0/ingest"}


@pytest.fixture
def there(nobody: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with serving(MINISTACK) as endpoint:
        found = Emulator(endpoint)
        fleet = "metering.adapters.aws"
        monkeypatch.setattr(f"{fleet}.cloudformation.CloudFormationStacks", lambda _: found)
        monkeypatch.setattr(f"{fleet}.deployed_regions.DeployedRegions", lambda *_, **__: found)
        monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", found.read)
        monkeypatch.setattr(local_commands, "run_deployment", found.deploy)
        monkeypatch.setattr(local_commands, "page_link", lambda _state: None)
        monkeypatch.setattr(local_commands, "check_settings", lambda _state, _options: None)
        monkeypatch.setattr(local_commands, "_has_pager", lambda _state: True)
        monkeypatch.setattr(ministack, "start", _never)
        monkeypatch.setattr(ministack, "stop", _never)
        yield found


def _never(*_: object, **__: object) -> None:
    raise AssertionError("no emulator is started or stopped here")


def type_(*words: str, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["local", *words])
    assert done.exit_code == code, f"{words}: exit {done.exit_code}: {done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def test_up_deploys_to_an_emulator_that_runs_and_later_commands_find_it(there: Emulator) -> None:
    told, _ = type_("up", "--endpoint", there.endpoint, "--format", "json")

    assert json.loads(told)["endpoint"] == there.endpoint
    assert json.loads(told)["pid"] is None
    assert there.touched == ["deploy"]
    assert Session(endpoint=None, region=None, stage=None).endpoint == there.endpoint
    assert json.loads(type_("status", "--format", "json")[0])["deployed"] is True
    assert f"export AWS_ENDPOINT_URL={there.endpoint}\n" in type_("env")[0]
    # The emulator is already up, and stays unchanged.
    assert "Already up" in type_("up")[1]
    assert there.touched == ["deploy"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "LOCALSTACK_HOST"])
def test_the_environment_names_it_as_well(there: Emulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, there.endpoint if name == "AWS_ENDPOINT_URL" else there.endpoint.removeprefix("http://"))

    type_("up")

    assert there.touched == ["deploy"]


def test_down_takes_the_stage_away_and_never_stops_the_emulator_and_it_can_be_put_up_again(there: Emulator) -> None:
    type_("up", "--endpoint", there.endpoint)

    _, said = type_("down")

    assert there.touched == ["deploy", NAMES.observability, NAMES.pipeline, "empty", NAMES.data]
    assert "The emulator runs on." in said
    assert load_state() is None
    type_("up", "--endpoint", there.endpoint)
    assert there.touched[-1] == "deploy"
    # Without a stored state, the user names the emulator.
    forget_state()
    type_("down", "--endpoint", there.endpoint)
    assert there.states == {}
    assert "Stage local is not at" in type_("down", "--endpoint", there.endpoint)[1]


def test_reset_takes_the_stage_out_and_puts_it_up_again(there: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    type_("up", "--endpoint", there.endpoint)
    monkeypatch.setattr(local_commands, "settings_to_keep", lambda _state: None)

    type_("reset")

    assert there.touched == ["deploy", NAMES.observability, NAMES.pipeline, "empty", NAMES.data, "deploy"]


def test_what_an_earlier_deployment_left_half_is_cleared_before_the_next_one(there: Emulator) -> None:
    there.states = {NAMES.data: "CREATE_COMPLETE", NAMES.observability: "ROLLBACK_COMPLETE"}

    type_("up", "--endpoint", there.endpoint)

    assert there.touched == [NAMES.observability, "deploy"]


def test_a_shell_that_remembers_a_stopped_emulator_gets_one_of_its_own(
    there: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(MINISTACK) as stopped:
        monkeypatch.setenv("AWS_ENDPOINT_URL", stopped)
    started: list[str] = []

    def start(region: str, _stage: str, **_: object) -> LocalState:
        started.append(region)
        return LocalState(endpoint=there.endpoint, region=region, stage="local", pid=os.getpid(), deployed=True)

    monkeypatch.setattr(local_commands, "start_local", start)
    type_("up")

    assert started == ["us-east-1"]
    assert there.touched == []


def test_what_is_no_emulator_gets_no_stage(there: Emulator) -> None:
    with serving({}) as aws:
        assert "is no emulator" in type_("up", "--endpoint", aws, code=1)[1]
        assert "is no emulator" in type_("down", "--endpoint", aws, code=1)[1]
    assert there.touched == []


def test_a_stage_is_up_in_one_place_and_a_port_is_for_an_emulator_of_our_own(there: Emulator) -> None:
    assert "--port is for an emulator" in type_("up", "--endpoint", there.endpoint, "--port", "4000", code=2)[1]
    own = remember_emulator()
    assert "It is up at http://127.0.0.1:9, not at" in type_("up", "--endpoint", there.endpoint, code=1)[1]
    # Another emulator than ours, which is neither stopped nor forgotten.
    type_("down", "--endpoint", there.endpoint)
    assert load_state() == own


def test_an_emulator_that_is_gone_is_told_by_its_endpoint(there: Emulator) -> None:
    with serving(MINISTACK) as endpoint:
        save_state(LocalState(endpoint=endpoint, region="us-east-1", stage="local", pid=None, deployed=True))
    done = CliRunner().invoke(app, ["report", "usage"])

    assert done.exit_code == 1
    assert f"Nothing answers at {endpoint} any more" in done.stderr
    assert f"metering local up --endpoint {endpoint}" in done.stderr
    assert "any more" in type_("status", code=1)[1]
    assert "any more" in type_("down")[1]
    assert load_state() is None
    assert there.touched == []
