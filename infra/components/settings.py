"""Published settings of a stage, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

if TYPE_CHECKING:
    from metering.fleet.stage import StageConfig
    from metering.settings import GivenSettings


class PublishedSettings(Construct):
    """A parameter with the settings as one JSON document. Its generated name is an output of the stack."""

    def __init__(
        self, scope: Construct, construct_id: str, *, config: StageConfig, given: GivenSettings | None
    ) -> None:
        super().__init__(scope, construct_id)
        settings = config.published(given)
        # CloudFormation generates a name without a leading slash. MiniStack generates a name with a leading slash.
        self._separator = "" if config.emulated else "/"
        document = settings.to_json()
        self.sha256 = settings.sha256
        self.parameter = ssm.CfnParameter(
            self,
            "Parameter",
            type="String",
            tier="Standard",
            value=document,
            description="Settings of the metering functions, for the metering command line.",
        )

    @property
    def name(self) -> str:
        return self.parameter.ref

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """Let `grantee` read the settings."""
        resource = f"parameter{self._separator}{self.parameter.ref}"
        arn = Stack.of(self).format_arn(service="ssm", resource=resource, arn_format=ArnFormat.NO_RESOURCE_NAME)
        iam.Grant.add_to_principal(grantee=grantee, actions=["ssm:GetParameter"], resource_arns=[arn])
