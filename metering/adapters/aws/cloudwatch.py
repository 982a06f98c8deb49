"""`DeployedAlarms` over CloudWatch, and `FunctionLogs` over CloudWatch Logs Insights: one query over all functions."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import is_unknown_call, translated
from metering.adapters.aws.stacks import functions_outputs
from metering.errors import OperationFailedError, UnavailableError
from metering.operations import alarms
from metering.operations.logged_errors import AlarmState, LoggedLine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_logs import CloudWatchLogsClient

    from metering.adapters.aws import session


_NEW = "The alarm is new: nothing was measured yet."


class CloudWatchAlarms:
    """Metric alarms of one stage in the client's region."""

    def __init__(self, client: CloudWatchClient, *, stage: str) -> None:
        self._client = client
        self._stage = stage

    def states(self) -> Sequence[AlarmState]:
        with translated("cloudwatch.DescribeAlarms"):
            pages = self._client.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=alarms.alarm_name(self._stage, ""), AlarmTypes=["MetricAlarm"]
            )
            found = [alarm for page in pages for alarm in page.get("MetricAlarms", [])]
        return [
            AlarmState(name=alarm["AlarmName"], arn=alarm["AlarmArn"], state=alarm.get("StateValue", ""))
            for alarm in found
        ]

    def begin_well(self) -> None:
        """Set alarms without a state to OK, unless they notify of OK.

        An alarm begins without a state. Its first evaluation would look like a recovery.
        """
        with translated("cloudwatch.DescribeAlarms"):
            pages = self._client.get_paginator("describe_alarms").paginate(
                AlarmNamePrefix=alarms.alarm_name(self._stage, ""), StateValue="INSUFFICIENT_DATA"
            )
            new = [alarm for page in pages for alarm in page.get("MetricAlarms", []) if not alarm.get("OKActions")]
        for alarm in new:
            with translated("cloudwatch.SetAlarmState"):
                self._client.set_alarm_state(AlarmName=alarm["AlarmName"], StateValue="OK", StateReason=_NEW)


_OUTPUT = "LogGroupName"
# Error lines come from the functions' own logger (JSON), from Lambda's runtime and from Lambda itself. An emulator logs
# each line of a traceback as a separate event, and the last line begins with the exception's class.
_ERRORS = (
    r'"level":\s*"(ERROR|CRITICAL)"|^\[(ERROR|CRITICAL)\]|Task timed out after|Runtime exited|'
    r"^[A-Za-z_.]+(Error|Exception|Exit)(:|$)"
)
_QUERY = "fields @timestamp, @message, @log, @requestId | filter @message like /{pattern}/ | sort @timestamp desc"
# Lambda reports the init duration in milliseconds.
_STARTS = 'filter @type = "REPORT" and ispresent(@initDuration) | stats max(@initDuration) as slowest by @log'
_POLL_S = 0.5
_PATIENCE_S = 60.0
_WAITING = frozenset({"Scheduled", "Running", "Unknown"})


class CloudWatchFunctionLogs:
    """Logs of one stage's functions in the clients' region."""

    def __init__(
        self, client: CloudWatchLogsClient, groups: Mapping[str, str], *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._groups = groups
        self._sleep = sleep

    @property
    def functions(self) -> Sequence[str]:
        return sorted(self._groups)

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        names = {self._groups[name]: name for name in functions}
        rows = self._asked(names, _QUERY.format(pattern=_ERRORS), from_s=from_s, to_s=to_s, limit=limit)
        return [_line(row, names) for row in rows]

    def slowest_starts_ms(self, *, from_s: int) -> dict[str, int]:
        """Duration of each function's slowest cold start since `from_s`, by function name, from Lambda's log lines.

        Raises:
            OperationFailedError: The endpoint cannot search logs.
            UnavailableError: It gave no answer.
        """
        names = {group: name for name, group in self._groups.items()}
        rows = self._asked(names, _STARTS, from_s=from_s, to_s=int(time.time()), limit=len(names))
        found = {_group(row): row.get("slowest", "") for row in rows}
        # An emulator that does not implement `stats` returns rows without this field.
        return {names[group]: round(float(slowest)) for group, slowest in found.items() if group in names and slowest}

    def _asked(self, names: Collection[str], query: str, *, from_s: int, to_s: int, limit: int) -> list[dict[str, str]]:
        try:
            with translated("logs.StartQuery"):
                started = self._client.start_query(
                    logGroupNames=sorted(names), startTime=from_s, endTime=to_s, queryString=query, limit=limit
                )["queryId"]
            return self._rows(started)
        except ClientError as error:
            if not is_unknown_call(error):
                raise
            raise OperationFailedError(
                "This endpoint cannot search logs: it has no CloudWatch Logs Insights.",
                "An emulator writes what its functions log into its own log file.",
            ) from error

    def _rows(self, query: str) -> list[dict[str, str]]:
        waited_s = 0.0
        while True:
            with translated("logs.GetQueryResults"):
                answer = self._client.get_query_results(queryId=query)
            if answer["status"] not in _WAITING:
                break
            if waited_s >= _PATIENCE_S:
                raise UnavailableError("logs.GetQueryResults", f"the search took longer than {_PATIENCE_S:.0f} s")
            self._sleep(_POLL_S)
            waited_s += _POLL_S
        if answer["status"] != "Complete":
            raise UnavailableError("logs.GetQueryResults", f"the search ended as {answer['status']}")
        return [{field["field"]: field.get("value", "") for field in row} for row in answer["results"]]


def log_groups(clients: session.Clients, stage: str) -> dict[str, str]:
    """Log group of each function of a stage, by the function's name, from its stacks' outputs.

    Raises:
        OperationFailedError: The stack's version has no outputs for the log groups.
        SettingsError: The stack does not exist.
    """
    outputs = functions_outputs(clients, stage)
    groups = {_function(name.removesuffix(_OUTPUT)): group for name, group in outputs.items() if name.endswith(_OUTPUT)}
    if not groups:
        raise OperationFailedError(
            f"Stage {stage} in {clients.access.region} was deployed by a version that does not name its logs.",
            f"Deploy it again: metering region add {clients.access.region} --redeploy --stage {stage}",
        )
    return groups


def _function(construct: str) -> str:
    """Name of a function, derived from the name of its CDK construct: `log-context` of `LogContext`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", construct).lower()


def _line(row: Mapping[str, str], names: Mapping[str, str]) -> LoggedLine:
    group = _group(row)
    at = datetime.strptime(row["@timestamp"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    return LoggedLine(
        function=names.get(group, group),
        at_ms=int(at.timestamp()) * 1000 + at.microsecond // 1000,
        text=row.get("@message", ""),
        request_id=row.get("@requestId", ""),
    )


def _group(row: Mapping[str, str]) -> str:
    # In AWS, `@log` has the account id before the log group's name: `123456789012:/aws/lambda/…`.
    return row.get("@log", "").split(":", 1)[-1]
