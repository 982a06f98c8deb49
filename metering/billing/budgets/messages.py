"""Alert messages about budgets and unusual days, each with the command that shows more."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing import money
from metering.billing.budgets import evaluation, open_months
from metering.errors import ConditionFailedError
from metering.hours import date_of
from metering.ledger.notes.money import ALERTS_PK, StoredAlert
from metering.stores.writes import Absent, Equals, ItemStore, Put, Table
from metering.units import DAY_S, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.budgets.budget import Threshold, Unit
    from metering.billing.causes.growth import Grown
    from metering.billing.day_sums.index import Reach
    from metering.stores.clock import Alerts, Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertBook:
    """The alerts in a region's ledger, and the SNS topics that receive the alerts.

    An alert is stored if absent, and marked as sent after SNS has accepted its message. If the process is killed before
    the mark, the message is sent again with the same id.
    """

    items: ItemStore
    alerts: Alerts
    clock: Clock

    def make(self, alert: StoredAlert) -> bool:
        """Store an alert unless one with its period and id exists; returns whether the alert is new."""
        # Only a new alert is written down, and a look is cheaper than a write whose condition fails.
        if self.items.get(Table.LEDGER, alert.key) is not None:
            return False
        try:
            self.items.put(Put(table=Table.LEDGER, item=alert.to_item(), condition=Absent()))
        except ConditionFailedError:
            return False
        return True

    def send(self, since_period: str) -> list[StoredAlert]:
        """Send the unsent alerts of a period and of later periods.

        Raises:
            UnavailableError: SNS gave no answer. The alert remains new, and the next run sends it.
        """
        sent = []
        for alert in self.known(since_period):
            if alert.state == "new":
                self.alerts.send(alert.severity, alert.subject, {"id": alert.id, **alert.fields})
                self._mark(alert)
                sent.append(alert)
        return sent

    def known(self, since_period: str) -> Iterator[StoredAlert]:
        """Alerts of a period (a month or a day) and of later periods, in order of period."""
        items = self.items.query(Table.LEDGER, ALERTS_PK, sk_from=since_period)
        return map(StoredAlert.from_item, list(items))

    def _mark(self, alert: StoredAlert) -> None:
        known = Equals(attribute="id", value=alert.id)
        self.items.put(Put(table=Table.LEDGER, item=alert.as_sent().to_item(), condition=known))


def alert_of(
    identity: tuple[str, ...], *, period: str, severity: str, subject: str, fields: Mapping[str, str], made_s: int
) -> StoredAlert:
    """A new alert, whose id is derived from its identity."""
    alert_id = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:24]
    return StoredAlert(id=alert_id, period=period, severity=severity, subject=subject, fields=fields, made_s=made_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Facts stated in every message of one run.

    Attributes:
        home: Home region, for commands about budgets.
        through_s: Time up to which the counts of all regions are complete; 0 if unknown.
        prices: Name and version of the price book; empty without a price book.
        left_out: Regions whose usage is missing.
    """

    stage: str
    home: str
    now_s: int
    through_s: int
    prices: str
    reach: Reach
    left_out: tuple[str, ...] = ()

    def fields(self) -> dict[str, str]:
        said = {
            "stage": self.stage,
            "as_of": open_months.moment(self.now_s),
            "complete_through": open_months.moment(self.through_s),
            "counted_through": open_months.moment(self.reach.through_s),
            "not_counted": "" if self.reach.left is None else self.reach.left.text,
            "prices": self.prices,
            "left_out": ", ".join(self.left_out),
        }
        return {name: text for name, text in said.items() if text}


def amount_text(value: int, unit: Unit) -> str:
    """An amount for people: USD with ten decimals, or bytes as an exact number and with a unit."""
    if unit == "bytes":
        return exact_and_size(value)
    return f"{money.usd_text(money.rounded(value))} USD"


