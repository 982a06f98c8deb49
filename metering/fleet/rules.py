"""Rules of a rollout: which regions a stage is built in, and with what care."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable


class RolloutRules(BaseModel):
    """Regions that a stage is built in, and the care taken. Part of the stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: str = Field("us-east-1", description="Holds the state of all regions, and the project that builds them.")
    allow: tuple[str, ...] = Field(("*",), description="Patterns of regions that `reconcile` builds.")
    deny: tuple[str, ...] = Field((), description="Patterns that it never builds, even if `allow` names them.")
    largest_wave: int = Field(4, ge=1, description="Waves double from one region up to this many.")
    bake_min: int = Field(15, ge=0, description="Minutes that a new region is watched before it is ready.")
    canaries: int = Field(3, ge=0, description="Good canary results that a bake needs at least.")
    canary_wait_min: int = Field(30, ge=1, description="Minutes that they may take after the bake.")
    pager_needed: bool = Field(default=False, description="Ready needs a confirmed subscription to the page topic.")
    x86_regions: tuple[str, ...] = Field((), description="Patterns of regions that are built for x86_64 at once.")

    def admits(self, region: str) -> bool:
        """Whether `reconcile` may build `region`."""
        return matches(region, self.allow) and not matches(region, self.deny)


def matches(region: str, patterns: Iterable[str]) -> bool:
    """Whether a region's name fits one of the patterns (`eu-*`)."""
    return any(fnmatchcase(region, pattern) for pattern in patterns)
