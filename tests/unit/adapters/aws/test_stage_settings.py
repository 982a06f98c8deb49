"""Commands use the published settings, or refuse to work."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict

from metering.adapters.aws.published_settings import deployed_given, deployed_settings, read_settings
from metering.adapters.aws.session import Access, Clients
from metering.cli.connecting import connect
from metering.errors import MeteringError, OperationFailedError, SettingsError, UnavailableError
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings, Policy, QueueSettings, StageSettings, document_sha256
from tests.unit.adapters.aws.stubs import OUTPUTS

PUBLISHED = StageConfig.load("local", {"tunables": {"shards": 4, "rollup_commits": 500}}).published()
NAMES = {name: f"the {name}" for name in (*OUTPUTS, "SettingsParameterName")} | {"UsageGeneration": "2"}


def refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {}}, operation)  # type: ignore[typeddict-item]  # nothing reads it


class Deployed:
    """CloudFormation and Systems Manager of a region; tests can remove stacks and documents."""

    def __init__(self) -> None:
        self.stacks: dict[str, dict[str, str]] = {
            "data": {**NAMES, "SettingsSha256": PUBLISHED.sha256},
            "pipeline": {"SettingsSha256": PUBLISHED.sha256},
        }
        self.document = PUBLISHED.to_json()
        self.failure: Exception | None = None
        self.clients = Clients(Access(region="eu-west-1"))
        self.clients._made |= {"cloudformation": self, "ssm": self}

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803 - the SDK's spelling
        outputs = self.stacks.get(StackName.removeprefix("metering-local-"))
        if outputs is None:
            raise refusal("ValidationError", "DescribeStacks")
        return {"Stacks": [{"Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]}]}

    def get_parameter(self, *, Name: str) -> dict[str, Any]:  # noqa: N803 - the SDK's spelling
        assert Name == "the SettingsParameterName"
        if self.failure is not None:
            raise self.failure
        return {"Parameter": {"Value": self.document}}

    def publish(self, document: str) -> None:
        self.document = document
        for outputs in self.stacks.values():
            outputs["SettingsSha256"] = document_sha256(document)

    def read(self) -> StageSettings:
        return read_settings(self.clients, "local")


def test_what_is_published_is_read() -> None:
    assert Deployed().read() == PUBLISHED
    assert PUBLISHED.policy.shards == 4


def test_a_command_has_the_policy_of_the_functions_and_the_names_of_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = Deployed()
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: deployed.clients)
    settings = connect(endpoint=None, region="eu-west-1", stage="local", environ={}).settings
    names = type(PUBLISHED.policy).model_fields
    assert all(getattr(settings, name) == getattr(PUBLISHED.policy, name) for name in names)
    assert settings.ledger_table == "the LedgerTableName"
    assert settings.settings_sha256 == PUBLISHED.sha256


@pytest.fixture
def deployed() -> Deployed:
    return Deployed()


def test_a_region_that_was_taken_out_of_service_still_says_its_settings(deployed: Deployed) -> None:
    del deployed.stacks["pipeline"]
    assert deployed.read() == PUBLISHED


def given(**values: object) -> StageSettings:
    return PUBLISHED.model_copy(update={"given": GivenSettings(like="local", version="9.9.9", by_option=values)})


def test_what_a_deployment_was_given_is_read_with_the_rest(deployed: Deployed) -> None:
    document = given(max_concurrency=8)
    deployed.publish(document.to_json())
    found = deployed.read()
    assert found == document
    assert found.given is not None
    assert found.given.by_option == {"max_concurrency": 8}
    assert deployed_settings(deployed.clients, "local") == document


def test_what_a_deployment_was_given_is_no_matter_of_its_functions(deployed: Deployed) -> None:
    """Commands still work after a new subscription is published but the functions' stack is not redeployed."""
    deployed.publish(given(max_concurrency=8).to_json())
    deployed.stacks["pipeline"] = {"SettingsSha256": PUBLISHED.sha256, "FunctionSettingsSha256": PUBLISHED.sha256}
    assert deployed.read().functions_sha256 == PUBLISHED.functions_sha256 == PUBLISHED.sha256


def test_functions_of_another_policy_stop_a_command_whatever_was_given(deployed: Deployed) -> None:
    deployed.publish(given(max_concurrency=8).to_json())
    deployed.stacks["pipeline"]["FunctionSettingsSha256"] = StageConfig.load("local").published().functions_sha256
    expect_sentence(deployed, "the functions have others")


def test_version_0_1_0_reads_a_document_with_what_was_given() -> None:
    """The model of 0.1.0 had these sections and ignored all others; the hash covered the whole text."""

    class Old(BaseModel):
        model_config = ConfigDict(frozen=True, extra="ignore")

        stage: str
        policy: Policy
        queues: QueueSettings

    document = given(subscriptions=[])
    assert Old.model_validate_json(document.to_json()).policy == PUBLISHED.policy
    assert document_sha256(document.to_json()) == document.sha256 != PUBLISHED.sha256


def test_a_region_that_is_not_deployed_has_no_settings_and_a_broken_one_says_why(deployed: Deployed) -> None:
    deployed.document = changed({}, policy={"shards": 1})
    with pytest.raises(SettingsError, match="hash differs"):
        deployed_settings(deployed.clients, "local")
    # If a first deployment fails, it leaves a stack without outputs.
    deployed.stacks["data"] = {}
    assert deployed_settings(deployed.clients, "local") is None
    del deployed.stacks["data"]
    assert deployed_settings(deployed.clients, "local") is None


