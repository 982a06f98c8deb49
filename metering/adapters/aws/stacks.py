"""Resources of a stage in a region, from the outputs of its data stack (docs/contract.md, stack outputs)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws import errors
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients
    from metering.version import DropIdentity

# Stack output -> field of `RegionResources`.
_OUTPUTS = {
    "IngestQueueUrl": "ingest_queue_url",
    "DeadLetterQueueUrl": "dead_letter_queue_url",
    "DataBucketName": "data_bucket",
    "LedgerTableName": "ledger_table",
    "UsageTableName": "usage_table",
    "PageTopicArn": "page_topic_arn",
    "TicketTopicArn": "ticket_topic_arn",
}


_GENERATION = "UsageGeneration"
# Only of a stage whose identity is not that of every earlier stage.
_DROP_IDENTITY = "DropIdentity"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionResources:
    """Names of a stage's resources in one region, with field names as in `Settings`.

    Attributes:
        usage_generation: Generation of the usage table. Stacks of release 0.1.0 lack this output.
        drop_identity: Whoever sends may read it, which is not so of the settings.
    """

    stage: str
    ingest_queue_url: str
    dead_letter_queue_url: str
    data_bucket: str
    ledger_table: str
    usage_table: str
    page_topic_arn: str
    ticket_topic_arn: str
    usage_generation: int
    drop_identity: DropIdentity


def stack_outputs(clients: Clients, stage: str) -> RegionResources:
    """Resources of the stack `metering-<stage>-data` in the clients' region.

    Raises:
        SettingsError: The stack does not exist, or it lacks outputs.
        UnavailableError: The region does not answer.
    """
    name = RegionStacks.of(stage).data
    outputs = read_outputs(clients, name)
    missing = [output for output in _OUTPUTS if output not in outputs]
    if missing:
        raise SettingsError([f"stack {name} in {clients.access.region} has no output {output}" for output in missing])
    return RegionResources(
        stage=stage,
        **{field: outputs[output] for output, field in _OUTPUTS.items()},
        usage_generation=int(outputs.get(_GENERATION, "1")),
        drop_identity="checksum" if outputs.get(_DROP_IDENTITY) == "checksum" else "etag",
    )


def read_outputs(clients: Clients, name: str) -> dict[str, str]:
    """Read the outputs of a stack in the region of `clients`.

    Raises:
        SettingsError: The stack does not exist.
        UnavailableError: The region does not answer.
    """
    try:
        with errors.translated("cloudformation.DescribeStacks"):
            answer = clients.cloudformation.describe_stacks(StackName=name)
    except ClientError as error:
        # CloudFormation has no error code of its own for a missing stack.
        if errors.error_code(error) == "ValidationError":
            raise SettingsError([f"stack {name} is not deployed in {clients.access.region}"]) from error
        raise
    stack = answer["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def functions_outputs(clients: Clients, stage: str) -> dict[str, str]:
    """Outputs of the stacks with functions: the pipeline's, and the API's if there is one.

    Raises:
        SettingsError: The pipeline's stack does not exist.
        UnavailableError: The region does not answer.
    """
    names = RegionStacks.of(stage)
    found = read_outputs(clients, names.pipeline)
    with suppress(SettingsError):
        found |= read_outputs(clients, names.api)
    return found


def made_bootstrap(clients: Clients, qualifier: str) -> int:
    """Version of the CDK's bootstrap in a region; 0 without a bootstrap. Raises the SDK's errors."""
    try:
        found = clients.ssm.get_parameter(Name=f"/cdk-bootstrap/{qualifier}/version")
    except ClientError as error:
        if errors.error_code(error) == "ParameterNotFound":
            return 0
        raise
    return int(found["Parameter"]["Value"])
