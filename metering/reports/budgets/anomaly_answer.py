"""The answer about unusual days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.budgets.anomalies import LEAST_WEEKS, query_of
from metering.billing.money import rounded, usd_text
from metering.hours import date_of
from metering.reports.answer import KEEP, ROOMY, Answer, Column
from metering.reports.budgets.reach import reach_document, reach_lines
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.budgets.anomalies import Anomaly
    from metering.billing.day_sums.uncounted import Reach

_COLUMNS = (
    Column(name="region", text="copied"),
    Column(name="day", text="copied", priority=KEEP),
    Column(name="account_id", text="copied", priority=KEEP),
    Column(name="usage_type", text="copied", priority=KEEP),
    Column(name="service"),
    Column(name="from", text="copied", priority=ROOMY),
    Column(name="to", text="copied", priority=ROOMY),
    Column(name="bytes", kind="bytes", priority=KEEP),
    Column(name="usual_bytes", kind="bytes", title="usual"),
    Column(name="above_usd", text="number", title="above, USD at list price"),
    Column(name="weeks", kind="integer", priority=ROOMY),
)


def anomalies_answer(found: Sequence[Anomaly], *, stage: str, days: Sequence[int], book: str, reach: Reach) -> Answer:
    """Unusual days of series, the dearest first, with what to type to see whose resources they are of."""
    return Answer(
        columns=_COLUMNS,
        rows=[
            {
                "region": each.region,
                "day": date_of(each.day_s),
                "account_id": each.series.account_id,
                "usage_type": each.series.usage_type,
                "service": each.kind.service,
                "from": each.kind.from_location,
                "to": each.kind.to_location,
                "bytes": each.bytes,
                "usual_bytes": each.expected,
                "above_usd": usd_text(rounded(each.excess)),
                "weeks": each.weeks,
            }
            for each in found
        ],
        meta={"days": [date_of(day_s) for day_s in days], "prices": book, **reach_document(reach)},
        title="Unusual days",
        empty="Nothing unusual.",
        footer=(
            f"A day is compared with the same day of up to eight weeks before; of fewer than {LEAST_WEEKS} weeks "
            "nothing is said.",
            *reach_lines(reach),
        ),
        commands=tuple(_look(each, stage) for each in found[:3]),
    )


def _look(anomaly: Anomaly, stage: str) -> str:
    day, after = date_of(anomaly.day_s), date_of(anomaly.day_s + DAY_S)
    place = f"--region {anomaly.region} --stage {stage}"
    return f'metering query --from {day} --to {after} {place} "{query_of(anomaly)}"'
