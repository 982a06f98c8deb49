"""`Stacks` over CloudFormation, in any region."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, translated
from metering.errors import OperationFailedError
from metering.fleet.ports import StackResource, StackStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef

    from metering.adapters.aws import session


_DRIFT_POLL_S = 2
_DRIFT_LIMIT_S = 300
# An HTTP API and its function are deleted within a minute or two.
_DELETION_LIMIT_S = 900
_DELETION_POLL_S = 1
_FAILED = frozenset({"CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED"})
# Status of the stack's own event that begins each operation. Earlier events belong to earlier operations.
_BEGINS = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"})
# Word in the status reason of a resource that CloudFormation cancelled because another resource failed.
_CANCELLED = "cancelled"
# Type of a validation event before CloudFormation creates resources (DescribeEvents, CloudFormation API reference).
_INVALID = "VALIDATION_ERROR"


class CloudFormationStacks:
    """CloudFormation stacks of one account; `clients_of` returns the SDK clients of a region."""

    def __init__(self, clients_of: Callable[[str], session.Clients]) -> None:
        self._clients_of = clients_of

    def describe(self, region: str, stack: str) -> StackStatus | None:
        client = self._clients_of(region).cloudformation
        try:
            with translated("cloudformation.DescribeStacks"):
                found = client.describe_stacks(StackName=stack)["Stacks"]
        except ClientError as error:
            # CloudFormation has no error code of its own for a missing stack.
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
        if not found or found[0]["StackStatus"] == "DELETE_COMPLETE":
            return None
        described = found[0]
        drift = described.get("DriftInformation", {}).get("StackDriftStatus", "NOT_CHECKED")
        status = StackStatus(
            name=stack,
            status=described["StackStatus"],
            drift=drift,
            why=described.get("StackStatusReason", ""),
            outputs={one.get("OutputKey", ""): one.get("OutputValue", "") for one in described.get("Outputs", [])},
        )
        if status.complete or status.busy:
            return status
        return replace(status, why=_first_failure(client, stack, status.why))

    def last_failure(self, region: str, stack: str) -> StackStatus | None:
        """Status of a stack, with the reason if its last operation failed, even if CloudFormation rolled it back.

        None if the stack does not exist.
        """
        status = self.describe(region, stack)
        if status is None:
            return None
        return replace(status, why=_first_failure(self._clients_of(region).cloudformation, stack, status.why))

    def delete(self, region: str, stack: str) -> None:
        client = self._clients_of(region).cloudformation
        if self.describe(region, stack) is None:
            return
        with translated("cloudformation.UpdateTerminationProtection"):
            try:
                client.update_termination_protection(EnableTerminationProtection=False, StackName=stack)
            except ClientError as error:
                # An emulator that lacks UpdateTerminationProtection does not protect stacks.
                if not is_unknown_call(error):
                    raise
        with translated("cloudformation.DeleteStack"):
            client.delete_stack(StackName=stack)

    def remove(self, region: str, stack: str) -> None:
        """Delete a stack, and wait until the deletion is complete.

        Raises:
            OperationFailedError: The stack could not be deleted.
            UnavailableError: CloudFormation gives no answer.
        """
        self.delete(region, stack)
        until_s = time.monotonic() + _DELETION_LIMIT_S
        while (left := self.describe(region, stack)) is not None:
            if not left.busy or time.monotonic() >= until_s:
                advice = f"Run it again. To retain what cannot be deleted: {left.deletion(region)}"
                raise OperationFailedError(f"{stack} is {left.status}: {left.why}", advice)
            time.sleep(_DELETION_POLL_S)

    def resources(self, region: str, stack: str) -> Sequence[StackResource]:
        client = self._clients_of(region).cloudformation
        with translated("cloudformation.GetTemplate"):
            template = client.get_template(StackName=stack)["TemplateBody"]
        with translated("cloudformation.ListStackResources"):
            pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
            found = [each for page in pages for each in page["StackResourceSummaries"]]
        kept = _retained(template)
        return [
            StackResource(
                kind=each["ResourceType"],
                name=each.get("PhysicalResourceId", ""),
                retained=each["LogicalResourceId"] in kept,
            )
            for each in found
        ]

    def detect_drift(self, region: str, stack: str) -> str:
        client = self._clients_of(region).cloudformation
        try:
            with translated("cloudformation.DetectStackDrift"):
                detection = client.detect_stack_drift(StackName=stack)["StackDriftDetectionId"]
                return _drift_of(client, detection)
        except ClientError as error:
            # If the endpoint does not implement drift detection, the drift is unknown, never in sync.
            if is_unknown_call(error):
                return "UNKNOWN"
            raise


def _retained(template: Mapping[str, object] | str) -> set[str]:
    """Logical ids of the resources that outlive their stack. The SDK returns JSON templates already decoded."""
    decoded = json.loads(template) if isinstance(template, str) else template
    resources = cast("Mapping[str, Mapping[str, object]]", decoded.get("Resources", {}))
    return {name for name, each in resources.items() if str(each.get("DeletionPolicy", "")).startswith("Retain")}


def _drift_of(client: CloudFormationClient, detection: str) -> str:
    for _ in range(_DRIFT_LIMIT_S // _DRIFT_POLL_S):
        answer = client.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS":
            return answer.get("StackDriftStatus", "UNKNOWN")
        time.sleep(_DRIFT_POLL_S)
    return "UNKNOWN"


def _first_failure(client: CloudFormationClient, stack: str, otherwise: str) -> str:
    """Reason of the first failed resource, which caused all later failures; `otherwise` if no event gives one."""
    with translated("cloudformation.DescribeStackEvents"):
        pages = client.get_paginator("describe_stack_events").paginate(StackName=stack)
        events = list(takewhile(_is_later, (event for page in pages for event in page["StackEvents"])))
    failed = [
        event
        for event in events
        if event.get("ResourceStatus") in _FAILED
        and event.get("ResourceStatusReason")
        and _CANCELLED not in str(event.get("ResourceStatusReason"))
    ]
    if not failed:
        return otherwise
    # Events come newest first.
    first = failed[-1]
    if first.get("PhysicalResourceId") == first["StackId"] and (invalid := _first_invalid(client, stack)):
        return invalid
    return _sentence(first.get("LogicalResourceId"), first.get("ResourceType"), first.get("ResourceStatusReason"))


def _first_invalid(client: CloudFormationClient, stack: str) -> str:
    """Reason of a validation error that preceded all changes of resources; stack events do not contain it."""
    try:
        with translated("cloudformation.DescribeEvents"):
            events = client.describe_events(StackName=stack)["OperationEvents"]
    except ClientError as error:
        if is_unknown_call(error) or is_denied(error):
            # This endpoint does not implement DescribeEvents, so the reason stays empty.
            return ""
        raise
    for event in events:
        if event.get("EventType") == _INVALID:
            return _sentence(
                event.get("LogicalResourceId"), event.get("ResourceType"), event.get("ValidationStatusReason")
            )
    return ""


def _sentence(resource: str | None, kind: str | None, why: str | None) -> str:
    return f"{resource} ({kind}): {' '.join(str(why).split())}"


def _is_later(event: StackEventTypeDef) -> bool:
    """Whether an event comes after the first event of the stack's last operation."""
    of_stack = event.get("PhysicalResourceId") == event["StackId"]
    return not (of_stack and event.get("ResourceStatus") in _BEGINS)
