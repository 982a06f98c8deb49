"""What tests over generated networks share."""

from __future__ import annotations

from tests.support.emulated import ministack

__all__ = ["ministack"]
