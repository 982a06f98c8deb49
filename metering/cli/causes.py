"""The answer of `metering ingest --dry-run --who`: whose workloads move the bytes, and to where."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from metering.cli.failures import CommandFailedError
from metering.onramps.rules.causes import FREE
from metering.reports import answer
from metering.reports.operators.ingest_answer import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.onramps.context.holders import Workloads
    from metering.onramps.ingest.outcomes import Moved, RunTotals

UNATTRIBUTED = "unattributed"
_OTHERS = "others"


class _Row(NamedTuple):
    usage_type: str
    workload: str
    destination: str
    path: str
    reason: str


_SHAPE = answer.ListedRows(
    answer.copied("usage_type", "workload", "destination", priority=answer.KEEP),
    answer.copied("path"),
    answer.copied("reason", priority=answer.ROOMY, about="why bytes are unattributed"),
    answer.sized("bytes", priority=answer.KEEP),
    answer.number("share", about="of the usage type"),
)
_DETAIL = answer.ListedRows(
    answer.copied("usage_type", "account_id", "resource_id", "cause", "workload", "destination", "path", "basis"),
    answer.copied("reason"),
    answer.exact("bytes"),
    answer.integer("lines"),
)


def causes_answer(totals: RunTotals, workloads: Workloads, *, top: int, detail: bool) -> answer.Answer:
    """Bytes by usage type, workload, destination and path, the largest first, and free traffic last.

    `detail` has one row a cause.

    Processing has the bytes of other rows once more, as on the bill.

    Raises:
        CommandFailedError: The bytes of all causes are not those of the totals, which is a defect.
    """
    attributed, all_bytes = _sum(totals.causes, attributed=True), _sum(totals.causes, attributed=False)
    if all_bytes != totals.balance.batched_bytes:
        raise CommandFailedError(
            f"The causes have {all_bytes:,} bytes, and the files {totals.balance.batched_bytes:,}: this is a defect."
        )
    footer = (
        f"Bytes: {all_bytes:,} = attributed {attributed:,} + unattributed {all_bytes - attributed:,}; "
        f"{totals.balance.processed_bytes:,} of them are processing, a second count of the same bytes.",
        *_reasons(totals.causes, all_bytes),
    )
    meta: dict[str, answer.Json] = {
        "bytes": str(all_bytes),
        "attributed_bytes": str(attributed),
        "processed_bytes": str(totals.balance.processed_bytes),
    }
    if detail:
        rows = [
            (*moved[:4], workloads.of(moved.cause).workload if moved.cause else UNATTRIBUTED, *moved[4:], *size)
            for moved, size in sorted(totals.causes.items())
        ]
        return _DETAIL.answer(rows, meta=meta, footer=footer)
    found = _grouped(totals.causes, workloads)
    by_type: Counter[str] = Counter()
    for row, size in found.items():
        by_type[row.usage_type] += size
    ordered = sorted(found.items(), key=lambda each: (FREE in each[0].usage_type, -each[1], each[0]))
    shown = ordered[: top or None]
    left = sum(size for _, size in ordered[len(shown) :])
    others = None
    if len(shown) < len(ordered):
        others = _SHAPE.row((f"{_OTHERS} ({len(ordered) - len(shown)})", None, None, None, None, left, None))
        meta[_OTHERS] = {"rows": len(ordered) - len(shown), "bytes": str(left)}
    return _SHAPE.answer(
        [(*row, size, percent(size, by_type[row.usage_type])) for row, size in shown],
        meta=meta,
        title="Whose workloads move the bytes, and to where",
        footer=footer,
        others=others,
        empty="Nothing in these files would be metered.",
    )


def _grouped(causes: Mapping[Moved, tuple[int, int]], workloads: Workloads) -> dict[_Row, int]:
    found: dict[_Row, int] = defaultdict(int)
    for moved, (size, _) in causes.items():
        workload = workloads.of(moved.cause).workload if moved.cause else UNATTRIBUTED
        found[_Row(moved.usage_type, workload, moved.destination, moved.path, moved.reason)] += size
    return found


def _sum(causes: Mapping[Moved, tuple[int, int]], *, attributed: bool) -> int:
    return sum(size for moved, (size, _) in causes.items() if moved.cause or not attributed)


def _reasons(causes: Mapping[Moved, tuple[int, int]], all_bytes: int) -> list[str]:
    reasons: Counter[str] = Counter()
    for moved, (size, _) in causes.items():
        if not moved.cause:
            reasons[moved.reason] += size
    told = [f"{reason} {percent(size, all_bytes)}" for reason, size in reasons.most_common()]
    return [f"Unattributed because: {', '.join(told)}. docs/causes.md says what each reason means."] if told else []
