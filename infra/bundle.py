"""The bundle of all functions: their sources, and for an AWS stage also the locked dependencies for its architecture.

This needs no Docker: `uv pip install` downloads the wheels of the target platform. The bundle has exactly the versions
that `uv.lock` names for the project and its `lambda` group. This module does not import the CDK.

    python -m infra.bundle arm64 build/bundle
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metering.errors import MeteringError
from metering.units import MIB
from metering.version import DISTRIBUTION, package_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.fleet.stage import Architecture

ROOT = Path(__file__).parents[1]
# Folder of `pyproject.toml` and `uv.lock`: the checkout, or inside an installed package.
LOCK_DIR = ROOT if (ROOT / "uv.lock").is_file() else ROOT / "infra"
SOURCES = ("metering", "lambdas")
# Folders of `metering` that functions do not import.
LEFT_OUT = ("metering/cli", "metering/adapters/emulator", "metering/replay")

# Lambda's limit is 250 MB unzipped. A tenth of the limit is reserved for the overhead of the extraction.
SIZE_LIMIT_BYTES = 225 * MIB

PYTHON_VERSION = "3.13"
_PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}

# Files of packages that the functions do not need. `libarrow_substrait` stays, because pyarrow imports it.
_PRUNED_DIRS = ("pyarrow/include", "pyarrow/src", "pyarrow/tests", "pyarrow/includes", "bin", "share")
_PRUNED_GLOBS = (
    "pyarrow/*flight*",
    "pyarrow/*.pyx",
    "pyarrow/*.pxi",
    "pyarrow/*.pxd",
    "pyarrow/*.h",
    "pyarrow/libarrow_python.so.*.*",
    "**/*.pyc",
)


class BundleTooLargeError(MeteringError):
    """The bundle exceeds the size limit of a function.

    Attributes:
        size_bytes, limit_bytes: Size of the bundle, and its limit.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(size_bytes, limit_bytes)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        sizes = (f"{size / MIB:.0f} MiB" for size in (self.size_bytes, self.limit_bytes))
        return "the bundle holds {} unzipped, {} are allowed".format(*sizes)


def digest(*parts: str) -> str:
    """Hash all inputs of a bundle: the sources, the package version, this module's source, and `parts`."""
    result = hashlib.sha256()
    for part in (*parts, Path(__file__).read_text(), package_version()):
        result.update(part.encode() + b"\0")
    for path in source_files():
        result.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return result.hexdigest()


def source_files() -> Iterator[Path]:
    """Yield the source files of the functions in a fixed order."""
    left_out = tuple(f"{folder}/" for folder in LEFT_OUT)
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*")):
            relative = path.relative_to(ROOT).as_posix()
            shipped = path.is_file() and path.suffix != ".md" and "__pycache__" not in path.parts
            if shipped and not relative.startswith(left_out):
                yield path


def copy_sources(target: Path) -> None:
    """Copy the functions' sources to `target`, and the package metadata, which contains their version."""
    for path in source_files():
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    metadata = target / f"{DISTRIBUTION.replace('-', '_')}-{package_version()}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {package_version()}\n")


def install_locked(target: Path, architecture: Architecture) -> None:
    """Install the locked dependencies for `architecture` into `target`, and remove files that functions do not need."""
    uv = find_uv()
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        export = [uv, "export", "--frozen", "--no-default-groups", "--group", "lambda", "--no-emit-project"]
        _run([*export, "--quiet", "--output-file", str(requirements)])
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        platform = ["--python-platform", _PLATFORMS[architecture], "--python-version", PYTHON_VERSION]
        _run([*install, *platform, "--no-compile-bytecode", "--target", str(target), "-r", str(requirements)])
    prune(target)


def prune(target: Path) -> None:
    """Remove the files that functions do not need."""
    for folder in _PRUNED_DIRS:
        shutil.rmtree(target / folder, ignore_errors=True)
    for pattern in _PRUNED_GLOBS:
        for path in target.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def size_bytes(target: Path) -> int:
    """Return the total size of all files below `target`."""
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


def check_size(target: Path, *, limit_bytes: int = SIZE_LIMIT_BYTES) -> int:
    """Return the size of the bundle in bytes.

    Raises:
        BundleTooLargeError: The bundle exceeds the size limit.
    """
    size = size_bytes(target)
    if size > limit_bytes:
        raise BundleTooLargeError(size, limit_bytes)
    return size


def find_uv() -> str:
    """Find `uv` on the PATH, or else the copy that `make` installs below `.local`."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".local" / "uv" / "bin"))
    if uv is None:
        raise FileNotFoundError("uv is needed to bundle the functions: install uv, or run `make install` in a checkout")
    return uv


def _run(command: list[str]) -> None:
    subprocess.run(command, cwd=LOCK_DIR, check=True)  # noqa: S603 - our own arguments


def bundle(target: Path, architecture: Architecture) -> int:
    """Write a complete bundle to `target` and return its size in bytes.

    Raises:
        BundleTooLargeError: The bundle exceeds the size limit.
    """
    install_locked(target, architecture)
    copy_sources(target)
    return check_size(target)


if __name__ == "__main__":
    wanted: Architecture = "arm64" if sys.argv[1] == "arm64" else "x86_64"
    sys.stdout.write(f"{bundle(Path(sys.argv[2]), wanted) / MIB:.1f} MiB unzipped, {wanted}\n")
