"""HTTP API in front of the function: throttling, access log, and a custom domain."""

from __future__ import annotations

import json

from aws_cdk import Aws, Duration, Fn
from aws_cdk import aws_apigatewayv2 as gateway
from aws_cdk import aws_certificatemanager as certificates
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_route53 as route53
from aws_cdk.aws_apigatewayv2_authorizers import HttpJwtAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from infra.components.functions import RETENTION, MeteringFunction
from infra.components.organisation import customer_key
from infra.components.shared import acknowledge, removal_policy
from metering.fleet.stage import StageConfig, domain_in
from metering.settings import PEOPLE_PATH

# One line a request. The logged path has no query string: account ids are parameters, and tokens are in a header.
_ACCESS_LOG = {
    "request": "$context.requestId",
    "at": "$context.requestTime",
    "ip": "$context.identity.sourceIp",
    "method": "$context.httpMethod",
    "path": "$context.path",
    "status": "$context.status",
    "bytes": "$context.responseLength",
    "ms": "$context.responseLatency",
    "function_ms": "$context.integrationLatency",
    "error": "$context.integrationErrorMessage",
}


class HttpFront(Construct):
    """An HTTP API that passes every request to one function, which verifies the token.

    Attributes:
        url: Base URL, without a trailing slash.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig, behind: MeteringFunction) -> None:
        super().__init__(scope, construct_id)
        self.api = gateway.HttpApi(
            self,
            "Api",
            api_name=f"metering-{config.stage}",
            description=f"HTTP API of metering, stage {config.stage}.",
            create_default_stage=False,
            default_integration=HttpLambdaIntegration(
                "Integration",
                behind.function,
                payload_format_version=gateway.PayloadFormatVersion.VERSION_2_0,
                timeout=Duration.seconds(config.api_timeout_s),
            ),
        )
        # CloudWatch Logs adds each group of another name to one policy of the account, which has room for a few. The
        # stack's id makes the name unique: a stage that retains its logs may get the API again.
        unique = Fn.select(2, Fn.split("/", Aws.STACK_ID))
        self.access_log = logs.LogGroup(
            self,
            "AccessLog",
            log_group_name=f"/aws/vendedlogs/metering-{config.stage}-api-{unique}",
            encryption_key=customer_key(self, config),
            retention=RETENTION[config.log_retention_days],
            removal_policy=removal_policy(config),
        )
        self.stage = gateway.HttpStage(
            self,
            "Stage",
            http_api=self.api,
            stage_name="$default",
            auto_deploy=True,
            description=f"Stage {config.stage} of metering.",
            throttle=gateway.ThrottleSettings(rate_limit=config.api_rate_per_s, burst_limit=config.api_burst),
            # Only the log distinguishes routes, because a metric per route would cost 0.30 USD a month.
            detailed_metrics_enabled=False,
        )
        self._log()
        if config.api_issuer:
            self._admit_people(config, behind)
        for route in self.api.node.find_all():
            if isinstance(route, gateway.HttpRoute):
                acknowledge(
                    route,
                    "APIG4",
                    "The function checks a token on every route but those that everyone may see: the page, its files, "
                    "the document of the API and its health. It does so before every front, on this machine too.",
                )
        self.url = self.api.api_endpoint
        if config.api_domain:
            self._name(config)

    def _admit_people(self, config: StageConfig, behind: MeteringFunction) -> None:
        """Let people in by a route of their own. The gateway refuses what is not a valid token of the provider."""
        self.api.add_routes(
            path=f"{PEOPLE_PATH}/{{proxy+}}",
            methods=[gateway.HttpMethod.GET],
            integration=HttpLambdaIntegration(
                "PeopleIntegration",
                behind.function,
                payload_format_version=gateway.PayloadFormatVersion.VERSION_2_0,
                timeout=Duration.seconds(config.api_timeout_s),
            ),
            authorizer=HttpJwtAuthorizer("People", config.api_issuer, jwt_audience=[config.api_audience]),
        )

    def _log(self) -> None:
        stage = self.stage.node.default_child
        if not isinstance(stage, gateway.CfnStage):
            raise TypeError("the stage has no CfnStage")
        stage.access_log_settings = gateway.CfnStage.AccessLogSettingsProperty(
            destination_arn=self.access_log.log_group_arn, format=json.dumps(_ACCESS_LOG)
        )

    def _name(self, config: StageConfig) -> None:
        """Create a custom domain in the stage's zone. CloudFormation validates it, and waits for its certificate."""
        name = domain_in(config.api_domain, Aws.REGION)
        certificate = certificates.CfnCertificate(
            self,
            "Certificate",
            domain_name=name,
            validation_method="DNS",
            domain_validation_options=[
                certificates.CfnCertificate.DomainValidationOptionProperty(
                    domain_name=name, hosted_zone_id=config.api_zone_id
                )
            ],
        )
        domain = gateway.CfnDomainName(
            self,
            "Domain",
            domain_name=name,
            domain_name_configurations=[
                gateway.CfnDomainName.DomainNameConfigurationProperty(
                    certificate_arn=certificate.ref, endpoint_type="REGIONAL", security_policy="TLS_1_2"
                )
            ],
        )
        mapping = gateway.CfnApiMapping(
            self, "Mapping", api_id=self.api.api_id, domain_name=domain.ref, stage=self.stage.stage_name
        )
        mapping.node.add_dependency(self.stage)
        route53.CfnRecordSet(
            self,
            "Record",
            hosted_zone_id=config.api_zone_id,
            name=name,
            type="A",
            alias_target=route53.CfnRecordSet.AliasTargetProperty(
                dns_name=domain.attr_regional_domain_name, hosted_zone_id=domain.attr_regional_hosted_zone_id
            ),
        )
        self.url = f"https://{name}"


class UrlFront(Construct):
    """A function URL, for emulators without HTTP APIs: this entry point has no throttling, no log and no domain."""

    def __init__(self, scope: Construct, construct_id: str, *, behind: MeteringFunction) -> None:
        super().__init__(scope, construct_id)
        self.url = behind.function.add_function_url(auth_type=lambda_.FunctionUrlAuthType.NONE).url
