"""Assemblies that were made elsewhere: hashes, settings, and their deployment by change sets without the CDK."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from aws_cdk import App, CfnOutput, CfnResource, DefaultStackSynthesizer, Fn, Stack
from aws_cdk import aws_s3_assets as assets
from aws_cdk import aws_sqs as sqs

from infra import artefact
from infra.artefact import Artefact, add
from infra.cdk_cli import cdk_command
from metering.adapters.aws.change_sets import BOOTSTRAP_TEMPLATE, ChangeSets
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.session import Access, Clients
from metering.errors import OperationFailedError
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings
from tests.support.emulated import running_emulator

CONFIG, GIVEN = StageConfig.load("local"), GivenSettings(like="local")
DATA, PIPELINE = "metering-x-data", "metering-x-pipeline"
VERSION = "/cdk-bootstrap/hnb659fds/version"


def synthesised(folder: Path, *, queues: int = 1, broken: bool = False) -> Path:
    """A small assembly that a bootstrap's roles deploy: two stacks, and an asset beside the templates."""
    app = App(outdir=str(folder), analytics_reporting=False)
    data = Stack(app, DATA, synthesizer=DefaultStackSynthesizer(), termination_protection=True)
    made = [sqs.Queue(data, f"Queue{number}") for number in range(queues)]
    code = folder.with_suffix(".txt")
    code.write_text("code")
    asset = assets.Asset(data, "Code", path=str(code))
    CfnOutput(data, "Key", value=asset.s3_object_key)
    pipeline = Stack(app, PIPELINE, synthesizer=DefaultStackSynthesizer())
    dead = sqs.Queue(pipeline, "Queue", queue_name=f"of-{made[0].queue_name}")
    if broken:
        CfnResource(
            pipeline, "Broken", type="AWS::SQS::Queue", properties={"QueueName": Fn.import_value("nothing")}
        ).node.add_dependency(dead)
    app.synth()
    return folder


class Region:
    """A region of an emulator, to which assemblies are deployed."""

    def __init__(self, endpoint: str, region: str, folder: Path) -> None:
        self.name, self.folder, self.events = region, folder, list[Mapping[str, object]]()
        self.clients = Clients(Access(region=region, endpoint_url=endpoint, access_key=("test", "test")))
        self.stacks = CloudFormationStacks(lambda _: self.clients)

    def run(self, assembly: Path, step: str, *arguments: str) -> list[object]:
        """Run a command; returns the resources of whose completion it told."""
        self.events = []
        tool = ChangeSets(assembly=assembly, clients=self.clients, progress=self.events.append, pause=lambda _: None)
        tool.run(step, *arguments)
        return [each["type"] for each in self.events if str(each["status"]).endswith("_COMPLETE")]

    def deploy(self, assembly: Path, *arguments: str) -> dict[str, dict[str, str]]:
        outputs = self.folder / "outputs.json"
        self.run(assembly, "deploy", "--exclusively", "--method=direct", f"--outputs-file={outputs}", *arguments)
        found: dict[str, dict[str, str]] = json.loads(outputs.read_text())
        return found


@pytest.fixture(scope="module")
def endpoint() -> object:
    with running_emulator(4720) as running:
        yield running.endpoint


@pytest.fixture(scope="module")
def bootstrap() -> bytes:
    """The CDK's template of its bootstrap."""
    return subprocess.run([*cdk_command("bootstrap"), "--show-template"], capture_output=True, check=True).stdout


@pytest.fixture
def region(endpoint: str, bootstrap: bytes, tmp_path: Path, request: pytest.FixtureRequest) -> Region:
    """A region of its own for each test, with the template of the bootstrap beside its assemblies."""
    (tmp_path / BOOTSTRAP_TEMPLATE).write_bytes(bootstrap)
    return Region(endpoint, f"eu-west-{sum(map(ord, request.node.name))}", tmp_path)


