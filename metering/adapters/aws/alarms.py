"""`DeployedAlarms` over CloudWatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.errors import translated
from metering.operations.alarms import alarm_name
from metering.operations.ports import AlarmState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient


class CloudWatchAlarms:
    """Metric alarms of one stage in the client's region."""

    def __init__(self, client: CloudWatchClient, *, stage: str) -> None:
        self._client = client
        self._stage = stage

    def states(self) -> Sequence[AlarmState]:
        with translated("cloudwatch.DescribeAlarms"):
            pages = self._client.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=alarm_name(self._stage, ""), AlarmTypes=["MetricAlarm"]
            )
            found = [alarm for page in pages for alarm in page.get("MetricAlarms", [])]
        return [
            AlarmState(name=alarm["AlarmName"], arn=alarm["AlarmArn"], state=alarm.get("StateValue", ""))
            for alarm in found
        ]
