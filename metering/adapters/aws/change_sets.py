"""Deploys a ready cloud assembly by change sets, without the CDK CLI and its Node.

It runs the commands of the CLI that `infra.deploy` uses, with the CLI's options, events and outputs file.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, translated
from metering.adapters.aws.session import assumed, caller_arn
from metering.adapters.aws.stacks import made_bootstrap
from metering.errors import OperationFailedError
from metering.fleet.ports import TOOLKIT_STACK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import ParameterTypeDef, RollbackConfigurationTypeDef

    from metering.adapters.aws.session import Clients

_POLL_S = 1.0
# Reasons of CloudFormation for a change set without changes.
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})
# A stack that has had no change set executed yet (CloudFormation API reference, Stack).
_UNBORN = "REVIEW_IN_PROGRESS"
# As `cdk bootstrap` does without options: S3's own key, and the policy with which CloudFormation works.
_OWN_KEY = "AWS_MANAGED_KEY"
_ADMINISTRATOR = "arn:{partition}:iam::aws:policy/AdministratorAccess"
BOOTSTRAP_TEMPLATE = "bootstrap.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Values that an assembly leaves open until its deployment."""

    account: str
    region: str
    partition: str

    def filled(self, text: str) -> str:
        """Replace the assembly's placeholders for account, region and partition."""
        for name, value in (("AccountId", self.account), ("Region", self.region), ("Partition", self.partition)):
            text = text.replace(f"${{AWS::{name}}}", value)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledStack:
    """A stack of an assembly.

    Attributes:
        properties: As in the assembly's manifest.
        after: Stacks that are deployed before it.
        assets: File with its assets, which include the template.
    """

    name: str
    properties: Mapping[str, object]
    after: frozenset[str]
    assets: Path

    def text(self, name: str) -> str:
        return str(self.properties.get(name, ""))

    @property
    def tags(self) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self.properties.get("tags", {}))


