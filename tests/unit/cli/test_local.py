"""`metering local`: an emulator that the command starts, an emulator that runs already, the page, an ended emulator."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from typer.testing import CliRunner

from metering.adapters.aws import deployment
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.emulator import ministack
from metering.adapters.emulator.state import LocalState, forget_state, load_state, process_began, save_state
from metering.api.authentication import LedgerTokens
from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.commands.developer import demo as demo_commands
from metering.cli.commands.developer import local as local_commands
from metering.cli.commands.developer.demo_stage import Demo, Played, show_end
from metering.cli.commands.developer.local import outputs_of, page_link, stands
from metering.cli.connecting import connect, no_answer, refuse_aws_for_emulated
from metering.cli.failures import CommandFailedError
from metering.errors import SettingsError, UnavailableError
from metering.fleet.ports import RegionStacks, StackResource, StackStatus
from metering.ledger.notes.access import Role
from metering.stores.writes import Table
from metering.wiring.region import RegionPorts
from tests.support.answering import MINISTACK, remember_emulator, serving
from tests.support.memory.items import MemoryItemStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from metering.adapters.aws.session import Clients

ENDPOINT = "http://127.0.0.1:4567"
NAMES = RegionStacks.of("local")
DATA, PIPELINE, OBSERVABILITY = NAMES.everywhere
Stacks: TypeAlias = dict[str, dict[str, str]]
pytestmark = pytest.mark.usefixtures("nobody")
OUTPUTS = {
    DATA: {
        "IngestQueueUrl": f"{ENDPOINT}/000000000000/in gest", "DataBucketName": "bucket", "LedgerTableName": "ledger",
        "UsageTableName": "usage", "ExportsOutputRefX": "only for CloudFormation",
    },
    PIPELINE: {"WatchFunctionName": "watch"},
    OBSERVABILITY: {},
}  # fmt: skip


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> Stacks:
    """The stacks of a test's emulator; this process is the emulator."""
    present = {name: dict(outputs) for name, outputs in OUTPUTS.items()}

    def read(clients: Clients, name: str) -> dict[str, str]:
        # The machine has no credentials, but the emulator is called anyway.
        assert clients.access.access_key is not None
        assert clients.access.endpoint_url == ENDPOINT
        if name not in present:
            raise SettingsError([f"stack {name} is not deployed in us-east-1"])
        return present[name]

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", read)
    monkeypatch.setattr(local_commands, "_has_pager", lambda _state: True)
    monkeypatch.setattr(local_commands, "page_link", lambda _state: None)
    return present


def type_(*words: str, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["local", *words])
    assert done.exit_code == code, f"{words}: exit {done.exit_code}: {done.stdout}{done.stderr}"
    return done.stdout, done.stderr


def test_a_shell_can_read_the_environment_and_the_endpoint_is_in_it(stacks: Stacks) -> None:
    remember_emulator(ENDPOINT)
    show = 'echo "$AWS_ENDPOINT_URL|$AWS_ACCESS_KEY_ID|$INGEST_QUEUE_URL|$USAGE_TABLE"'
    script = f"{type_('env')[0]}\n{show}"
    shown = subprocess.run(["/bin/sh", "-c", script], text=True, capture_output=True, check=True).stdout
    assert shown == f"{ENDPOINT}|test|{ENDPOINT}/000000000000/in gest|usage\n"
    values = json.loads(type_("env", "--format", "json")[0])
    assert (values["AWS_REGION"], values["DATA_BUCKET"], values["LEDGER_TABLE"]) == ("us-east-1", "bucket", "ledger")


def test_outputs_are_those_of_all_stacks_but_for_exports(stacks: Stacks) -> None:
    remember_emulator(ENDPOINT)
    names = set(json.loads(type_("outputs", "--format", "json")[0]))
    assert names == {"IngestQueueUrl", "DataBucketName", "LedgerTableName", "UsageTableName", "WatchFunctionName"}


@pytest.mark.parametrize("words", ["env", "outputs"])
def test_without_an_emulator_there_is_nothing_to_print(stacks: Stacks, words: str) -> None:
    out, err = type_(words, code=1)
    assert out == ""
    assert "metering local up" in err


