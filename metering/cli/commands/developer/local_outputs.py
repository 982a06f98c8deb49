"""What a program needs to use the local emulator: the outputs of its stacks, and the environment of a client."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from metering.adapters.emulator.api_address import api_address
from metering.cli.stages.borrowed import client_environment_of, clients_of
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks
from metering.reports.answer import KEEP, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.adapters.emulator.state import LocalState

    # By stack, in the order of deployment.
    Outputs = Mapping[str, Mapping[str, str]]

# Outputs that only tell CloudFormation how its stacks depend on each other.
_EXPORTS = "ExportsOutput"
# What an emulator puts out as it is the name of a host that nobody resolves.
_API = "ApiUrl"
# Version 1 ignores the variable for SQS, and would send a message to AWS.
_AWS_CLI = (
    "# The AWS CLI: aws --endpoint-url $AWS_ENDPOINT_URL sqs send-message --queue-url $INGEST_QUEUE_URL "
    "--message-body file://batch.json\n"
)
# Names in a shell -> outputs of the data stack.
_NAMES = {
    "INGEST_QUEUE_URL": "IngestQueueUrl",
    "DEAD_LETTER_QUEUE_URL": "DeadLetterQueueUrl",
    "DATA_BUCKET": "DataBucketName",
    "LEDGER_TABLE": "LedgerTableName",
    "USAGE_TABLE": "UsageTableName",
}


def stands(state: LocalState) -> bool:
    """Whether the stacks stand in the emulator, by what it answers.

    Raises:
        UnavailableError: The emulator does not answer.
    """
    from metering.adapters.aws.stacks import read_outputs

    try:
        for stack in RegionStacks.of(state.stage).everywhere:
            read_outputs(clients_of(state), stack)
    except SettingsError:
        return False
    return True


def outputs_of(state: LocalState) -> Outputs:
    """The outputs by stack, in the order of deployment, without those that only other stacks read."""
    from metering.adapters.aws.stacks import read_outputs

    clients, stacks = clients_of(state), RegionStacks.of(state.stage)
    found: dict[str, Mapping[str, str]] = {}
    for stack in stacks.in_order:
        try:
            outputs = read_outputs(clients, stack)
        except SettingsError:
            if stack in stacks.everywhere:
                raise
            continue
        found[stack] = {
            name: _reachable(name, value, state)
            for name, value in sorted(outputs.items())
            if not name.startswith(_EXPORTS)
        }
    return found


def _reachable(name: str, value: str, state: LocalState) -> str:
    return api_address(value, state.endpoint).url if name == _API else value


def outputs_answer(found: Outputs) -> Answer:
    """All outputs; as JSON an object by name."""
    return Answer(
        columns=(
            Column(name="output", text="copied", priority=KEEP),
            Column(name="value", text="copied", priority=KEEP),
            Column(name="stack", text="copied"),
        ),
        rows=[
            {"output": name, "value": value, "stack": stack}
            for stack, outputs in found.items()
            for name, value in outputs.items()
        ],
        document={name: value for outputs in found.values() for name, value in outputs.items()},
    )


def environment(state: LocalState, found: Outputs) -> dict[str, str]:
    """The variables of a client, and the names of what it sends to and reads."""
    data = found[RegionStacks.of(state.stage).data]
    return {
        **client_environment_of(state),
        "METERING_STAGE": state.stage,
        **{name: data[output] for name, output in _NAMES.items() if output in data},
    }


def shell_lines(values: Mapping[str, str]) -> str:
    """Variables as lines for a shell, and a comment with what they do not tell the AWS CLI."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items()) + _AWS_CLI


def environment_answer(values: Mapping[str, str]) -> Answer:
    """Variables as data; as JSON an object by name."""
    return Answer(
        columns=(Column(name="name", text="copied", priority=KEEP), Column(name="value", text="copied", priority=KEEP)),
        rows=[{"name": name, "value": value} for name, value in values.items()],
        document={**values},
    )