def budget_alert(standing: evaluation.Standing, threshold: Threshold, setting: Setting) -> StoredAlert:
    """The alert of a crossed threshold. If the amount or scope of a budget changes, it raises new alerts."""
    budget, period = standing.budget, standing.period
    scope = str(budget.scope)
    fields = {
        "budget": budget.name,
        "scope": scope,
        "period": period.name,
        "threshold": threshold.text,
        "amount": budget.amount.text,
        "actual": amount_text(standing.actual or 0, budget.amount.unit),
        **_forecast_fields(standing, threshold),
        **setting.fields(),
        "look": f"metering budget check {budget.name} --stage {setting.stage} --region {setting.home}",
    }
    if budget.amount.unit == "USD":
        fields["actual_exact"] = money.exact_text(standing.actual or 0)
    return alert_of(
        ("budget", budget.name, scope, budget.amount.text, period.name, threshold.text),
        period=period.name,
        severity=budget.severity,
        subject=f"budget {budget.name}: {threshold.text} of {budget.amount.text} in {period.name}",
        fields=fields,
        made_s=setting.now_s,
    )


def _forecast_fields(standing: evaluation.Standing, threshold: Threshold) -> dict[str, str]:
    if threshold.measure != "forecast" or standing.forecast is None:
        return {}
    forecast, unit = standing.forecast, standing.budget.amount.unit
    return {
        "forecast": amount_text(forecast.value, unit),
        "forecast_10_90_percent": f"{amount_text(forecast.low, unit)} to {amount_text(forecast.high, unit)}",
        "forecast_by": f"{forecast.method.value}, {forecast.history_days} days",
    }


def anomaly_alert(anomaly: evaluation.Anomaly, setting: Setting, causes: Sequence[Grown] = ()) -> StoredAlert:
    """The message about an unusual day of a series, with the causes that grew most since the week before."""
    day, next_day = date_of(anomaly.day_s), date_of(anomaly.day_s + DAY_S)
    account_id, usage_type = anomaly.series
    place = f"--stage {setting.stage} --region {anomaly.region}"
    return alert_of(
        ("anomaly", anomaly.region, day, account_id, usage_type),
        period=day,
        severity="ticket",
        subject=f"unusual usage: account {account_id}, {usage_type} on {day}",
        fields={
            "region": anomaly.region,
            "day": day,
            "account": account_id,
            "usage_type": usage_type,
            "service": anomaly.kind.service,
            "from": anomaly.kind.from_location,
            "to": anomaly.kind.to_location,
            "bytes": exact_and_size(anomaly.bytes),
            "usual": f"{exact_and_size(anomaly.expected)} (median of the same day of {anomaly.weeks} weeks)",
            "above_at_list_price": amount_text(anomaly.excess, "USD"),
            **_causes(causes, f"--account {account_id} --usage-type {usage_type} --from {day} --to {next_day} {place}"),
            **setting.fields(),
            "look": f'metering query --from {day} --to {next_day} {place} "{evaluation.query_of(anomaly)}"',
        },
        made_s=setting.now_s,
    )


def _causes(causes: Sequence[Grown], asked: str) -> dict[str, str]:
    if not causes:
        return {}
    grown = [
        f"{whose.owner or 'nobody known'}: {whose.workload} to {whose.destination or 'an unknown destination'} "
        f"{exact_and_size(more)} more"
        for whose, more in causes
    ]
    return {
        "causes": f"since the week before, {'; '.join(grown)}",
        "who": f"metering who --group-by owner,workload,destination {asked}",
    }


def more_anomalies_alert(region: str, day_s: int, count: int, setting: Setting) -> StoredAlert:
    """One message about all unusual series of a day that exceed `MOST_MESSAGES`."""
    day = date_of(day_s)
    return alert_of(
        ("anomalies", region, day),
        period=day,
        severity="ticket",
        subject=f"unusual usage: {count} more accounts and usage types on {day}",
        fields={
            "region": region,
            "day": day,
            "count": str(count),
            **setting.fields(),
            "look": f"metering anomalies --day {day} --stage {setting.stage} --region {region}",
        },
        made_s=setting.now_s,
    )