def test_status_asks_the_emulator_whether_the_stacks_stand(stacks: Stacks) -> None:
    remember_emulator(ENDPOINT)
    assert json.loads(type_("status", "--format", "json")[0])["deployed"] is True
    del stacks[PIPELINE]
    out, err = type_("status", "--format", "json")
    told = json.loads(out)
    assert (told["running"], told["deployed"]) == (True, False)
    assert "To deploy them: metering local up" in err


def test_status_tells_of_an_emulator_that_was_killed(stacks: Stacks) -> None:
    remember_emulator(ENDPOINT, began="long ago")
    told = type_("status", "--format", "json", code=1)[1]
    assert f"(pid {os.getpid()}) is gone, and so is all that it held" in told


def test_up_deploys_again_after_the_stacks_were_deleted(stacks: Stacks, monkeypatch: pytest.MonkeyPatch) -> None:
    remember_emulator(ENDPOINT)
    stacks.clear()
    deployed: list[str] = []
    monkeypatch.setattr(deployment, "run_deployment", lambda **given: deployed.append(given["endpoint"]))
    out, err = type_("up", "--format", "json")
    assert deployed == [ENDPOINT]
    assert "deployed again" in err
    assert json.loads(out)["deployed"] is True
    assert "Next: metering replay --scenario" in err, "also without a terminal"