def stacks_of(assembly: Path) -> dict[str, AssembledStack]:
    """Stacks of an assembly by name."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    named = {name for name, each in artifacts.items() if each["type"] == "aws:cloudformation:stack"}
    return {
        name: AssembledStack(
            name=name,
            properties=artifacts[name]["properties"],
            after=frozenset(named & {*artifacts[name].get("dependencies", ())}),
            assets=assembly / f"{name}.assets.json",
        )
        for name in named
    }


class ChangeSets:
    """Commands of the CDK CLI for one assembly and one region.

    Args:
        assembly: Folder of the assembly, whose assets are files.
        clients: Clients of the region, with the caller's credentials.
        progress: Called for each event of a resource.
        pause: Waits for some seconds between two questions.
    """

    def __init__(
        self,
        *,
        assembly: Path,
        clients: Clients,
        progress: Callable[[Mapping[str, object]], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._assembly = assembly
        self._clients = clients
        self._progress = progress
        self._pause = pause

    def run(self, step: str, *arguments: str) -> None:
        """Run `bootstrap`, `deploy` or `destroy` with options of the CDK CLI, until it is done.

        Raises:
            OperationFailedError: CloudFormation refused or failed; the reason names stack and resource.
            UnavailableError: AWS gives no answer.
        """
        asked = _parser().parse_args(arguments)
        {"bootstrap": self._bootstrap, "deploy": self._deploy, "destroy": self._destroy}[step](asked)

    @cached_property
    def _place(self) -> Place:
        arn = caller_arn(self._clients.sts).split(":")
        return Place(account=arn[4], region=self._clients.access.region, partition=arn[1])

    def _deploy(self, asked: argparse.Namespace) -> None:
        stacks = stacks_of(self._assembly)
        names = {*(stacks if asked.all else asked.stacks)}
        for name in () if asked.exclusively else reversed(_in_order(stacks)):
            names |= stacks[name].after if name in names else frozenset()
        order = TopologicalSorter({name: stacks[name].after & names for name in names})
        order.prepare()
        outputs: dict[str, Mapping[str, str]] = {}
        with ThreadPoolExecutor(max_workers=asked.concurrency) as pool:
            while order.is_active():
                ready = sorted(order.get_ready())
                outputs |= zip(
                    ready, pool.map(lambda name: self._deploy_stack(stacks[name], asked), ready), strict=True
                )
                order.done(*ready)
        if asked.outputs_file:
            asked.outputs_file.write_text(json.dumps(outputs))

    def _deploy_stack(self, stack: AssembledStack, asked: argparse.Namespace) -> Mapping[str, str]:
        for asset in json.loads(stack.assets.read_text())["files"].values():
            for destination in asset["destinations"].values():
                self._upload(self._assembly / asset["source"]["path"], destination)
        clients = self._as(stack.text("assumeRoleArn"))
        bucket, _, key = (
            self._place.filled(stack.text("stackTemplateAssetObjectUrl")).removeprefix("s3://").partition("/")
        )
        alarms = [arn for arn in asked.rollback_trigger_alarm_arns if arn != "none"]
        # Without triggers, CloudFormation would keep those of the deployment before.
        watched: RollbackConfigurationTypeDef = {
            "RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"} for arn in alarms],
            "MonitoringTimeInMinutes": asked.monitoring_time_minutes,
        }
        return self._change(
            clients,
            stack.name,
            {
                "TemplateURL": f"{clients.s3.meta.endpoint_url}/{bucket}/{key}",
                "RollbackConfiguration": watched,
                "Tags": [{"Key": name, "Value": value} for name, value in stack.tags.items()],
                **self._execution_role(stack),
            },
            protected=bool(stack.properties.get("terminationProtection")),
        )

    def _execution_role(self, stack: AssembledStack) -> dict[str, object]:
        arn = self._place.filled(stack.text("cloudFormationExecutionRoleArn"))
        return {"RoleARN": arn} if arn else {}

    def _as(self, role: str) -> Clients:
        """Clients with a role of the bootstrap; without a role, the caller's clients."""
        if not role:
            return self._clients
        try:
            return assumed(self._clients, self._place.filled(role))
        except ClientError as error:
            if not is_denied(error):
                raise
            raise OperationFailedError(
                f"{caller_arn(self._clients.sts)} may not assume {self._place.filled(role)}.",
                "Bootstrap the region, or allow sts:AssumeRole on the roles of the bootstrap.",
            ) from error

    def _upload(self, path: Path, destination: Mapping[str, str]) -> None:
        """Put an asset where its stack expects it, unless it is there: its key follows from its content."""
        clients = self._as(destination.get("assumeRoleArn", ""))
        bucket, key = (self._place.filled(destination[name]) for name in ("bucketName", "objectKey"))
        # A bucket of this name may belong to somebody else.
        owner = self._place.account
        with translated("s3.PutObject"), _explained(f"the upload of {path.name}"):
            found = clients.s3.list_objects_v2(Bucket=bucket, Prefix=key, ExpectedBucketOwner=owner)
            if any(each.get("Key") == key for each in found.get("Contents", ())):
                return
            with path.open("rb") as body:
                clients.s3.put_object(Bucket=bucket, Key=key, Body=body, ExpectedBucketOwner=owner)

    def _change(
        self, clients: Clients, stack: str, request: Mapping[str, object], *, protected: bool | None = None
    ) -> Mapping[str, str]:
        """Create a change set and execute it, unless it changes nothing; returns the stack's outputs.

        If `protected` is None, the stack's protection against deletion stays as it is.
        """
        client, stacks = clients.cloudformation, CloudFormationStacks(lambda _: clients)
        there = stacks.describe(self._place.region, stack)
        name = f"metering-{time.time_ns():x}"
        new = there is None or there.status == _UNBORN
        with translated("cloudformation.CreateChangeSet"), _explained(stack):
            client.create_change_set(
                StackName=stack,
                ChangeSetName=name,
                ChangeSetType="CREATE" if new else "UPDATE",
                Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
                **request,  # type: ignore[arg-type]  # fields of the call
            )
            changes = self._changes(client, stack, name)
            if changes is not None:
                seen = set() if new else {event["EventId"] for event in _newest_events(client, stack)}
                client.execute_change_set(StackName=stack, ChangeSetName=name)
                self._follow(client, stack, total=changes, seen=seen)
        done = stacks.describe(self._place.region, stack)
        if done is None or (changes is not None and done.status not in _GOOD):
            done = done and stacks.last_failure(self._place.region, stack)
            raise OperationFailedError(f"{stack} is {done.status}: {done.why}" if done else f"{stack} is gone.")
        if protected is not None and (protected or not new):
            _protect(client, stack, protected=protected)
        return done.outputs

    def _changes(self, client: CloudFormationClient, stack: str, name: str) -> int | None:
        """Number of changed resources of a change set, or None if it changes nothing at all."""
        while True:
            made = client.describe_change_set(StackName=stack, ChangeSetName=name)
            if made["Status"] == "CREATE_COMPLETE":
                return len(made["Changes"])
            if made["Status"] == "FAILED":
                client.delete_change_set(StackName=stack, ChangeSetName=name)
                why = made.get("StatusReason", "")
                if any(words in why for words in _NO_CHANGES):
                    return None
                raise OperationFailedError(f"{stack}: {why}")
            self._pause(_POLL_S)

    def _follow(self, client: CloudFormationClient, stack: str, *, total: int, seen: set[str]) -> None:
        """Report the events of a stack until its operation ends."""
        done = 0
        while True:
            status = client.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
            for event in reversed(_newest_events(client, stack)):
                if event["EventId"] in seen:
                    continue
                seen.add(event["EventId"])
                state, kind = event.get("ResourceStatus", ""), event.get("ResourceType", "")
                done += state.endswith("_COMPLETE") and kind != "AWS::CloudFormation::Stack"
                told = {"stack": stack, "done": done, "total": total, "status": state, "type": kind}
                self._progress({"event": "resource", **told, "resource": event.get("LogicalResourceId", "")})
            if status != _UNBORN and not status.endswith("_IN_PROGRESS"):
                return
            self._pause(_POLL_S)

    def _bootstrap(self, asked: argparse.Namespace) -> None:
        """Deploy the CDK's bootstrap, unless a version that the assembly's stacks can use is there.

        Parameters and tags of an older bootstrap stay if no option names them, such as the accounts that it trusts.
        """
        needed = max(
            int(stack.text("requiresBootstrapStackVersion") or 0) for stack in stacks_of(self._assembly).values()
        )
        with translated("ssm.GetParameter"):
            if made_bootstrap(self._clients, asked.qualifier) >= needed:
                return
        stack, stacks = asked.toolkit_stack_name, CloudFormationStacks(lambda _: self._clients)
        there = stacks.describe(self._place.region, stack)
        if there is not None and there.unusable:
            stacks.remove(self._place.region, stack)
            there = None
        values = {
            "Qualifier": asked.qualifier,
            "CloudFormationExecutionPolicies": ",".join(asked.cloudformation_execution_policies),
            "FileAssetsBucketKmsKeyId": asked.bootstrap_kms_key_id,
            "InputPermissionsBoundary": asked.custom_permissions_boundary,
        }
        if there is None:
            administrator = _ADMINISTRATOR.format(partition=self._place.partition)
            values["CloudFormationExecutionPolicies"] = values["CloudFormationExecutionPolicies"] or administrator
            values["FileAssetsBucketKmsKeyId"] = values["FileAssetsBucketKmsKeyId"] or _OWN_KEY
        stated = {name: value for name, value in values.items() if value}
        template = (self._assembly.parent / BOOTSTRAP_TEMPLATE).read_text()
        kept, tags = self._kept(stack, template) if there is not None else ((), {})
        parameters: list[ParameterTypeDef] = [
            {"ParameterKey": name, "ParameterValue": value} for name, value in stated.items()
        ]
        names = sorted({*kept} - stated.keys())
        parameters += [{"ParameterKey": name, "UsePreviousValue": True} for name in names]
        tags = {**tags, **dict(each.split("=", 1) for each in asked.tags)}
        listed = [{"Key": name, "Value": value} for name, value in tags.items()]
        self._change(self._clients, stack, {"TemplateBody": template, "Parameters": parameters, "Tags": listed})

    def _kept(self, stack: str, template: str) -> tuple[Collection[str], dict[str, str]]:
        """Parameters of a template that its deployed stack has, too, and the tags of that stack."""
        client = self._clients.cloudformation
        with translated("cloudformation.ValidateTemplate"), _explained(stack):
            known = client.validate_template(TemplateBody=template).get("Parameters", [])
            [found] = client.describe_stacks(StackName=stack)["Stacks"]
        both = ({each.get("ParameterKey", "") for each in some} for some in (known, found.get("Parameters", [])))
        return set.intersection(*both), {each["Key"]: each["Value"] for each in found.get("Tags", [])}

    def _destroy(self, asked: argparse.Namespace) -> None:
        for name in reversed(_in_order(stacks_of(self._assembly))):
            if name in asked.stacks:
                CloudFormationStacks(lambda _: self._clients).remove(self._place.region, name)