@pytest.mark.emulator
def test_a_region_is_bootstrapped_once_and_deployed_until_nothing_changes(region: Region) -> None:
    assembly = synthesised(region.folder / "one")
    assert "AWS::IAM::Role" in region.run(assembly, "bootstrap")
    assert int(region.clients.ssm.get_parameter(Name=VERSION)["Parameter"]["Value"]) >= 6
    assert region.run(assembly, "bootstrap") == []
    outputs = region.deploy(assembly, "--all")
    assert {*outputs} == {DATA, PIPELINE}
    first = {str(event["stack"]) for event in region.events[:2]}
    assert (first, region.stacks.describe(region.name, PIPELINE).complete) == ({DATA}, True)  # type: ignore[union-attr]  # it exists
    [described] = region.clients.cloudformation.describe_stacks(StackName=DATA)["Stacks"]
    assert described["EnableTerminationProtection"]
    account = region.clients.sts.get_caller_identity()["Account"]
    kept = region.clients.s3.get_object(
        Bucket=f"cdk-hnb659fds-assets-{account}-{region.name}", Key=outputs[DATA]["Key"]
    )
    assert kept["Body"].read() == b"code"
    assert (region.deploy(assembly, "--all"), region.events) == (outputs, [])
    region.deploy(synthesised(region.folder / "two", queues=2), DATA)
    assert {str(event["resource"]) for event in region.events if event["type"] == "AWS::SQS::Queue"} != set()
    region.run(assembly, "destroy", PIPELINE, "--exclusively")
    assert region.stacks.describe(region.name, PIPELINE) is None


@pytest.mark.emulator
def test_a_failure_names_stack_and_reason(region: Region) -> None:
    assembly = synthesised(region.folder / "broken", broken=True)
    region.run(assembly, "bootstrap")
    with pytest.raises(OperationFailedError, match=rf"{PIPELINE}.*nothing"):
        region.deploy(assembly, "--all")
    shutil.rmtree(region.folder / "broken")


@pytest.mark.emulator
def test_an_option_that_it_does_not_know_is_no_silent_difference(region: Region) -> None:
    with pytest.raises(SystemExit):
        region.run(region.folder, "deploy", "--all", "--unheard-of")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artefact with one made-up assembly, whose asset is a folder of two files."""
    assembly = tmp_path / "local-0123456789abcdef"
    (assembly / "asset.1" / "metering").mkdir(parents=True)
    for name in ("asset.1/metering/b.py", "asset.1/a.py", "x.template.json"):
        (assembly / name).write_text(name)
    (assembly / "manifest.json").write_text(json.dumps({"artifacts": {}}))
    source = {"path": "asset.1", "packaging": "zip"}
    (assembly / "x.assets.json").write_text(json.dumps({"files": {"1": {"source": source, "destinations": {}}}}))
    monkeypatch.setattr(artefact, "assembly_of", lambda _config, _given: assembly)
    add(tmp_path / "made", CONFIG, GIVEN)
    return tmp_path / "made"


def test_an_artefact_vouches_for_each_file_and_is_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "1.zip", "manifest.json", "release.json", "x.assets.json", "x.template.json",
    ]  # fmt: skip
    add(tmp_path / "again", CONFIG, GIVEN)
    assert Artefact(tmp_path / "again").check() == Artefact(folder).check()
    assert Artefact(folder).assembly_of(CONFIG, GIVEN).is_dir()


@pytest.mark.parametrize("name", ["assets/1.zip", "assets/2.zip", "local-0123456789abcdef/manifest.json"])
def test_a_file_that_differs_is_missing_or_too_much_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text("another")
    with pytest.raises(OperationFailedError, match=f"{name} is not what release.json says"):
        Artefact(folder).check()
    (folder / name).unlink()
    if name == "assets/2.zip":
        Artefact(folder).check()
        return
    with pytest.raises(OperationFailedError, match=name):
        Artefact(folder).check()


def test_other_settings_are_named(folder: Path) -> None:
    other = CONFIG.model_copy(update={"max_concurrency": 7})
    with pytest.raises(OperationFailedError, match=r"was made for other settings: max_concurrency\."):
        Artefact(folder).assembly_of(other, GIVEN)
    with pytest.raises(OperationFailedError, match="whether a file or an option"):
        Artefact(folder).assembly_of(CONFIG, GIVEN.model_copy(update={"by_option": {"shards": 2}}))


@pytest.mark.parametrize(("text", "reason"), [
    (None, "has no release.json"), ("{", "is damaged"), ('{"version": "9.9.9"', "is of version 9.9.9"),
])  # fmt: skip
def test_what_is_no_artefact_of_this_version_is_refused(folder: Path, text: str | None, reason: str) -> None:
    path = folder / "release.json"
    if text is None:
        path.unlink()
    elif text == "{":
        path.write_text(text)
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": "9.9.9"}))
    with pytest.raises(OperationFailedError, match=reason):
        Artefact(folder)
