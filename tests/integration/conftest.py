"""The real adapters on MiniStack."""

from __future__ import annotations

from tests.emulated import clients, ministack

__all__ = ["clients", "ministack"]
