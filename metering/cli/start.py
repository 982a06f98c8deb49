"""Entry point of the `metering` script. It says so if the packages of the command line are missing."""

import sys
from importlib.util import find_spec

# The packages of the extra `cli`.
_NEEDED = ("duckdb", "localstack_client", "rich", "typer")


def main() -> None:
    """Run the command line."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(
            f"Error: the command line needs {', '.join(missing)}, which this installation lacks.\n"
            "Install the package with its extra: metering[cli]."
        )
    from metering.cli.app import main as run

    run()
