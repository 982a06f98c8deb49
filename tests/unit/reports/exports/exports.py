"""Exports into a folder, and what DuckDB reads of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import duckdb

from metering.adapters.folders import FolderLogStore
from metering.reports.exports.destination import MANIFEST, Destination
from metering.reports.exports.exporting import Exported, ExportSource, export
from metering.reports.exports.manifest import ExportRequest
from tests.exports.make import MONTH

if TYPE_CHECKING:
    from pathlib import Path

    from metering.reports.exports.datasets.columns import FileFormat
    from metering.reports.exports.grains import Grain


def request_of(
    kind: str = "focus",
    version: str = "1.2",
    *,
    form: FileFormat = "parquet",
    grain: Grain = "hour",
    month: str = MONTH,
    as_of_s: int = 0,
) -> ExportRequest:
    """A request; CUR has the version 2.0."""
    version = version if kind == "focus" else "2.0"
    return ExportRequest(kind=kind, version=version, month=month, grain=grain, form=form, as_of_s=as_of_s)


def destination(folder: Path) -> Destination:
    """A folder as a place of an export."""
    folder.mkdir(parents=True, exist_ok=True)
    return Destination(objects=FolderLogStore(folder), prefix="", name=str(folder))


def exported(folder: Path, source: ExportSource, request: ExportRequest, *, file_bytes: int = 2**28) -> Exported:
    """Export into a folder."""
    return export(request, source, destination(folder), file_bytes=file_bytes)


def manifest(folder: Path) -> dict[str, object]:
    """The manifest in a folder."""
    document = json.loads((folder / MANIFEST).read_text())
    assert isinstance(document, dict)
    return document


def asked(folder: Path, sql: str, dataset: str = "CostAndUsage") -> list[tuple[object, ...]]:
    """DuckDB's answer about the files of a dataset: `{}` stands for them. All columns of CSV are texts."""
    files = sorted(str(file) for file in folder.glob(f"{dataset}-*"))
    parquet = files[0].endswith(".parquet")
    table = f"read_parquet({files})" if parquet else f"read_csv({files}, all_varchar = true, header = true)"
    with duckdb.connect() as connection:
        return connection.execute(sql.format(table)).fetchall()
