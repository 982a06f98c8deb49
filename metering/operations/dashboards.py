"""Dashboards of a stage: their names, and where a browser finds them.

CloudWatch keeps dashboards by account, not by region, so that two regions must not give one name to theirs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Dashboard(StrEnum):
    """Dashboards that the stacks make."""

    ON_CALL = "on-call"
    LOAD = "load"
    REGIONS = "regions"


CONSOLE_HOSTS: Final = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}
"""Host of the console by partition."""

DEFAULT_PARTITION: Final = "aws"


def dashboard_name(stage: str, kind: Dashboard, region: str) -> str:
    """Name of a dashboard in CloudWatch. `region` may be a token of a template."""
    return f"metering-{stage}-{kind}-{region}"


def console_url(name: str, *, region: str, host: str = CONSOLE_HOSTS[DEFAULT_PARTITION]) -> str:
    """URL of a dashboard in the console. All parts may be tokens of a template."""
    return f"https://{host}/cloudwatch/home?region={region}#dashboards/dashboard/{name}"
