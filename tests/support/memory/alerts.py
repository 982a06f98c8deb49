"""Alerts in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAlert:
    """Alert that was sent."""

    severity: str
    subject: str
    fields: Mapping[str, str | int]


class MemoryAlerts:
    """`Alerts` that stores each alert, in order of sending."""

    def __init__(self) -> None:
        self.sent: list[SentAlert] = []

    def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
        self.sent.append(SentAlert(severity=severity, subject=subject, fields=dict(fields)))
