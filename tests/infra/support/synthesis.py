"""Templates of a stage, synthesised in this process and cached."""

import json
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

from aws_cdk import App
from aws_cdk.assertions import Template

from infra.app import Region, build, new_app
from infra.components.code import sources_code
from metering.fleet.ports import Release
from metering.fleet.settings.bases import STAGES, flat
from metering.fleet.settings.layers import Asked, config_of, planned
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings

PARTS = ("data", "pipeline", "api", "observability")
STAGE_NAMES = tuple(sorted(STAGES))

Resource = dict[str, Any]

# Every snapshot has the same release, whatever the checkout's version.
RELEASE = Release(version="1.2.3", data_format=1, commit="0123456789ab")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """A stage's templates by part, and its protected stacks."""

    config: StageConfig
    templates: dict[str, dict[str, Any]]
    protected: dict[str, bool]

    def resources(self, part: str, kind: str) -> dict[str, Resource]:
        """Resources of a type in one stack, by logical id."""
        found: dict[str, Resource] = self.templates[part]["Resources"]
        return {name: resource for name, resource in found.items() if resource["Type"] == kind}

    def policies(self, part: str) -> dict[str, Resource]:
        """Policies of the roles of one stack, inline and managed, by logical id."""
        return self.resources(part, "AWS::IAM::Policy") | self.resources(part, "AWS::IAM::ManagedPolicy")

    def one(self, part: str, kind: str, prefix: str = "") -> Resource:
        """The only resource of a type whose logical id begins with `prefix`."""
        found = {name: value for name, value in self.resources(part, kind).items() if name.startswith(prefix)}
        assert len(found) == 1, f"{sorted(found)} begin with {prefix!r}"
        return next(iter(found.values()))

    def all_resources(self) -> dict[str, Resource]:
        return {
            f"{part}/{name}": resource
            for part, template in self.templates.items()
            for name, resource in template["Resources"].items()
        }


def app_of(
    config: StageConfig, *, given: GivenSettings | None = None, region: str | None = None, account: str | None = None
) -> tuple[App, Region]:
    """An app with a stage's stacks; the functions' code is the plain sources, so that tests need no network."""
    app = new_app(tempfile.mkdtemp(prefix="metering-test-"))
    given = given or GivenSettings(like=config.stage)
    return app, build(
        app, config=config, given=given, region=region, account=account, code=sources_code, release=RELEASE
    )


@cache
def synthesised(
    stage: str, region: str | None = None, account: str | None = None, overrides: str = "{}", own: str = "{}"
) -> Synthesised:
    """Templates of a stage; `overrides` (given settings) and `own` (settings that the region decides) are JSON."""
    settings = planned(Asked(stage=stage, options=flat(json.loads(overrides))), None)
    config = config_of(stage, settings.given, json.loads(own))
    # The version changes with each release, and a template does not depend on it.
    given = settings.given.model_copy(update={"version": "1.2.3"})
    _, stacks = app_of(config, given=given, region=region, account=account)
    parts = {part: stack for part in PARTS if (stack := getattr(stacks, part)) is not None}
    return Synthesised(
        config=config,
        templates={part: dict(Template.from_stack(stack).to_json()) for part, stack in parts.items()},
        protected={part: bool(stack.termination_protection) for part, stack in parts.items()},
    )
