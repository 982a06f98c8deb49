"""The family `metering logs`, to which several modules add their commands."""

from __future__ import annotations

import typer

logs = typer.Typer(
    help="Logs that exist already: their sources, the files that came of each, and those that did not.",
    no_args_is_help=True,
)
