"""Fixtures of tests over generated networks."""

from __future__ import annotations

from tests.support.emulated import ministack

__all__ = ["ministack"]