def _in_order(stacks: Mapping[str, AssembledStack]) -> list[str]:
    return [*TopologicalSorter({name: each.after for name, each in stacks.items()}).static_order()]


def _newest_events(client: CloudFormationClient, stack: str) -> Sequence[Mapping[str, str]]:
    return cast("Sequence[Mapping[str, str]]", client.describe_stack_events(StackName=stack)["StackEvents"])


def _protect(client: CloudFormationClient, stack: str, *, protected: bool) -> None:
    with translated("cloudformation.UpdateTerminationProtection"):
        try:
            client.update_termination_protection(EnableTerminationProtection=protected, StackName=stack)
        except ClientError as error:
            # An emulator that lacks the call protects no stacks.
            if not is_unknown_call(error):
                raise


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Say in a sentence what AWS finds wrong with a request; `refusals_explained` says what the caller lacks."""
    try:
        yield
    except ClientError as error:
        if is_denied(error):
            raise
        raise OperationFailedError(f"{what}: {error.response['Error'].get('Message', error_code(error))}") from error


def _parser() -> argparse.ArgumentParser:
    """Options of the CDK CLI that deployments use, with the CLI's defaults."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("stacks", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--exclusively", action="store_true")
    parser.add_argument("--method")
    parser.add_argument("--outputs-file", type=Path)
    parser.add_argument("--rollback-trigger-alarm-arns", action="append", default=[])
    parser.add_argument("--monitoring-time-minutes", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--qualifier", default="hnb659fds")
    parser.add_argument("--toolkit-stack-name", default=TOOLKIT_STACK)
    parser.add_argument("--cloudformation-execution-policies", action="append", default=[])
    parser.add_argument("--custom-permissions-boundary", default="")
    parser.add_argument("--bootstrap-kms-key-id", default="")
    parser.add_argument("--tags", action="append", default=[])
    return parser
