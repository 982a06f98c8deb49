"""The version of this package, as `pyproject.toml` says it."""

from __future__ import annotations

import importlib.metadata


def package_version() -> str:
    """Such as `0.1.0`: from the metadata of the installed package, which a function's bundle has too."""
    return importlib.metadata.version("metering")
