"""Widgets and metrics of dashboards: human-readable figures, graphs with alarm thresholds, and single numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from metering.metric_names import NAMESPACE
from metering.operations.alarms import ALARMS, WATCH_NAMESPACE, Figure
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.operations.alarms import AlarmSpec

PERIOD = Duration.minutes(5)
HEIGHT = 6
_PAGE_COLOUR = "#d13212"
_TICKET_COLOUR = "#ff9900"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Unit in which a dashboard shows a figure.

    Attributes:
        divisor: Number of the metric's own units in one unit on the dashboard.
    """

    name: str
    divisor: int


COUNT = Unit(name="", divisor=1)
MINUTES = Unit(name="minutes", divisor=MINUTE_S)
HOURS = Unit(name="hours", divisor=HOUR_S)


def figure(
    stage: str, which: Figure, label: str, *, unit: Unit = COUNT, region: str | None = None
) -> cloudwatch.IMetric:
    """A figure of the watch, converted to a unit."""
    metric = cloudwatch.Metric(
        namespace=WATCH_NAMESPACE,
        metric_name=which.value,
        dimensions_map={"Stage": stage},
        statistic="Maximum",
        period=PERIOD,
        label=label,
        region=region,
    )
    return metric if unit.divisor == 1 else scaled(metric, f"/{unit.divisor}", label, name=_id(which, region))


def scaled(metric: cloudwatch.Metric, by: str, label: str, *, name: str) -> cloudwatch.MathExpression:
    """A metric expression that applies a constant operation, such as `/60`."""
    return cloudwatch.MathExpression(expression=f"{name}{by}", using_metrics={name: metric}, label=label, period=PERIOD)


def counter(
    stage: str, name: str, label: str, *, region: str | None = None, service: str = "aggregator", statistic: str = "Sum"
) -> cloudwatch.Metric:
    """A function's counter, by default the aggregator's, as a sum per period."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"service": service, "stage": stage},
        statistic=statistic,
        period=PERIOD,
        label=label,
        region=region,
    )


def thresholds(*names: str, unit: Unit = COUNT) -> list[cloudwatch.HorizontalAnnotation]:
    """Horizontal lines at the thresholds of named alarms of the catalogue, in the graph's unit.

    Raises:
        KeyError: The catalogue has no alarm of this name.
    """
    specs = {spec.name: spec for spec in ALARMS}
    return [_line(specs[name], unit) for name in names]


def _line(spec: AlarmSpec, unit: Unit) -> cloudwatch.HorizontalAnnotation:
    page = spec.severity == "page"
    return cloudwatch.HorizontalAnnotation(
        value=spec.threshold / unit.divisor,
        label=f"{spec.name} ({spec.severity})",
        color=_PAGE_COLOUR if page else _TICKET_COLOUR,
    )


def limit(value: float, label: str) -> cloudwatch.HorizontalAnnotation:
    """A horizontal line at a limit that has no alarm."""
    return cloudwatch.HorizontalAnnotation(value=value, label=label, color=_PAGE_COLOUR)


def graph(
    title: str,
    left: Sequence[cloudwatch.IMetric],
    *,
    right: Sequence[cloudwatch.IMetric] = (),
    lines: Sequence[cloudwatch.HorizontalAnnotation] = (),
    axes: tuple[str, str] = ("", ""),
    width: int = 8,
    stacked: bool = False,
) -> cloudwatch.GraphWidget:
    """A graph over time whose vertical axes begin at zero. `axes` are the labels of the left and the right axis."""
    return cloudwatch.GraphWidget(
        title=title,
        width=width,
        height=HEIGHT,
        left=list(left),
        right=list(right),
        left_annotations=list(lines),
        left_y_axis=cloudwatch.YAxisProps(min=0, label=axes[0], show_units=False),
        right_y_axis=cloudwatch.YAxisProps(min=0, label=axes[1], show_units=False) if right else None,
        stacked=stacked,
    )


def number(title: str, metric: cloudwatch.IMetric) -> cloudwatch.SingleValueWidget:
    """A widget with the last value of a metric in large digits, above the metric's graph."""
    return cloudwatch.SingleValueWidget(title=title, metrics=[metric], width=4, height=4, sparkline=True)


def _id(which: Figure, region: str | None) -> str:
    """Id of a metric in an expression: CloudWatch requires a lower-case letter first."""
    return which.value[0].lower() + which.value[1:] + (region or "").replace("-", "")
