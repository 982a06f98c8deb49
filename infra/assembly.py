"""Cloud assemblies: the output of `cdk synth`, made in this process and cached until an input changes.

The stacks are environment-agnostic, so one assembly serves every region of one configuration.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from infra.bundle import LOCK_DIR, ROOT, digest
from infra.cdk_cli import node_path
from metering.adapters.checkout import need, own_dir
from metering.fleet.ports import own_release
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.fleet.stage import StageConfig
    from metering.settings import GivenSettings

# Longer than a deployment takes with its bake.
_KEPT_S = 2 * HOUR_S


def assembly_of(config: StageConfig, given: GivenSettings, *, cache: Path | None = None) -> Path:
    """Return the folder of a stage's cloud assembly. The assembly is synthesised unless it is cached.

    Args:
        config: Configuration of the stage.
        given: The stage's given settings, which the stacks publish.
        cache: Folder for the cached assemblies; by default the project's own folder.
    """
    kept = cache or own_dir() / "assemblies"
    folder = kept / f"{config.stage}-{_digest(config, given)}"
    kept.mkdir(parents=True, exist_ok=True)
    # Deployments in parallel must not remove an assembly that another deployment is about to use.
    with (kept / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            # The folder's modification time is the time of its last use.
            os.utime(folder)
            return folder
        _forget_old(kept)
    scratch = Path(tempfile.mkdtemp(prefix="new-", dir=kept))
    synthesize(config, given, scratch)
    try:
        scratch.rename(folder)
    except OSError:
        # Another process was the first to create an equal assembly.
        shutil.rmtree(scratch)
    return folder


def synthesize(config: StageConfig, given: GivenSettings, target: Path) -> None:
    """Write a stage's cloud assembly to `target`. For a stage in an AWS account, cdk-nag must pass first."""
    need("deploy")
    # Otherwise, the CDK's Python library starts the first Node in the PATH, which may be too old.
    os.environ.setdefault("JSII_NODE", str(node_path()))
    # Importing the CDK starts a Node process, so it is imported only for a synthesis.
    from infra.app import build, check, new_app

    app = new_app(str(target))
    build(app, config=config, given=given)
    if not config.emulated:
        check(app)
    app.synth()


def resource_types(folder: Path) -> list[str]:
    """List the distinct CloudFormation types in an assembly, sorted."""
    return sorted(
        {
            resource["Type"]
            for template in templates(folder).values()
            for resource in template.get("Resources", {}).values()
        }
    )


def templates(folder: Path) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """Return the templates of an assembly by stack name."""
    return {
        name: json.loads((folder / artifact["properties"]["templateFile"]).read_text())
        for name, artifact in _stack_artifacts(folder)
    }


def _stack_artifacts(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, artifact in manifest["artifacts"].items():
        if artifact["type"] == "aws:cloudformation:stack":
            yield name, artifact


def _digest(config: StageConfig, given: GivenSettings) -> str:
    stacks = sorted((ROOT / "infra").rglob("*.py"))
    lock = (LOCK_DIR / "uv.lock").read_text()
    inputs = (config.model_dump_json(), given.model_dump_json(), lock, own_release().commit)
    return digest(*inputs, *[path.read_text() for path in stacks])[:16]


def _forget_old(kept: Path) -> None:
    limit_s = time.time() - _KEPT_S
    for folder in kept.glob("*-*"):
        # A parallel deployment renames its assembly when it is complete.
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < limit_s:
                shutil.rmtree(folder, ignore_errors=True)
