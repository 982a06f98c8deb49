"""Where this package runs: in a checkout of the project, or installed; and the packages that some commands need."""

from importlib.util import find_spec
from pathlib import Path

from metering.errors import OperationFailedError
from metering.version import DISTRIBUTION

_PACKAGE = Path(__file__).parents[1]
# Extras of the package, and a package that each extra brings.
_BROUGHT = {"deploy": "aws_cdk", "demo": "ministack"}


def project_dir() -> Path:
    """Parent folder of this package: a checkout, or the folder of installed packages."""
    return _PACKAGE.resolve().parent


def own_dir() -> Path:
    """Folder for state, logs and results: inside a checkout, or for an installed package in the user's own folder."""
    checkout = (project_dir() / "pyproject.toml").is_file()
    return project_dir() / ".local" if checkout else Path.home() / ".cache" / "metering"


def need(extra: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        OperationFailedError: They are not; the error names the extra.
    """
    if find_spec(_BROUGHT[extra]) is None:
        raise OperationFailedError(
            f"This command needs {_BROUGHT[extra]}, which this installation lacks.",
            f"Install the package with its extra: {DISTRIBUTION}[{extra}].",
        )


def runbooks_dir() -> Path:
    """Folder of the runbooks: inside an installed package, or in `docs` of a checkout."""
    installed = _PACKAGE / "operations" / "runbooks"
    return installed if installed.is_dir() else project_dir() / "docs" / "runbooks"