@pytest.mark.parametrize("change", ["added", "removed"])
def test_what_was_given_is_read_although_the_policy_is_that_of_another_version(deployed: Deployed, change: str) -> None:
    document = json.loads(given(max_concurrency=8).to_json())
    if change == "added":
        document["policy"]["colour"] = "red"
    else:
        del document["policy"]["shards"]
    deployed.publish(json.dumps(document))
    with pytest.raises(SettingsError, match="policy"):
        deployed_settings(deployed.clients, "local")
    found = deployed_given(deployed.clients, "local")
    assert found is not None
    assert found.by_option == {"max_concurrency": 8}


@pytest.mark.parametrize("text", [
    "no JSON",
    "[]",
    '{"stage": "local"}',
    '{"stage": "local", "given": 7}',
    '{"stage": "prod", "given": {"like": "prod"}}',
])  # fmt: skip
def test_nobody_knows_what_a_broken_document_says(text: str) -> None:
    deployed = Deployed()
    deployed.publish(text)
    assert deployed_given(deployed.clients, "local") is None


def test_nobody_knows_what_a_document_of_another_hash_says(deployed: Deployed) -> None:
    deployed.document = given(max_concurrency=8).to_json()
    assert deployed_given(deployed.clients, "local") is None
    del deployed.stacks["data"]
    assert deployed_given(deployed.clients, "local") is None


def test_a_section_of_a_later_version_is_let_be(deployed: Deployed) -> None:
    deployed.publish(json.dumps({**json.loads(deployed.document), "alarms": {"silence_s": 1}}))
    assert deployed.read().policy == PUBLISHED.policy


def changed(change: dict[str, object], *, policy: dict[str, object] | None = None) -> str:
    document = json.loads(PUBLISHED.to_json())
    document["policy"] |= policy or {}
    return json.dumps({**document, **change})


@pytest.mark.parametrize(("document", "word"), [
    ("", "JSON"),
    ("{}", "policy"),
    (changed({"schema": "metering.settings/2"}), "schema"),
    (changed({"stage": "prod"}), "stage prod"),
    (changed({}, policy={"shards": 0}), "shards"),
    (changed({}, policy={"something_new": 1}), "something_new"),
    (json.dumps({**json.loads(PUBLISHED.to_json()), "policy": {"shards": 4}}), "window_s"),
])  # fmt: skip
def test_a_broken_document_is_not_worked_with(deployed: Deployed, document: str, word: str) -> None:
    deployed.publish(document)
    expect_sentence(deployed, word)


def test_a_document_that_somebody_changed_is_not_worked_with(deployed: Deployed) -> None:
    deployed.document = changed({}, policy={"shards": 1})
    expect_sentence(deployed, "hash differs")


@pytest.mark.parametrize("output", ["SettingsParameterName", "SettingsSha256"])
def test_without_an_output_no_defaults_are_taken(deployed: Deployed, output: str) -> None:
    del deployed.stacks["data"][output]
    expect_sentence(deployed, output)


@pytest.mark.parametrize("outputs", [{}, {"SettingsSha256": "0" * 64}])
def test_functions_with_other_settings_stop_a_command(deployed: Deployed, outputs: dict[str, str]) -> None:
    deployed.stacks["pipeline"] = outputs
    expect_sentence(deployed, "the functions have others")


def test_a_parameter_that_is_gone_stops_a_command(deployed: Deployed) -> None:
    deployed.failure = refusal("ParameterNotFound", "GetParameter")
    expect_sentence(deployed, "is gone")


def expect_sentence(deployed: Deployed, word: str) -> None:
    with pytest.raises(OperationFailedError, match=word) as caught:
        deployed.read()
    message = str(caught.value)
    assert message.startswith("The settings of stage local in eu-west-1 cannot be read (")
    assert "\n" not in message
    assert "metering region add eu-west-1 --stage local --redeploy" in caught.value.advice


@pytest.mark.parametrize(("failure", "error"), [
    (refusal("AccessDeniedException", "GetParameter"), ClientError),
    (refusal("ThrottlingException", "GetParameter"), UnavailableError),
])  # fmt: skip
def test_a_refusal_and_a_throttle_are_said_as_everywhere(failure: Exception, error: type[Exception]) -> None:
    deployed = Deployed()
    deployed.failure = failure
    with pytest.raises(error):
        deployed.read()


def test_equal_settings_have_one_text_and_one_hash() -> None:
    again = StageConfig.load("local", {"tunables": {"rollup_commits": 500, "shards": 4}}).published()
    assert (again.to_json(), again.sha256) == (PUBLISHED.to_json(), PUBLISHED.sha256)
    assert StageSettings.read(PUBLISHED.to_json(), sha256=PUBLISHED.sha256) == PUBLISHED
    assert StageConfig.load("local").published().sha256 != PUBLISHED.sha256
    with pytest.raises(SettingsError):
        StageSettings.read(PUBLISHED.to_json(), sha256="0" * 64)
    assert issubclass(SettingsError, MeteringError)
