"""`metering logs format`: the command that makes a flow log worth having, what it costs, and what a format lacks."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from metering.cli.command import Session, command
from metering.cli.failures import WrongUsageError
from metering.reports.answer import KEEP, Answer, Cell, Column
from metering.units import GIB

if TYPE_CHECKING:
    from metering.onramps.coverage.log_format import FormatComparison
    from metering.reports.answer import Json

_COLUMNS = (
    Column(name="field", text="copied", priority=KEEP),
    Column(name="says", text="prose", priority=KEEP, about="what it is for"),
)
_MILLION = 1_000_000

# The family: commands of the other modules join it.
logs = typer.Typer(
    help="Logs that exist already: their sources, the files that came of each, and those that did not.",
    no_args_is_help=True,
)


class FileForm(StrEnum):
    """Forms of the files of a flow log."""

    TEXT = "text"
    PARQUET = "parquet"


@command(
    logs,
    "format",
    reads=True,
    epilog="Examples:\n\n    metering logs format --bucket acme-logs --vpc vpc-0abc\n"
    "    metering logs format --compare '${version} ${interface-id} ${bytes}'",
)
def log_format(
    session: Session,
    bucket: Annotated[str, typer.Option("--bucket", metavar="BUCKET", help="Where it delivers to.")] = "BUCKET",
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="FOLDER", help="Folder in the bucket.")] = None,
    vpc: Annotated[str, typer.Option("--vpc", metavar="ID", help="VPC that it logs.")] = "VPC",
    transit_gateway: Annotated[
        str | None, typer.Option("--transit-gateway", metavar="ID", help="Log a transit gateway in place of a VPC.")
    ] = None,
    files: Annotated[
        FileForm, typer.Option("--files", help="Parquet costs a conversion, and less to store.")
    ] = FileForm.TEXT,
    minutes: Annotated[
        int, typer.Option("--minutes", help="Aggregation interval, 1 or 10. Nitro instances always have 1.")
    ] = 10,
    hive: Annotated[bool, typer.Option("--hive", help="Folders named for partitions, for Athena.")] = False,
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="FORMAT", help="Format of a flow log that you have: what it lacks."),
    ] = None,
) -> None:
    """Print the command that makes a flow log with the fields worth having, and what it costs for each GB.

    ACCEPT only, because rejected traffic crosses no boundary; without ports, because nothing is metered by them and
    they make many lines of one. The format of a flow log cannot be changed: make a second one, and delete the first.
    """
    from metering.onramps.coverage.log_format import WORTH, create_command
    from metering.onramps.coverage.log_format import compare as compared

    if minutes not in {1, 10}:
        raise WrongUsageError(f"--minutes {minutes}: AWS aggregates over 1 minute or 10.", "Write --minutes 1 or 10.")
    resource = ("VPC", vpc) if transit_gateway is None else ("TransitGateway", transit_gateway)
    line = create_command(
        resource=resource,
        bucket=bucket,
        prefix=prefix or "",
        region=session.stated_region,
        parquet=files is FileForm.PARQUET,
        minutes=minutes,
        hive=hive,
    )
    if transit_gateway is not None:
        # A transit gateway has fields of its own, and logs all of them if none are named; it aggregates over a minute.
        line = f"{line.partition(' --max-aggregation-interval')[0]} --max-aggregation-interval 60"
        line = line.replace(" --traffic-type ACCEPT", "")
    found = None if compare is None else compared(compare)
    rows: list[dict[str, Cell]] = [
        {"field": name, "says": says} for name, says in WORTH.items() if found is None or name in found.lacks
    ]
    session.write(
        Answer(
            columns=_COLUMNS,
            rows=rows,
            document=_document(line, found, files),
            footer=(*_cost_text(files), *_compared_text(found)),
            empty="That format has all fields worth having.",
            commands=(line,),
        )
    )


def _usd_a_gb(files: FileForm) -> dict[str, Decimal]:
    """Prices of a GB, by what is paid for. Text is not converted."""
    from metering.operations.own_costs.list_prices import FLOW_LOG_USD

    return {name: usd for name, usd in FLOW_LOG_USD.items() if files is FileForm.PARQUET or "Parquet" not in name}


def _cost_text(files: FileForm) -> tuple[str, ...]:
    from metering.onramps.coverage.log_format import LINE_BYTES

    prices = _usd_a_gb(files)
    once = sum((usd for name, usd in prices.items() if not name.startswith("S3 storage")), Decimal(0))
    table = ", ".join(f"{name} {usd} USD" for name, usd in prices.items())
    size_gb = (Decimal(LINE_BYTES * _MILLION) / GIB).quantize(Decimal("0.01"))
    return (
        f"A GB of log before compression costs {once} USD once, at list prices of us-east-1 ({table}). A million lines "
        f"of these fields are about {size_gb} GB: {(once * size_gb).quantize(Decimal('0.01'))} USD.",
        "AWS never logs traffic to its own DNS, DHCP, ARP, instance metadata and time, nor mirrored traffic.",
    )


def _compared_text(found: FormatComparison | None) -> tuple[str, ...]:
    if found is None:
        return ()
    told = []
    if found.needed:
        told.append(f"Without {', '.join(found.needed)} no line of it can be metered.")
    if found.more:
        told.append(
            f"Nothing is metered by {', '.join(found.more)}: they make its lines longer, and ports make many of one."
        )
    return tuple(told)


def _document(line: str, found: FormatComparison | None, files: FileForm) -> dict[str, Json]:
    from metering.onramps.coverage.log_format import LINE_BYTES, WORTH, log_format

    document: dict[str, Json] = {
        "command": line,
        "format": log_format(),
        "fields": list(WORTH),
        "line_bytes": LINE_BYTES,
        "usd_a_gb": {name: str(usd) for name, usd in _usd_a_gb(files).items()},
    }
    if found is not None:
        document["lacks"] = list(found.lacks)
        document["needed"] = list(found.needed)
        document["more"] = list(found.more)
    return document
