"""One package of `uv.lock` as a requirement that pip takes only if its hash is right: for what installs all the rest.

    python -m infra.locked uv

Nothing but the standard library is imported here: it runs before anything is installed.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

LOCK = Path(__file__).parents[1] / "uv.lock"


def requirement(name: str, lock: Path = LOCK) -> str:
    """`name==version` with the hash of each of its wheels.

    Raises:
        LookupError: The lock does not have it, or no wheel of it.
    """
    for package in tomllib.loads(lock.read_text())["package"]:
        if package["name"] == name and package.get("wheels"):
            hashes = [f"--hash={wheel['hash']}" for wheel in package["wheels"]]
            return " ".join([f"{name}=={package['version']}", *hashes])
    raise LookupError(f"{lock.name} has no wheel of {name}")


if __name__ == "__main__":
    sys.stdout.write(requirement(sys.argv[1]) + "\n")