def test_up_says_that_the_usual_port_is_taken_and_which_it_takes(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def start(port: int, **_options: object) -> ministack.Emulator:
        began, endpoint = process_began(os.getpid()) or "", f"http://127.0.0.1:{port}"
        return ministack.Emulator(endpoint=endpoint, pid=os.getpid(), began=began, ca_bundle=None, log=tmp_path / "x")

    monkeypatch.setattr(deployment, "run_deployment", lambda **_given: None)
    monkeypatch.setattr(ministack, "start", start)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        monkeypatch.setattr(ministack, "DEFAULT_PORT", usual)
        monkeypatch.setattr(ministack, "free_port", lambda: 40_001)
        out, err = type_("up", "--format", "json")
    assert f"Port {usual} is taken: the emulator takes 40001." in err
    assert all(len(line) <= 60 for line in err.splitlines() if "40001" in line), "whole in a narrow window"
    assert json.loads(out)["endpoint"] == "http://127.0.0.1:40001"


def test_down_says_that_all_is_lost_and_help_says_that_nothing_can_be_kept(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_emulator(ENDPOINT)
    monkeypatch.setattr(ministack, "stop", lambda _pid: None)
    assert "All that it held is gone." in type_("down")[1]
    assert "nothing can be kept" in " ".join(type_("down", "--help")[0].split())


# If an emulator already runs, the stage is deployed to it and removed from it, and the emulator continues to run.

BUCKET = "AWS::S3::Bucket"


class Emulator:
    """An emulator that already runs, and its stacks. Mutable.

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

    def tables(self, _region: str) -> list[str]:
        return ["metering-local-ledger-2"]

    def delete_table(self, _region: str, name: str) -> None:
        self.touched.append(name)

    def read(self, clients: Clients, name: str) -> dict[str, str]:
        assert clients.access.endpoint_url == self.endpoint
        if name not in self.states:
            raise SettingsError([f"stack {name} is not deployed in us-east-1"])
        return {"IngestQueueUrl": f"{self.endpoint}/0/ingest"}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with serving(MINISTACK) as endpoint:
        found = Emulator(endpoint)
        fleet = "metering.adapters.aws"
        monkeypatch.setattr(f"{fleet}.cloudformation.CloudFormationStacks", lambda _: found)
        monkeypatch.setattr(f"{fleet}.deployed_regions.DeployedRegions", lambda *_, **__: found)
        monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", found.read)
        monkeypatch.setattr(deployment, "run_deployment", found.deploy)
        monkeypatch.setattr(local_commands, "page_link", lambda _state: None)
        monkeypatch.setattr(local_commands, "check_settings", lambda _state, _options: None)
        monkeypatch.setattr(local_commands, "_has_pager", lambda _state: True)
        monkeypatch.setattr(ministack, "start", _never)
        monkeypatch.setattr(ministack, "stop", _never)
        yield found


def _never(*_: object, **__: object) -> None:
    raise AssertionError("no emulator is started or stopped here")


def test_up_deploys_to_an_emulator_that_runs_and_later_commands_find_it(there: Emulator) -> None:
    told, _ = type_("up", "--endpoint", there.endpoint, "--format", "json")
    assert json.loads(told)["endpoint"] == there.endpoint
    assert json.loads(told)["pid"] is None
    assert there.touched == ["deploy"]
    assert Session(endpoint=None, region=None, stage=None).endpoint == there.endpoint
    assert json.loads(type_("status", "--format", "json")[0])["deployed"] is True
    assert f"export AWS_ENDPOINT_URL={there.endpoint}\n" in type_("env")[0]
    # The emulator is already running, and stays unchanged.
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
    taken = [NAMES.observability, NAMES.pipeline, "empty", NAMES.data, "metering-local-ledger-2"]
    assert there.touched == ["deploy", *taken]
    assert "The emulator runs on." in said
    assert load_state() is None
    type_("up", "--endpoint", there.endpoint)
    assert there.touched[-1] == "deploy"
    # If there is no stored state, the user names the emulator.
    forget_state()
    type_("down", "--endpoint", there.endpoint)
    assert there.states == {}
    assert "Stage local is not at" in type_("down", "--endpoint", there.endpoint)[1]


def test_reset_takes_the_stage_out_and_puts_it_up_again(there: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    type_("up", "--endpoint", there.endpoint)
    monkeypatch.setattr(local_commands, "settings_to_keep", lambda _state: None)
    type_("reset")
    taken = [NAMES.observability, NAMES.pipeline, "empty", NAMES.data, "metering-local-ledger-2"]
    assert there.touched == ["deploy", *taken, "deploy"]


def test_what_an_earlier_deployment_left_half_is_cleared_before_the_next_one(there: Emulator) -> None:
    there.states = {NAMES.data: "CREATE_COMPLETE", NAMES.observability: "ROLLBACK_COMPLETE"}
    type_("up", "--endpoint", there.endpoint)
    assert there.touched == [NAMES.observability, "deploy"]


def test_a_shell_that_names_a_stopped_emulator_gets_its_own(there: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
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
    # An emulator other than ours, which is neither stopped nor forgotten.
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


# The stage for people without an AWS account: what is deployed, and a link to its page that can be clicked.

STATE = LocalState(endpoint=ENDPOINT, region="us-east-1", stage="local", pid=os.getpid(), began="1", deployed=True)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> MemoryItemStore:
    """The stage's ledger; also sets the outputs of the stage's API."""
    items = MemoryItemStore()

    def read(_clients: object, name: str) -> dict[str, str]:
        if name == NAMES.api:
            return {"ApiUrl": "http://98a294bf.execute-api.localhost:4567"}
        raise SettingsError([f"stack {name} is not deployed in us-east-1"])

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", read)
    monkeypatch.setattr("metering.adapters.aws.stacks.stack_outputs", lambda *_: None)
    monkeypatch.setattr(RegionPorts, "items", items)
    return items


def test_the_link_opens_the_page_with_an_operators_token_in_its_fragment(ledger: MemoryItemStore) -> None:
    link = page_link(STATE)
    assert link is not None
    page, _, token = link.partition("#token=")
    # Nothing follows the slash: the page's own links are relative.
    assert page == f"{ENDPOINT}/_aws/execute-api/98a294bf/"
    grant = LedgerTokens(items=ledger, clock=SystemClock()).grant_of(token)
    assert grant is not None
    assert (grant.role, grant.accounts) == (Role.OPERATOR, None)


def test_a_stage_without_an_api_gets_no_link_and_token(
    ledger: MemoryItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_clients: object, name: str) -> dict[str, str]:
        raise SettingsError([f"stack {name} is not deployed in us-east-1"])

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", nothing)
    assert page_link(STATE) is None
    assert not list(ledger.everything(Table.LEDGER))


def test_what_can_be_opened_is_told_in_one_line_that_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    link = f"{ENDPOINT}/_aws/execute-api/98a294bf/#token=mtr_{'0' * 16}_{'1' * 64}"
    monkeypatch.setattr(local_commands, "page_link", lambda _state: link)
    monkeypatch.setenv("COLUMNS", "60")
    local_commands.tell_what_next(STATE)
    told = capsys.readouterr()
    assert f"Explore usage: {link}" in told.err.splitlines()
    # stdout may be saved in a file, so it contains no token.
    assert told.out == ""


@pytest.mark.parametrize("width", [60, 80])
def test_a_demo_that_stays_ends_with_the_link(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = f"{ENDPOINT}/_aws/execute-api/98a294bf/#token=mtr_{'0' * 16}_{'1' * 64}"
    monkeypatch.setenv("COLUMNS", str(width))
    show_end([Played(name="deploy", took_s=1.0, failed=False)], 1.0, link=link)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == link
    assert "The emulator is stopped." not in lines
    assert "  metering local down" in lines
    assert "  metering local up" not in lines


def test_a_demo_that_is_to_stay_leaves_a_stage_that_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    save_state(replace(STATE, began=process_began(os.getpid()) or ""))
    stopped: list[str] = []
    monkeypatch.setattr(local_commands, "stop_leftovers", stopped.append)
    monkeypatch.setattr(demo_commands, "perform", lambda *_: pytest.fail("an act was played"))
    result = CliRunner().invoke(app, ["demo", "--keep"])
    assert result.exit_code == 1
    assert "metering local down" in result.stderr
    assert stopped == []


def test_a_demo_that_stays_is_the_local_stage_and_any_other_leaves_that_alone() -> None:
    def named(*, keep: bool) -> str:
        return Demo(region_name="us-east-1", now_s=1, batches=1, records_per_batch=2, seed=1, keep=keep).name

    assert named(keep=True) == "emulator"
    assert named(keep=False) == "demo"


# Nothing listens on port 9 of this machine (discard).
SILENT = replace(STATE, endpoint="http://127.0.0.1:9", began="")


@pytest.mark.parametrize("ask", [stands, outputs_of])
def test_the_emulator_is_asked_without_any_credentials_of_an_account(
    ask: Callable[[LocalState], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UnavailableError, match="Could not connect"):
        ask(SILENT)


# If an emulator is gone, the command reports this and what is lost; but not if AWS does not answer.

GONE = "http://127.0.0.1:9"
NO_ANSWER = UnavailableError("cloudformation.DescribeStacks", "connection refused")


def test_an_emulator_that_was_killed_is_gone_with_all_that_it_held() -> None:
    state = remember_emulator(began="long ago")
    with pytest.raises(CommandFailedError) as told:
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
    for error in (told.value, no_answer(NO_ANSWER, endpoint=GONE, region="us-east-1")):
        assert str(error) == f"The emulator at {GONE} (pid {state.pid}) is gone, and so is all that it held."
        assert "metering local up" in error.advice


def test_it_is_told_as_well_to_who_names_its_endpoint() -> None:
    remember_emulator(began="long ago")
    with pytest.raises(CommandFailedError, match="is gone, and so is all that it held"):
        connect(endpoint=GONE, region="us-east-1", stage="local")


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4999"])
def test_another_place_that_gives_no_answer_is_no_emulator_that_is_gone(endpoint: str | None) -> None:
    remember_emulator(began="long ago")
    assert "gives no answer" in str(no_answer(NO_ANSWER, endpoint=endpoint, region="us-east-1"))


def test_an_emulator_that_runs_and_gives_no_answer_is_not_gone() -> None:
    remember_emulator()
    assert "gives no answer" in str(no_answer(NO_ANSWER, endpoint=GONE, region="us-east-1"))


def test_without_any_emulator_the_sentence_says_how_to_start_one() -> None:
    with pytest.raises(CommandFailedError, match="none runs here") as told:
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
    assert "metering local up" in told.value.advice


def test_a_stage_in_an_account_may_go_to_aws() -> None:
    refuse_aws_for_emulated("prod", endpoint=None, region="us-east-1")
    refuse_aws_for_emulated("a-stage-that-nobody-configured", endpoint=None, region="us-east-1")


def test_the_emulator_of_localstacks_session_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/_localstack/health": b'{"services": {}}'}) as endpoint:
        monkeypatch.setenv("LOCALSTACK_HOST", endpoint.removeprefix("http://"))
        refuse_aws_for_emulated("local", endpoint=None, region="us-east-1")
