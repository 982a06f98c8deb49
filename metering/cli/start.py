"""Entry point of the `metering` script. If packages of the command line are missing, the script prints a message."""

import importlib.util
import sys

# Packages of the extra `cli`.
_NEEDED = ("duckdb", "localstack_client", "rich", "typer")


def main() -> None:
    """Run the command line."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"Error: the command line needs {', '.join(missing)}, which this installation lacks.\n"
            "Install the package with its extra: transfer-metering[cli]."
        )
    try:
        from metering.cli.app import main as run

        run()
    except KeyboardInterrupt:
        # Ctrl-C was pressed before a command began.
        sys.exit(130)
