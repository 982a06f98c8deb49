"""The package's version from `pyproject.toml`, its commit, and the version of its contract."""

from typing import Literal

# Of docs/contract.md.
CONTRACT_VERSION = 1
DropIdentity = Literal["etag", "checksum"]
"""What the batch id of an object below `drop/` is derived from, beside bucket and key (docs/contract/producers.md)."""
# Name of this package in package indexes. The import name and the command are `metering`.
DISTRIBUTION = "transfer-metering"


def package_version() -> str:
    """Version, such as `0.1.0`, from the package metadata, which a function's bundle contains too."""
    import importlib.metadata

    return importlib.metadata.version(DISTRIBUTION)


def package_commit() -> str:
    """Short commit hash of the checkout in use, with `-dirty` if files were changed.

    Empty in an installed package, in a function, and without git.
    """
    import shutil
    import subprocess
    from pathlib import Path

    git, root = shutil.which("git"), Path(__file__).resolve().parents[1]
    if git is None or not (root / ".git").exists():
        return ""
    done = subprocess.run(  # noqa: S603 - our own arguments
        [git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
