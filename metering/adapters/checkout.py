"""The project checkout from which this package runs; only checkouts contain the stacks and the deployment code."""

from pathlib import Path

from metering.errors import OperationFailedError

_PACKAGE = Path(__file__).parents[1]


def project_dir() -> Path:
    """Parent folder of this package: a checkout, or the folder of installed packages."""
    return _PACKAGE.resolve().parent


def in_checkout() -> bool:
    """Whether this package runs from a checkout."""
    return (project_dir() / "infra" / "deploy.py").is_file()


def checkout_dir() -> Path:
    """The checkout from which this package runs.

    Raises:
        OperationFailedError: The package runs installed, not from a checkout.
    """
    if not in_checkout():
        raise OperationFailedError(
            "This command needs a checkout of the project, and metering runs from an installed package.",
            "Clone the project, run `make install` there, and use its .venv/bin/metering.",
        )
    return project_dir()


def runbooks_dir() -> Path:
    """Folder of the runbooks: inside an installed package, or in `docs` of a checkout."""
    installed = _PACKAGE / "operations" / "runbooks"
    return installed if installed.is_dir() else project_dir() / "docs" / "runbooks"
