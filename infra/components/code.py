"""Code assets of the functions: for an emulator only the sources; for AWS also the locked dependencies.

The asset's hash covers its inputs and not the built files, so one commit gives the same asset on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import jsii
from aws_cdk import AssetHashType, BundlingOptions, DockerImage, ILocalBundling
from aws_cdk import aws_lambda as lambda_

from infra.bundle import LOCK_DIR, PYTHON_VERSION, ROOT, bundle, copy_sources, digest

if TYPE_CHECKING:
    from metering.fleet.stage import Architecture


def sources_code() -> lambda_.Code:
    """Make an asset of only the sources. An emulator runs the sources in its own Python environment."""
    return _asset(_SourceBundle(), digest("sources"))


def locked_code(architecture: Architecture) -> lambda_.Code:
    """Make an asset of the sources with the locked wheels for `architecture`."""
    lock = (LOCK_DIR / "uv.lock").read_text()
    return _asset(_LockedBundle(architecture), digest(architecture, PYTHON_VERSION, lock))


def _asset(local: ILocalBundling, asset_hash: str) -> lambda_.Code:
    return lambda_.Code.from_asset(
        str(ROOT / "lambdas"),
        asset_hash=asset_hash,
        asset_hash_type=AssetHashType.CUSTOM,
        # The image is never used, because local bundling runs first and raises an exception if it fails.
        bundling=BundlingOptions(image=DockerImage.from_registry("unused"), local=local),
    )


@jsii.implements(ILocalBundling)
class _SourceBundle:
    def try_bundle(self, output_dir: str, *_options: object, **_more: object) -> bool:
        copy_sources(Path(output_dir))
        return True


@jsii.implements(ILocalBundling)
class _LockedBundle:
    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture

    def try_bundle(self, output_dir: str, *_options: object, **_more: object) -> bool:
        bundle(Path(output_dir), self._architecture)
        return True
