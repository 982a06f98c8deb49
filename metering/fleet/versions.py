"""What is deployed in a region against what this checkout would deploy: versions, data formats, and the way between.

The stacks put out their release. Those of version 0.1.0 and older do not: their version is not known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from metering.ledger.format_version import FORMAT_VERSION
from metering.version import package_commit, package_version

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION_OUTPUT = "Version"
FORMAT_OUTPUT = "DataFormat"
COMMIT_OUTPUT = "Commit"
REHEARSAL_OUTPUT = "Rehearsal"

# The last version whose stacks do not put out their version.
LAST_SILENT_VERSION = "0.1.0"

# `0.2.0`, `0.2.0.dev0`, `1.0.0rc1`: what the project's own versions look like (PEP 440).
_VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)(?:\.?(dev|a|b|rc)(\d+))?$")
# A release comes after all that led to it.
_STAGES = {"dev": 0, "a": 1, "b": 2, "rc": 3, None: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a checkout deploys.

    Attributes:
        version: Version of the package, such as `0.2.0`.
        data_format: Newest format of a region's data that it knows, and the one that it writes.
        commit: Commit of the checkout; empty if it is not known.
    """

    version: str
    data_format: int
    commit: str = ""

    @property
    def outputs(self) -> dict[str, str]:
        """Outputs of a stack that was deployed from it."""
        known = {VERSION_OUTPUT: self.version, FORMAT_OUTPUT: str(self.data_format), COMMIT_OUTPUT: self.commit}
        return {name: value for name, value in known.items() if value}

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, str]) -> Release | None:
        """Release that a stack was deployed from; None if the stack does not say."""
        version, data_format = outputs.get(VERSION_OUTPUT, ""), outputs.get(FORMAT_OUTPUT, "")
        if not version or not data_format.isdigit():
            return None
        return cls(version=version, data_format=int(data_format), commit=outputs.get(COMMIT_OUTPUT, ""))

    def __str__(self) -> str:
        return f"{self.version} ({self.commit})" if self.commit else self.version


@cache
def own_release() -> Release:
    """Version, data format and commit of this checkout, or of the installed package."""
    return Release(version=package_version(), data_format=FORMAT_VERSION, commit=package_commit())


class Direction(StrEnum):
    """Way from the deployed release to another one."""

    SAME = "same"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    REFUSED = "refused"
    """The data has a format that the other release does not work with."""


def direction(deployed: Release | None, *, data_format: int, own: Release) -> Direction:
    """Way from what is deployed in a region to this checkout.

    Args:
        deployed: Release that the region's functions say; None if they say none.
        data_format: Format of the region's data, by its ledger.
        own: Release of this checkout.
    """
    if own.data_format != data_format:
        return Direction.REFUSED
    if deployed is None:
        # Only versions that came before the first that says its version.
        return Direction.UPGRADE if order(own.version) > order(LAST_SILENT_VERSION) else Direction.SAME
    if deployed.version == own.version:
        # A checkout without git does not know its commit, and then the version decides.
        known = deployed.commit and own.commit
        return Direction.UPGRADE if known and deployed.commit != own.commit else Direction.SAME
    return Direction.UPGRADE if order(own.version) > order(deployed.version) else Direction.ROLLBACK


def order(version: str) -> tuple[int, ...]:
    """Sort key of a version: 0.1.0 < 0.2.0.dev0 < 0.2.0rc1 < 0.2.0. One that is not of this form comes first."""
    match = _VERSION.match(version)
    if match is None:
        return (0,)
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), _STAGES[stage], int(number or 0)
