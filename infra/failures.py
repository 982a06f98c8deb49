"""One sentence from the CDK CLI's output after a failure, which has dozens of lines and stack traces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from metering.errors import MeteringError

# `❌  Environment aws://1/us-east-1 failed bootstrapping: DeploymentError: The stack named CDKToolkit …`
_BOOTSTRAP = re.compile(r"^❌\s+Environment \S+ failed bootstrapping: (?P<why>.*)$")
_NAMED = re.compile(r"The stack named (?P<stack>[\w-]+)")
# `❌ metering-prod-data failed to deploy`, and then `‣ DeploymentError: Resource updates failed:` and then the reason.
_DEPLOY = re.compile(r"^❌\s+(?P<stack>[\w-]+) failed\b(?: to deploy)?:?\s*(?P<why>.*)$")
_BULLET = "‣"
_CLASS = re.compile(r"^‣?\s*(?:\w*Error: )?")
# `at waitForStackDeploy (/…/lib/index.js:111989:11) {`, and the fields of the error object after it.
_TRACE = re.compile(r"^(at |[{}]$|(type|source|cause|deploymentErrorCode): )")
# `metering-prod-data |  1 | 6:29:23 PM | CREATE_FAILED | AWS::Glue::Database | …`
_OPERATED = re.compile(r"^(?P<stack>[\w-]+)\s*\|.*\|\s*\w*(?:FAILED|ROLLBACK)\w*\s*\|")
_LONGEST = 300


class DeploymentError(MeteringError):
    """The CDK CLI failed.

    Attributes:
        step: `bootstrap`, `deploy` or `destroy`.
        stack: Stack that failed; empty if the CLI names none.
        reason: One sentence.
        operated: Whether CloudFormation began the operation; if so, the stack's events name the failed resource.
    """

    def __init__(self, step: str, reason: str, *, stack: str = "", operated: bool = False) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = reason
        self.stack = stack
        self.operated = operated

    def __str__(self) -> str:
        return self.reason


def failure_of(step: str, lines: Sequence[str]) -> DeploymentError:
    """Make the error of a failed CDK command from the CLI's last lines."""
    said = [text for line in lines if (text := line.strip()) and not _TRACE.match(text)]
    for number, line in enumerate(said):
        if match := _BOOTSTRAP.match(line):
            named = _NAMED.search(match["why"])
            return _of_stack(step, named["stack"] if named else "bootstrap", [match["why"]], said)
        if match := _DEPLOY.match(line):
            more = takewhile(lambda text: not text.startswith("❌"), said[number + 1 :])
            return _of_stack(step, match["stack"], [match["why"]] if match["why"] else list(more), said)
    return DeploymentError(step, _sentence([f"cdk {step} failed:", said[-1] if said else "it said nothing"]))


def _of_stack(step: str, stack: str, why: Sequence[str], said: Sequence[str]) -> DeploymentError:
    operated = any((match := _OPERATED.match(line)) and match["stack"] == stack for line in said)
    reason = f"{stack}: {_sentence(why)}" if why else f"cdk {step} failed for {stack}"
    return DeploymentError(step, reason, stack=stack, operated=operated)


def _sentence(lines: Sequence[str]) -> str:
    text = " ".join(_CLASS.sub("", line) for line in lines).removesuffix(" {")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
