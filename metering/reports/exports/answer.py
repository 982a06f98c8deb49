"""What an export tells on the terminal: its datasets and their sums, and how it ties out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

from metering.reports.answer import KEEP, Answer, Column
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.reports.answer import Cell, Json
    from metering.reports.exports.destination import Document
    from metering.reports.exports.exporting import Exported

_COLUMNS = (
    Column(name="dataset", priority=KEEP, text="copied"),
    Column(name="rows", kind="integer", priority=KEEP),
    Column(name="bytes", kind="bytes"),
    Column(name="billed_usd", kind="money", title="billed USD", priority=KEEP),
    Column(name="files", kind="integer"),
    Column(name="stored_bytes", kind="bytes", title="size"),
)
_SHOWN = 5


def export_answer(exported: Exported, place: str) -> Answer:
    """The datasets of an export; in JSON with what its manifest says beside its files."""
    manifest = exported.manifest
    said = cast("Document", manifest["export"])
    datasets = cast("list[Document]", manifest["datasets"])
    meta: dict[str, Json] = {
        "place": place,
        "written": exported.written,
        **{
            name: cast("Json", said[name]) for name in ("kind", "version", "month", "grain", "format", "state", "as_of")
        },
        **{name: cast("Json", manifest[name]) for name in ("tie_out", "left_out", "not_final")},
    }
    state = "" if said["state"] == "issued" else ", draft"
    return Answer(
        columns=_COLUMNS,
        rows=[_row(dataset) for dataset in datasets],
        meta=meta,
        title=f"{str(said['kind']).upper()} {said['version']} of {said['month']}{state}, in {place}",
        footer=tuple(_ties(cast("list[Document]", manifest["tie_out"]))),
    )


def export_notes(exported: Exported) -> Iterator[str]:
    """What whoever uses the export has to know: what is provisional, what has no price, and what is not final."""
    manifest = exported.manifest
    if cast("Document", manifest["export"])["state"] == "draft":
        yield "It is a draft: invoice ids are provisional, and figures may change until the month is issued."
    for each in cast("list[dict[str, str]]", manifest["not_final"]):
        yield f"{each['region']}: {each['why']}."
    left_out = cast("list[dict[str, str]]", manifest["left_out"])
    unpriced = [each for each in left_out if each["state"] != "unrated"]
    for each in unpriced[:_SHOWN]:
        yield f"Not in the export, for it has no price: {_used([each])} of {each['usage_type']} ({each['service']})."
    if len(unpriced) > _SHOWN:
        see = f"metering prices check --month {cast('Document', manifest['export'])['month']}"
        yield f"And {len(unpriced) - _SHOWN:,} more without a price, {_used(unpriced[_SHOWN:])}: {see}"
    if unrated := [each for each in left_out if each["state"] == "unrated"]:
        names = sorted({each["usage_type"] for each in unrated})
        some = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")
        yield f"Not in the export, for the price book says that it is not sold: {_used(unrated)} of {some}."


def _used(usage: list[dict[str, str]]) -> str:
    return exact_and_size(sum(int(each["bytes"]) for each in usage))


def _row(dataset: Document) -> dict[str, Cell]:
    files = cast("list[dict[str, int]]", dataset["files"])
    return {
        "dataset": str(dataset["name"]),
        "rows": cast("int", dataset["rows"]),
        "bytes": int(str(dataset["bytes"])) if "bytes" in dataset else None,
        "billed_usd": Decimal(str(dataset["billed_usd"])) if "billed_usd" in dataset else None,
        "files": len(files),
        "stored_bytes": sum(file["size_bytes"] for file in files),
    }


def _ties(documents: list[Document]) -> Iterator[str]:
    for each in documents[:_SHOWN]:
        yield (
            f"{each['document']}: exactly {each['exact_usd']} USD, as its document; in cents by line "
            f"{each['document_usd']} USD."
        )
    if len(documents) > _SHOWN:
        yield f"And {len(documents) - _SHOWN:,} more documents, all equal: see the manifest."
