"""Assemblies that are synthesised once, with bundles and hashes, and deployed elsewhere without Node and package index.

A folder:

    release.json        version, commit, settings of each assembly, and the SHA-256 of each other file
    prod-<hash>/        an assembly, as `cdk deploy --app` takes it too
    assets/<hash>.zip   bundles of the functions, which the assemblies share
    bootstrap.yaml      the CDK's own template of its bootstrap

    python -m infra.artefact FOLDER STAGE…

makes the assemblies of stages without any settings. `metering deploy --make-assembly` makes those of other settings.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from infra.assembly import assembly_of
from infra.bundle import LOCK_DIR, ROOT
from infra.cdk_cli import cdk_command
from metering.adapters.aws.change_sets import BOOTSTRAP_TEMPLATE
from metering.errors import OperationFailedError
from metering.fleet.ports import own_release
from metering.fleet.settings.layers import Asked, planned
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.fleet.stage import StageConfig

_RELEASE = "release.json"
_ASSETS = "assets"
# A zip file cannot hold an earlier time. With one time for all, equal files make equal archives.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16
# Assemblies of an installed package, which `make dist` makes; in a checkout, the sources may have changed.
EMBEDDED = ROOT / "infra" / "assemblies"
INSTALLED = LOCK_DIR != ROOT


class Variant(BaseModel):
    """An assembly, and what it was synthesised for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    config: dict[str, JsonValue]
    given: GivenSettings

    def differences(self, config: StageConfig, given: GivenSettings) -> list[str]:
        """Names of settings that differ from these; empty if the assembly is for exactly them."""
        wanted = config.model_dump(mode="json")
        names = sorted({*wanted, *self.config})
        found = [name for name in names if wanted.get(name) != self.config.get(name)]
        return found or ([] if given == self.given else ["whether a file or an option gives them"])


class ReleaseDocument(BaseModel):
    """Content of `release.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_name: Literal["metering.assembly/1"] = Field("metering.assembly/1", alias="schema")
    version: str
    commit: str
    variants: tuple[Variant, ...] = ()
    files: dict[str, str] = {}


class Artefact:
    """A folder with assemblies.

    Raises:
        OperationFailedError: The folder has no assemblies, or is of another version than this code.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._document = ReleaseDocument.model_validate_json((folder / _RELEASE).read_bytes())
        except FileNotFoundError as error:
            raise OperationFailedError(f"{folder} has no {_RELEASE}.") from error
        except ValidationError as error:
            raise OperationFailedError(f"{folder / _RELEASE} is damaged, or of another version.") from error
        own = own_release()
        if self._document.version != own.version or (own.commit and self._document.commit != own.commit):
            of = " ".join(filter(None, (self._document.version, self._document.commit)))
            raise OperationFailedError(f"{folder} is of version {of}, and this is {own}.")

    def check(self) -> str:
        """Compare each file with its hash; returns the SHA-256 of `release.json`, which vouches for all.

        Raises:
            OperationFailedError: A file is missing, changed or unknown.
        """
        found = dict(_hashes(self._folder))
        own = found.pop(_RELEASE)
        wrong = sorted(name for name, _ in found.items() ^ self._document.files.items())
        if wrong:
            raise OperationFailedError(f"{self._folder}: {wrong[0]} is not what {_RELEASE} says.")
        return own

    def assembly_of(self, config: StageConfig, given: GivenSettings) -> Path:
        """Folder of the assembly for exactly these settings.

        Raises:
            OperationFailedError: No assembly fits; the error names the settings that differ from the nearest one.
        """
        found = {each.folder: each.differences(config, given) for each in self._document.variants}
        folder, names = min(found.items(), key=lambda item: len(item[1]), default=("", ["all"]))
        if names:
            raise OperationFailedError(f"{self._folder} was made for other settings: {', '.join(names)}.")
        return self._folder / folder


def is_ready(assembly: Path) -> bool:
    """Whether an assembly is part of an artefact, which needs no CDK to be deployed."""
    return (assembly.parent / _RELEASE).is_file()


def embedded_assembly(config: StageConfig, given: GivenSettings) -> Path | None:
    """Assembly for these settings in the installed package; None in a checkout, and for other settings."""
    if not INSTALLED or not (EMBEDDED / _RELEASE).is_file():
        return None
    try:
        return Artefact(EMBEDDED).assembly_of(config, given)
    except OperationFailedError:
        return None


def add(target: Path, config: StageConfig, given: GivenSettings) -> None:
    """Add assemblies for a configuration to an artefact, which is created if necessary.

    For AWS there is one for each architecture, and one of each for a first deployment.

    Raises:
        OperationFailedError: The folder has files of another version.
    """
    own = own_release()
    document = ReleaseDocument(version=own.version, commit=own.commit)
    if target.exists():
        before = Artefact(target)
        before.check()
        document = before._document
    (target / _ASSETS).mkdir(parents=True, exist_ok=True)
    variants = {each.folder: each for each in document.variants}
    for each in [config] if config.emulated else _variants(config):
        assembly = assembly_of(each, given)
        _copy(assembly, target)
        variants[assembly.name] = Variant(folder=assembly.name, config=each.model_dump(mode="json"), given=given)
    if not config.emulated:
        done = subprocess.run([*cdk_command("bootstrap"), "--show-template"], capture_output=True, check=True)  # noqa: S603 - our own arguments
        (target / BOOTSTRAP_TEMPLATE).write_bytes(done.stdout)
    files = {name: digest for name, digest in _hashes(target) if name != _RELEASE}
    made = document.model_copy(update={"variants": tuple(variants.values()), "files": files})
    (target / _RELEASE).write_text(made.model_dump_json(by_alias=True, indent=1))


def _variants(config: StageConfig) -> Iterator[StageConfig]:
    # Only the home region has a project.
    projects = (True, False) if config.rollout_project else (config.rollout_project,)
    for architecture, first, project in product(("arm64", "x86_64"), (False, True), projects):
        own = {"architecture": architecture, "first_build": first, "rollout_project": project}
        yield config.model_copy(update=own)


def _copy(assembly: Path, target: Path) -> None:
    """Copy what a deployment reads, with the folders of assets as archives."""
    folder = target / assembly.name
    folder.mkdir(exist_ok=True)
    for path in [assembly / "manifest.json", *assembly.glob("*.template.json")]:
        shutil.copyfile(path, folder / path.name)
    for path in assembly.glob("*.assets.json"):
        manifest = json.loads(path.read_text())
        for asset_id, asset in manifest["files"].items():
            if asset["source"]["packaging"] == "zip":
                archive = target / _ASSETS / f"{asset_id}.zip"
                if not archive.exists():
                    _archive(assembly / asset["source"]["path"], archive)
                asset["source"] = {"path": f"../{_ASSETS}/{archive.name}", "packaging": "file"}
        (folder / path.name).write_text(json.dumps(manifest, indent=1))


def _archive(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
                member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, _READABLE
                archive.writestr(member, path.read_bytes())


def _hashes(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                yield path.relative_to(folder).as_posix(), hashlib.file_digest(content, "sha256").hexdigest()


def main(arguments: Sequence[str]) -> None:
    """Add the assemblies of built-in stages to a folder."""
    folder, *stages = arguments
    for stage in stages:
        settings = planned(Asked(stage=stage), None)
        add(Path(folder), settings.config, settings.given)


if __name__ == "__main__":
    main(sys.argv[1:])
