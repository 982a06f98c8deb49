"""Runbooks and dashboards of each alarm, and their URLs.

The commands in `docs/runbooks` contain the placeholders `REGION` and `STAGE`, so that a command copied from a page is
refused, and never acts on another stage. The operator replaces other words in capitals, such as `SOURCE`.

Nearly equal runbooks share a page. A section `### NAME, NAME` and a list item "`NAME`, `NAME`: ..." belong to these
runbooks; a section `### all` and the rest of the page belong to all. `FUNCTION` is the alarm's function.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from metering.errors import OperationFailedError
from metering.operations.alarms import ALARMS, LOG_FIGURES, AlarmSpec, alarm_name

_ARN = re.compile(r"arn:[^:]+:cloudwatch:(?P<region>[^:]+):\d*:alarm:(?P<name>.+)")
_COMMAND = re.compile(r"^\$ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\((?:[a-z-]+\.md)?#?([a-z-]+)(?:\.md)?\)")
_SECTION = re.compile(r"^### ([a-z, -]+)\n\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r"^- (`[a-z`, -]+`):\s+(.*\n(?:  .*\n)*)", re.MULTILINE)
# Matches a link to another documentation page, which an installed package does not have.
_LINK_ELSEWHERE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")

SHARED_PAGES = {
    "api-requests": ("api-guessing", "api-reads", "api-slow", "api-throttled"),
    "compaction": ("cleaning-behind", "compaction-stalled", "unpublished-hours"),
    "function-errors": (
        *(spec.name for spec in ALARMS if spec.metric == "Errors" and not spec.same_event_as),
        "api-failing",
    ),
    "log-sources": tuple(spec.name for spec in ALARMS if spec.metric in LOG_FIGURES),
    "reconciliation": ("reconciliation-backlog", "reconciliation-stalled"),
    "sources": ("incredible-sources", "silent-sources", "source-gaps", "unkept-sources"),
}
"""Pages of several runbooks. Each other runbook has the page of its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The runbook asked for, the stage that the alarm's name contains, and the region in its ARN; empty if absent."""

    runbook: str
    stage: str = ""
    region: str = ""


def subject_of(name: str) -> Subject:
    """Find the runbook of `dead-letters`, of `metering-prod-dead-letters`, or of an alarm's ARN.

    Raises:
        OperationFailedError: No alarm has this name.
    """
    arn = _ARN.fullmatch(name)
    region = arn["region"] if arn else ""
    wanted = arn["name"] if arn else name
    for spec in sorted(ALARMS, key=lambda each: len(each.name), reverse=True):
        if wanted == spec.name:
            return Subject(runbook=spec.runbook, region=region)
        # A stage's name may contain dashes, so the longest name in the catalogue that matches determines the stage.
        stage = wanted.removeprefix("metering-").removesuffix(f"-{spec.name}")
        if stage and wanted == alarm_name(stage, spec.name):
            return Subject(runbook=spec.runbook, stage=stage, region=region)
    if wanted.endswith("page-state"):
        raise OperationFailedError(
            "page-state is on while any alarm that pages is on, and has no runbook of its own.",
            "To see which alarm is on, with its runbook: metering runbook",
        )
    raise OperationFailedError(f"No alarm is called {name}.", "To see all alarms and their runbooks: metering runbook")


def alarms_of(runbook: str) -> tuple[AlarmSpec, ...]:
    """Alarms that refer to this runbook."""
    return tuple(spec for spec in ALARMS if spec.runbook == runbook)


def command_of(runbook: str, *, region: str, stage: str) -> str:
    """The command that shows a runbook, as alerts print it. Region and stage may be CDK tokens."""
    return f"metering runbook {runbook} --region {region} --stage {stage}"


def page_of(runbook: str) -> str:
    """Name of the page that contains a runbook."""
    return next((page for page, runbooks in SHARED_PAGES.items() if runbook in runbooks), runbook)


def link_of(runbook: str) -> str:
    """Link to a runbook's file in `docs/runbooks`, with an anchor if the page has several runbooks."""
    page = page_of(runbook)
    return f"{page}.md" if page == runbook else f"{page}.md#{runbook}"


def runbook_in(page: str, runbook: str) -> str:
    """Text of one runbook, extracted from its page."""
    together = {*SHARED_PAGES.get(page_of(runbook), ())}

    def own(part: re.Match[str]) -> str:
        names = {*re.findall(r"[a-z-]+", part[1])}
        if not names <= together | {"all"}:
            return part[0]
        return part[2] if names & {runbook, "all"} else ""

    text = re.sub(r"\A# .+", f"# {runbook}", _ITEM.sub(own, _SECTION.sub(own, page)))
    function = next(spec.origin.replace("_", "-") for spec in ALARMS if spec.name == runbook)
    return re.sub(r"\bFUNCTION\b", function, re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n")


def placed(page: str, *, region: str, stage: str) -> str:
    """Text of a page with region and stage filled in. Links to pages other than runbooks become plain text."""
    return re.sub(r"\bSTAGE\b", stage, re.sub(r"\bREGION\b", region, _LINK_ELSEWHERE.sub(r"\1", page)))


def commands_by_part(text: str) -> tuple[tuple[str, str], ...]:
    """Commands of a page, each with the heading above it."""
    parts = [part.split("\n", 1) for part in text.split("\n## ")[1:]]
    return tuple((heading, command) for heading, body in parts for command in _COMMAND.findall(body))


def linked_runbooks(text: str) -> tuple[str, ...]:
    """Names of the other runbooks that a page links to, in order, without repetition."""
    return tuple(dict.fromkeys(_LINK.findall(text)))


class Dashboard(StrEnum):
    """Dashboards that the stacks create. Dashboard names contain the region: CloudWatch keeps dashboards by account."""

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
    """Name of a dashboard in CloudWatch. `region` may be a CDK token."""
    return f"metering-{stage}-{kind}-{region}"


def console_url(name: str, *, region: str, host: str = CONSOLE_HOSTS[DEFAULT_PARTITION]) -> str:
    """URL of a dashboard in the console. All arguments may be CDK tokens."""
    return f"https://{host}/cloudwatch/home?region={region}#dashboards/dashboard/{name}"
