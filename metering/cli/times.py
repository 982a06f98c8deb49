"""Options of times that commands share."""

from typing import Annotated

import typer

FROM_OPTION = typer.Option(
    "--from", metavar="TIME", help="RFC 3339, date, month, today, yesterday…; included. Default: everything."
)
TO_OPTION = typer.Option("--to", metavar="TIME", help="Not included.")
LastOption = Annotated[
    str | None,
    typer.Option("--last", metavar="SPAN", help="Up to the end of this hour: 24h, 7d, 2w or 3m (months)."),
]
ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", help="Zone of times given without one, and of times shown, such as Europe/Berlin."
    ),
]
