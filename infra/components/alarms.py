"""CloudWatch alarms of the catalogue in `metering.operations.alarms`. Each has one metric, an action and a runbook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from constructs import Construct

from metering.operations.alarms import AlarmSpec, alarm_name
from metering.operations.runbooks import Dashboard, command_of, console_url, dashboard_name, link_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.components.topics import AlertTopics
    from metering.fleet.stage import StageConfig

_MISSING = {
    "breaching": cloudwatch.TreatMissingData.BREACHING,
    "notBreaching": cloudwatch.TreatMissingData.NOT_BREACHING,
    "ignore": cloudwatch.TreatMissingData.IGNORE,
}
_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
    "LessThanThreshold": cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricPlace:
    """Namespace and dimensions of an alarm's metric."""

    namespace: str
    dimensions: Mapping[str, str]


class MeteringAlarm(Construct):
    """An alarm that notifies the topic of its severity when it fires and when it clears."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        spec: AlarmSpec,
        topics: AlertTopics,
        place: MetricPlace,
    ) -> None:
        super().__init__(scope, construct_id)
        self.spec = spec
        metric = cloudwatch.Metric(
            namespace=place.namespace,
            metric_name=spec.metric,
            dimensions_map=dict(place.dimensions),
            statistic=spec.statistic,
            period=Duration.seconds(spec.period_s),
        )
        self.alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_name=alarm_name(config.stage, spec.name),
            alarm_description=self._description(config, spec),
            metric=metric,
            threshold=spec.threshold,
            comparison_operator=_COMPARISONS[spec.comparison],
            evaluation_periods=spec.periods,
            datapoints_to_alarm=spec.periods,
            treat_missing_data=_MISSING[spec.missing],
        )
        action = actions.SnsAction(topics.topic(spec.severity))
        self.alarm.add_alarm_action(action)
        # The first evaluation of a new alarm is no recovery.
        if not config.first_build:
            self.alarm.add_ok_action(action)

    @staticmethod
    def _description(config: StageConfig, spec: AlarmSpec) -> str:
        """Text of the alert: the problem, a command to paste, and links that work in an e-mail."""
        dashboard = dashboard_name(config.stage, Dashboard.ON_CALL, Aws.REGION)
        lines = [
            f"[{spec.severity}] {spec.meaning}",
            f"Type: {command_of(spec.runbook, region=Aws.REGION, stage=config.stage)}",
            f"Dashboard: {console_url(dashboard, region=Aws.REGION, host=config.console_host)}",
        ]
        if config.runbook_base:
            lines.append(f"Runbook: {config.runbook_base.rstrip('/')}/{link_of(spec.runbook)}")
        return "\n".join(lines)


class PageState(Construct):
    """A composite alarm that fires while any paging alarm fires; the person on call checks this alarm first.

    Every paging alarm notifies separately. The composite alarm only notifies when the last paging alarm has cleared.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        alarms: Sequence[MeteringAlarm],
        topics: AlertTopics,
    ) -> None:
        super().__init__(scope, construct_id)
        paging = [alarm.alarm for alarm in alarms if alarm.spec.severity == "page"]
        self.alarm = cloudwatch.CompositeAlarm(
            self,
            "Alarm",
            composite_alarm_name=alarm_name(config.stage, "page-state"),
            alarm_description="At least one alarm that pages is on. See the alarms in its rule; each has a runbook.",
            alarm_rule=cloudwatch.AlarmRule.any_of(*paging),
        )
        if not config.first_build:
            self.alarm.add_ok_action(actions.SnsAction(topics.page))
