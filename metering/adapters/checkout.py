"""The checkout of the project that this package runs from: only there are the stacks and what deploys them."""

from __future__ import annotations

from pathlib import Path

from metering.errors import OperationFailedError

_PACKAGE = Path(__file__).parents[1]


def project_dir() -> Path:
    """The folder that this package lies in: a checkout, or where packages are installed."""
    return _PACKAGE.resolve().parent


def in_checkout() -> bool:
    """Whether this package runs from a checkout."""
    return (project_dir() / "infra" / "deploy.py").is_file()


def checkout_dir() -> Path:
    """The checkout that this package runs from.

    Raises:
        OperationFailedError: It runs from an installed package.
    """
    if not in_checkout():
        raise OperationFailedError(
            "This command needs a checkout of the project, and metering runs from an installed package.",
            "Clone the project, run `make install` there, and use its .venv/bin/metering.",
        )
    return project_dir()


def runbooks_dir() -> Path:
    """Folder of the runbooks: in an installed package it lies in the package, in a checkout in `docs`."""
    installed = _PACKAGE / "operations" / "runbooks"
    return installed if installed.is_dir() else project_dir() / "docs" / "runbooks"
