"""One package of `uv.lock` as a pip requirement with hashes: `uv`, which installs all other packages.

    python -m infra.locked uv

This module imports only the standard library, because it runs before any package is installed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

LOCK = Path(__file__).parents[1] / "uv.lock"


def requirement(name: str, lock: Path = LOCK) -> str:
    """Return `name==version` with the hash of each wheel.

    Raises:
        LookupError: The lock lacks the package or its wheels.
    """
    for package in tomllib.loads(lock.read_text())["package"]:
        if package["name"] == name and package.get("wheels"):
            hashes = [f"--hash={wheel['hash']}" for wheel in package["wheels"]]
            return " ".join([f"{name}=={package['version']}", *hashes])
    raise LookupError(f"{lock.name} has no wheel of {name}")


if __name__ == "__main__":
    sys.stdout.write(requirement(sys.argv[1]) + "\n")
